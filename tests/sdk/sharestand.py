"""What stands in for CUDA's shared memory in tests of `warmd.gpu.share`: memory files, seen through /proc.

As in CUDA it is the holder's, and cannot be opened after its end.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

PLACE = "GPU-stand-in"


class Held:
    """The holder's half; `argument`: how many bytes there are."""

    def __init__(self, argument: str) -> None:
        self._free = int(argument)

    def allocate(self, size_bytes: int) -> str:
        if size_bytes > self._free:
            raise RuntimeError(f"cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY, {self._free} are free")
        self._free -= size_bytes
        fd = os.memfd_create("held")
        os.ftruncate(fd, size_bytes)
        return f"/proc/{os.getpid()}/fd/{fd}"


class Mapped:
    """The users' half."""

    file = __file__

    def __init__(self, linger_seconds: float = 0.3, room_bytes: int = 2**30) -> None:
        self.linger_seconds = linger_seconds
        self.argument = str(room_bytes)
        self.closed = 0

    def place(self, device: Any) -> tuple[str, Any]:
        return str(device or PLACE), "cpu"

    def open(self, handle: str, size_bytes: int, _place: Any) -> Any:
        import torch

        fd = os.open(handle, os.O_RDWR)
        try:
            mapped = mmap.mmap(fd, size_bytes)
        finally:
            os.close(fd)
        return torch.frombuffer(mapped, dtype=torch.uint8)

    def close(self, _tensor: Any) -> None:
        self.closed += 1

    def release(self) -> None: ...

    def wait(self, _place: Any) -> None: ...
