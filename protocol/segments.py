"""Memory that its owner fills and lends: another process maps it, and says when it is done with it.

A segment is a memfd, so it has no name, no file, and is gone with the last process that has it,
however they end.  It is sealed: it cannot shrink (a reader would die of SIGBUS), and nobody but its
owner, who mapped it before, can write to it.

Fresh pages cost many times what copying into old ones costs.  So a segment that is handed back is
filled again, and let go only when it was not needed for `KEPT_SECONDS`.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from warmd.protocol.messages import Lent
from warmd.protocol.parcels import Leaves

KEPT_SECONDS = 10.0
MOST_SEGMENTS = 32
"""Each takes two descriptors here, and one of the daemon's while it is lent."""
LEAST_BYTES = 1 << 20
MOST_WASTE = 4
"""So many times the memory that is needed may be lent: whoever keeps it keeps all of it."""
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | 0x10  # F_SEAL_FUTURE_WRITE, which `fcntl` lacks


@dataclass(slots=True, eq=False)
class Segment:
    """One memfd, mapped for writing."""

    number: int
    fd: int
    memory: mmap.mmap
    touched: int = 0
    """Bytes that have been written, and so are there."""
    lent: bool = False
    since: float = 0.0
    """When it was handed back."""

    def close(self) -> None:
        """Give it up; who has mapped it keeps it."""
        os.close(self.fd)
        with contextlib.suppress(BufferError):
            # Not while the traceback of an interruption has a view of it: then it goes with that.
            self.memory.close()


class Pool:
    """The segments of one owner, who lends at most `limit_bytes` at one time.  Not thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._segments: dict[int, Segment] = {}
        self._last_number = 0
        self._unsettled: Segment | None = None
        self._filling = 0
        """A signal handler may lend in the midst of that."""
        _pools.add(self)

    def lend(self, leaves: Leaves) -> tuple[Lent, int] | None:
        """A segment that holds them, and its descriptor, which stays the pool's.

        None when there is no room for it: over the limit, or no memory or descriptors to be had.
        """
        size = len(leaves)
        if self._unsettled is not None and not self._filling:
            self._let_go(self._unsettled)
        try:
            segment = self._free(size) or self._new(size)
        except OSError:
            segment = None
        if segment is None:
            return None
        segment.touched = max(segment.touched, size)
        # Before it is filled: a finalizer that runs meanwhile may have others handed back, and let go.
        segment.lent, self._unsettled = True, segment
        self._filling += 1
        try:
            leaves.copy_into(memoryview(segment.memory)[:size])
        except BaseException:
            segment.lent, segment.since, self._unsettled = False, time.monotonic(), None
            raise
        finally:
            self._filling -= 1
        return Lent(segment.number, size), segment.fd

    def settled(self) -> None:
        """The message that names what was lent last is made: from now on its call answers for it.

        Before, an interruption would leave it lent for ever: the next that is lent finds it unsettled.
        """
        self._unsettled = None

    def handed_back(self, numbers: Sequence[int], left: Sequence[int] = ()) -> None:
        """Nobody reads these any more, but perhaps those that are `left`, which are let go for that.

        A number that is none, or not lent, says nothing.
        """
        now = time.monotonic()
        for number in left:
            segment = self._segments.get(number)
            if segment is not None and segment.lent:
                self._let_go(segment)
        for number in numbers:
            segment = self._segments.get(number)
            if segment is not None and segment.lent:
                segment.lent, segment.since = False, now
                if segment is self._unsettled:
                    self._unsettled = None
        self.trim(now)

    @property
    def holds_memory(self) -> bool:
        return bool(self._segments)

    def trim(self, now: float) -> float | None:
        """Let go what was not needed for `KEPT_SECONDS`; when to do so again, None for never."""
        free = [segment for segment in self._segments.values() if not segment.lent]
        for segment in free:
            if segment.since + KEPT_SECONDS <= now:
                self._drop(segment)
        return min((s.since + KEPT_SECONDS for s in free if s.number in self._segments), default=None)

    def close(self) -> None:
        for segment in tuple(self._segments.values()):
            self._drop(segment)

    def _free(self, size: int) -> Segment | None:
        """Of those that are large enough, and not much too large, the one of which most is there."""
        room = self.limit_bytes - self._held_bytes()
        most = max(MOST_WASTE * size, LEAST_BYTES)
        fits = [
            segment
            for segment in self._segments.values()
            if not segment.lent
            and len(segment.memory) >= size
            and size - segment.touched <= room
            and segment.touched <= most
        ]
        return max(fits, key=lambda segment: (min(segment.touched, size), -segment.touched), default=None)

    def _new(self, size: int) -> Segment | None:
        """Raises OSError."""
        if not self._make_room(size):
            return None
        # Its pages are there when they are written to: the rest of a power of two costs nothing.
        capacity = 1 << (max(size, LEAST_BYTES) - 1).bit_length()
        fd = os.memfd_create("warmd-lent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        if leaves_few(fd):
            os.close(fd)
            return None
        try:
            os.ftruncate(fd, capacity)
            memory = mmap.mmap(fd, capacity)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        except (OSError, ValueError) as error:
            os.close(fd)
            raise OSError(str(error)) from error
        self._last_number += 1
        segment = self._segments[self._last_number] = Segment(self._last_number, fd, memory)
        return segment

    def _make_room(self, size: int) -> bool:
        free = sorted((s for s in self._segments.values() if not s.lent), key=lambda segment: segment.since)
        for segment in free:
            if self._fits(size):
                break
            self._drop(segment)
        return self._fits(size)

    def _fits(self, size: int) -> bool:
        return self._held_bytes() + size <= self.limit_bytes and len(self._segments) < MOST_SEGMENTS

    def _held_bytes(self) -> int:
        return sum(segment.touched for segment in self._segments.values())

    def _let_go(self, segment: Segment) -> None:
        """Perhaps somebody reads it, or will."""
        self._unsettled = None
        if segment.number in self._segments:
            self._drop(segment)

    def _drop(self, segment: Segment) -> None:
        del self._segments[segment.number]
        segment.close()


def leaves_few(fd: int) -> bool:
    """Whether this process has few descriptors left besides this one, which was the lowest that was free."""
    return fd >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forget_in_child() -> None:
    """What the parent lends is not the child's to keep: a descriptor alone holds the memory."""
    for pool in list(_pools):
        for segment in pool._segments.values():
            os.close(segment.fd)
        pool._segments.clear()


os.register_at_fork(after_in_child=_forget_in_child)
