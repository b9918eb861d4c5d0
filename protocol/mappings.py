"""Memory that others lend: mapped here, and handed back when the last view of it is gone.

What is mapped is private: whoever has an array in it may write to it and writes to a copy of that
page, which the owner never sees.  The mapping itself is kept, for building one costs about as much
as copying all of it, and the owner fills the same memory again and again.  Before it is kept, pages
that were written to are thrown away; the kernel says whether there are any (`pagemap`).

A mapping takes a descriptor, and counts as data of this process (RLIMIT_DATA).  Where there are few left
of the one the region is copied; where the other is limited little is kept.

A fork has these mappings too, and may read them for longer than this process.  So what was lent before
one is not given back to be filled again, only left.
"""

from __future__ import annotations

import errno
import mmap
import os
import resource
import time
import weakref
from collections.abc import Callable
from typing import Any

from warmd.protocol.messages import Lent
from warmd.protocol.pagemap import was_written
from warmd.protocol.segments import leaves_few

KEPT_SECONDS = 10.0
MOST_KEPT = 16
KEPT_SHARE = 8
"""What is kept is at most this part of the data that the process may have."""
_MAP_NORESERVE = 0x4000  # which `mmap` lacks before Python 3.14


class _Claim:
    """One lent region: whoever refers to this may still read it."""

    __slots__ = ("_forks", "_handed_back", "_number")

    def __init__(self, number: int, handed_back: Callable[[int, bool], object]) -> None:
        self._number = number
        self._handed_back = handed_back
        self._forks = _forks

    def __del__(self) -> None:
        self._handed_back(self._number, self._forks != _forks)


class _Mapping:
    """One segment, as it is mapped here."""

    __slots__ = ("key", "memory", "since", "used_bytes")

    def __init__(self, key: tuple[int, int], memory: mmap.mmap) -> None:
        self.key = key
        self.memory = memory
        self.since = 0.0
        """When its last view was gone."""
        self.used_bytes = 0

    def forget_writes(self) -> None:
        """Have all pages be the file's again."""
        if self.used_bytes and was_written(self.memory, self.used_bytes):
            self.memory.madvise(mmap.MADV_DONTNEED)


class Borrowed:
    """A region in somebody's segment, handed back when this is closed, or gone, and each view of it too.

    `fd` is -1 where the kernel had none left to receive it.
    """

    __slots__ = ("__weakref__", "_claim", "_fd", "_mappings", "_size")

    def __init__(self, mappings: Mappings, lent: Lent, fd: int) -> None:
        self._size = lent.size
        self._mappings = mappings
        self._fd = fd
        self._claim: _Claim | None = _Claim(lent.number, mappings.handed_back)

    def __len__(self) -> int:
        return self._size

    def view(self) -> memoryview:
        """Its bytes, mapped; writable, and nobody else sees what is written: no other view either.

        Raises OSError and MemoryError when it cannot be mapped.
        """
        assert self._claim is not None, "it is closed"
        if self._fd < 0:
            raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)}, so a large value did not come")
        return self._mappings._map(self._fd, self._size, self._claim)

    def close(self) -> None:
        """No more views will be taken."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._claim = None

    def __del__(self) -> None:
        self.close()


class Mappings:
    """What one receiver has mapped.  `handed_back(number, left)` is called from finalizers: in any thread,
    at any time; `left` where a fork may go on reading it."""

    def __init__(self, handed_back: Callable[[int, bool], object]) -> None:
        self.handed_back = handed_back
        self._kept: dict[tuple[int, int], _Mapping] = {}
        self._closed = False
        _all.add(self)

    @property
    def holds_memory(self) -> bool:
        """Whether anything is kept that nobody reads."""
        return bool(self._kept)

    def trim(self, now: float) -> float | None:
        """Let go what was not needed for `KEPT_SECONDS`; when to do so again, None for never."""
        for mapping in list(self._kept.values()):
            if mapping.since + KEPT_SECONDS <= now:
                self._kept.pop(mapping.key, None)
        return min((mapping.since + KEPT_SECONDS for mapping in list(self._kept.values())), default=None)

    def close(self) -> None:
        """Keep nothing any more; what is in use stays for as long as that."""
        self._closed = True
        self._kept.clear()

    def _map(self, fd: int, size: int, claim: _Claim) -> memoryview:
        """Raises OSError and MemoryError."""
        mapping = self._mapping(fd, size)
        if mapping is None:
            return memoryview(_copied(fd, size))
        mapping.used_bytes = size
        room = _room(mapping.memory, size)
        weakref.finalize(room, self._returned, mapping, claim).atexit = False
        return memoryview(room).cast("B")

    def _mapping(self, fd: int, size: int) -> _Mapping | None:
        """None where there are few descriptors left.  Raises OSError and MemoryError."""
        status = os.fstat(fd)
        key = (status.st_dev, status.st_ino)
        # Taken out while it is in use: two views of one segment must not see each other's writes.
        mapping = self._kept.pop(key, None)
        if mapping is not None and len(mapping.memory) >= size:
            return mapping
        try:
            return None if _would_leave_few(fd) else _Mapping(key, _mapped(fd, size))
        except OSError as error:
            if error.errno == errno.EMFILE:
                return None
            if error.errno == errno.ENOMEM:
                raise MemoryError from None
            raise

    def _returned(self, mapping: _Mapping, _claim: _Claim) -> None:
        mapping.since = time.monotonic()
        if self._may_keep(mapping):
            # Here, when the value is done with, and not when the next one is waited for.
            mapping.forget_writes()
            self._kept[mapping.key] = mapping

    def _may_keep(self, mapping: _Mapping) -> bool:
        if self._closed or len(self._kept) >= MOST_KEPT:
            return False
        most = resource.getrlimit(resource.RLIMIT_DATA)[0]
        kept = sum(len(other.memory) for other in list(self._kept.values()))
        return most == resource.RLIM_INFINITY or kept + len(mapping.memory) <= most // KEPT_SHARE


def _would_leave_few(fd: int) -> bool:
    """Whether few descriptors are left when a mapping has taken its own.  Raises OSError."""
    next_one = os.dup(fd)
    os.close(next_one)
    return leaves_few(next_one)


def _copied(fd: int, size: int) -> bytearray:
    data = bytearray(size)
    room = memoryview(data)
    while room and (count := os.preadv(fd, [room], size - len(room))):
        room = room[count:]
    return data


def _mapped(fd: int, size: int) -> mmap.mmap:
    return mmap.mmap(fd, size, mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE)


def _room(memory: mmap.mmap, size: int) -> Any:
    """An object of that memory which knows when its last view is gone, as a memoryview does not."""
    import ctypes  # 5 ms, for those who have large data

    return (ctypes.c_ubyte * size).from_buffer(memory)


_forks = 0
"""How often this process was forked."""
_all: weakref.WeakSet[Mappings] = weakref.WeakSet()


def _count_fork() -> None:
    global _forks
    _forks += 1


def _forget_in_child() -> None:
    """What nobody uses is not kept here: nobody would let it go."""
    for mappings in list(_all):
        mappings.close()


# Counted twice: other threads may be lent more between the first and the fork.
os.register_at_fork(before=_count_fork, after_in_parent=_count_fork, after_in_child=_forget_in_child)
