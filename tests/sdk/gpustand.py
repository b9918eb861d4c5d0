"""What stands in for a GPU in tests of `warmd.gpu`: host memory, which counts and fails when told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from warmd import gpumemory
from warmd.gpu import Offload
from warmd.gpumemory import Cuda

torch: Any = pytest.importorskip("torch")
MIB = 2**20


class Stand(Cuda):
    """A GPU for tests: counts what is asked of it, and fails when told."""

    def __init__(self, room_bytes: int = 2**62) -> None:
        self.out_bytes = self.back_bytes = self.pinned_bytes = 0
        self.released = self.unpinned = 0
        self.room_bytes = room_bytes
        """What may be pinned."""
        self.fails_after: int | None = None
        """So many storages get memory, and then none."""
        self.fails_copy = False

    def moves(self, tensor: Any) -> bool:
        return str(tensor.device) == "cpu"

    def pinned_empty(self, size_bytes: int) -> Any:
        if self.pinned_bytes + size_bytes > self.room_bytes:
            raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")
        self.pinned_bytes += size_bytes
        return torch.full((size_bytes,), 0xA5, dtype=torch.uint8)

    def resize(self, storage: Any, size_bytes: int) -> None:
        if size_bytes and self.fails_after is not None:
            if not self.fails_after:
                raise torch.OutOfMemoryError("tried to allocate")
            self.fails_after -= 1
        super().resize(storage, size_bytes)
        if size_bytes:
            gpumemory.as_bytes(storage).fill_(0x5A)

    def copy_out(self, host: Sequence[Any], storage: Any) -> None:
        if self.fails_copy:
            raise RuntimeError("an error of CUDA")
        self.out_bytes += storage.nbytes()
        super().copy_out(host, storage)

    def copy_back(self, host: Sequence[Any], storage: Any) -> None:
        if self.fails_copy:
            raise RuntimeError("an error of CUDA")
        self.back_bytes += storage.nbytes()
        super().copy_back(host, storage)

    def wait(self, storages: Any) -> None: ...

    def release(self) -> None:
        self.released += 1

    def unpin(self) -> None:
        self.unpinned += 1


def kept(stand: Stand, *weights: Any, **options: Any) -> Offload:
    return Offload(weights, cuda=stand, **options)


def frozen(tensors: Sequence[Any]) -> list[Any]:
    return [(one, one.detach().clone(), one.stride(), one.storage_offset()) for one in tensors]


def assert_same(before: list[Any]) -> None:
    for tensor, copy, stride, offset in before:
        assert torch.equal(tensor.detach().view(torch.uint8), copy.view(torch.uint8))
        assert (tensor.stride(), tensor.storage_offset()) == (stride, offset)


def size_of(tensor: Any) -> int:
    return int(tensor.untyped_storage().nbytes())
