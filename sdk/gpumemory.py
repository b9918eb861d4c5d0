"""What `warmd.gpu` does on a GPU, and the host memory that it copies to.

All that touches a device goes through `Cuda`, so that tests need none.

torch rounds each piece of pinned memory up to the next power of two, which for a model can be nearly twice
as much.  So what is pinned is a few pieces, each of which is such a power, and tensors lie anywhere in them,
also across their borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A `torch.Tensor`; torch is imported only when there is one."""
Storage: TypeAlias = Any
"""A `torch.UntypedStorage`: the memory that a tensor, and all that shares it, looks into."""

LARGEST_PIECE_BYTES = 2**30
SMALLEST_PIECE_BYTES = 2**20
ALIGNED_BYTES = 512
_MIB = 2**20
_ROW_WORDS = 4096
_GOLDEN = -0x61C8864680B583EB
"""Spreads consecutive numbers over 64 bits."""


class CannotPin(RuntimeError):
    """There is not as much host memory that can be pinned as weights are to be kept in."""

    __module__ = "warmd.gpu"


class Cuda:
    """The GPUs of this process, through torch."""

    def moves(self, tensor: Tensor) -> bool:
        """Whether the tensor is in GPU memory."""
        return bool(tensor.is_cuda)

    def pinned_empty(self, size_bytes: int) -> Tensor:
        import torch

        return torch.empty(size_bytes, dtype=torch.uint8, device="cpu", pin_memory=True)

    def resize(self, storage: Storage, size_bytes: int) -> None:
        """Frees a storage's memory, or gets new.  Raises torch.OutOfMemoryError, with nothing changed."""
        storage.resize_(size_bytes)

    def copy_out(self, host: Sequence[Tensor], storage: Storage) -> None:
        """Begins to copy a storage into the pieces of host memory."""
        for piece, part in _pairs(host, storage):
            piece.copy_(part, non_blocking=True)

    def copy_back(self, host: Sequence[Tensor], storage: Storage) -> None:
        for piece, part in _pairs(host, storage):
            part.copy_(piece, non_blocking=True)

    def wait(self, storages: Iterable[Storage]) -> None:
        """Waits until all is done on the devices that these are on, whatever stream it is in."""
        import torch

        for device in {storage.device for storage in storages}:
            torch.cuda.synchronize(device)

    def sums(self, storages: Sequence[Storage]) -> list[tuple[int, ...]]:
        """Two numbers of each, of all its bytes and their places: others where it has changed.

        Reading 8 GiB takes a GPU some milliseconds, and copying them a hundred times as long.
        """
        import torch

        found: list[tuple[int, ...]] = [()] * len(storages)
        for device in {storage.device for storage in storages}:
            here = [place for place, storage in enumerate(storages) if storage.device == device]
            both = torch.stack([_sums_of(storages[place]) for place in here]).tolist()
            for place, sums in zip(here, both, strict=True):
                found[place] = tuple(sums)
        return found

    def release(self) -> None:
        """Gives freed GPU memory, which torch would keep for later, back to the driver."""
        import torch

        torch.cuda.empty_cache()

    def unpin(self) -> None:
        """Gives freed host memory, which torch would keep pinned for later, back to the system."""
        import torch

        empty = getattr(torch._C, "_host_emptyCache", None)  # not in all releases
        if empty is not None:
            empty()


class HostMemory:
    """Pinned memory for what is copied out; it grows only."""

    def __init__(self, cuda: Cuda) -> None:
        self.total_bytes = 0
        self._cuda = cuda
        self._free: list[Tensor] = []

    def grow_to_take(self, sizes: Sequence[int]) -> None:
        """Have room to `take` all of these.  Raises CannotPin, with nothing changed."""
        free_bytes = sum(piece.numel() for piece in self._free)
        missing_bytes = sum(map(_aligned, sizes)) - free_bytes
        pieces: list[Tensor] = []
        try:
            pieces += [self._cuda.pinned_empty(size) for size in _powers(missing_bytes)]
        except (RuntimeError, MemoryError) as error:
            told = str(error).partition("\n")[0]
        else:
            self._free += pieces
            self.total_bytes += sum(piece.numel() for piece in pieces)
            return
        pieces.clear()
        self._cuda.unpin()
        raise CannotPin(
            f"{missing_bytes / _MIB:.0f} MiB of host memory could not be pinned for weights to be kept in "
            f"({told}): offload less, or give the machine, its container or its cgroup more memory"
        )

    def take(self, size_bytes: int) -> list[Tensor]:
        """Pieces that are together as large, or a little larger."""
        missing_bytes, pieces = _aligned(size_bytes), []
        while missing_bytes:
            piece = self._free.pop()
            if piece.numel() > missing_bytes:
                self._free.append(piece[missing_bytes:])
                piece = piece[:missing_bytes]
            pieces.append(piece)
            missing_bytes -= piece.numel()
        return pieces

    def give(self, pieces: Sequence[Tensor]) -> None:
        """These are free again."""
        self._free += pieces

    def clear(self) -> None:
        """Needs none any more; torch has it for what is pinned next."""
        self._free.clear()
        self.total_bytes = 0


def as_bytes(storage: Storage) -> Tensor:
    """A tensor of the bytes of a storage.  What writes to it changes no other tensor's `_version`."""
    import torch

    size = storage.nbytes()
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, 0, (size,), (1,))


def _pairs(host: Sequence[Tensor], storage: Storage) -> Iterator[tuple[Tensor, Tensor]]:
    """Each piece of host memory, and the part of the storage that it is for."""
    whole, begin = as_bytes(storage), 0
    for piece in host:
        part = whole[begin : begin + piece.numel()]
        yield piece[: part.numel()], part
        begin += part.numel()


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNED_BYTES) * ALIGNED_BYTES


def _powers(size_bytes: int) -> list[int]:
    """Powers of two that are together as large, or a little larger; none of a size below 1."""
    left = -(-max(0, size_bytes) // SMALLEST_PIECE_BYTES) * SMALLEST_PIECE_BYTES
    sizes = [LARGEST_PIECE_BYTES] * (left // LARGEST_PIECE_BYTES)
    left %= LARGEST_PIECE_BYTES
    return sizes + [1 << bit for bit in reversed(range(left.bit_length())) if left >> bit & 1]


def _sums_of(storage: Storage) -> Tensor:
    """Of 8-byte words in rows: the sums of the columns, and those of the rows, each by its place."""
    import torch

    flat = as_bytes(storage)
    words = flat[: flat.numel() // 8 * 8].view(torch.int64)
    rest = flat[words.numel() * 8 :].sum(dtype=torch.int64)
    rows = words.numel() // _ROW_WORDS
    table, end = words[: rows * _ROW_WORDS].view(rows, _ROW_WORDS), words[rows * _ROW_WORDS :]
    columns = _by_place(table.sum(0)) + rest
    return torch.stack([columns, _by_place(table.sum(1)) + _by_place(end)])


def _by_place(numbers: Tensor) -> Tensor:
    """Their sum, each times a number of its place; it wraps."""
    import torch

    factors = torch.arange(1, numbers.numel() + 1, device=numbers.device) * _GOLDEN
    factors ^= factors >> 29
    factors |= 1
    return (numbers * factors).sum()
