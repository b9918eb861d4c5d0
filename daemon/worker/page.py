"""The control page: 4 KiB of memory that the daemon and one worker share, and the two signals.

The link carries messages in order; the page carries what must not wait in a queue.  Each side
writes only its own fields, each of them 8 bytes, aligned and stored at once, so no field is ever
seen half-written (`struct` would clear it first and then write it byte by byte):

    worker   entered (ordinal), lines_dropped
    daemon   cancel (ordinal), interrupt (ordinal), withdrawn (a ring of ordinals)

A cancel or an interrupt names the call that it means.  The worker compares that with the call that
it runs, so one that comes late spares the next call.  `entered` is the last call that the worker
has turned to; it is written before the worker looks whether that call is withdrawn, on which the
proof in `daemon.core.ahead` rests.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal

PAGE_BYTES = 4096
MAX_WITHDRAWN = 64
"""Calls that can be withdrawn at one time; no more than these may be sent ahead."""
INTERRUPT_SIGNAL: int = signal.SIGRTMIN + 3
"""Tells the worker to look at `cancel` and `interrupt`."""
STACK_SIGNAL: int = signal.SIGRTMIN + 4
"""Makes the worker's main thread write its stack to the stack memfd, between two bytecodes."""
C_STACK_SIGNAL: int = signal.SIGRTMIN + 5
"""The same while C code runs (`worker.stack`)."""

_MAGIC = 0x31_44_4D_52_41_57  # "WARMD1", little-endian
# Each field's place, counted in words of 8 bytes.  The two writers' are in cache lines of their own.
_MAGIC_AT = 0
_ENTERED = 8
_CANCEL = 16
_INTERRUPT = 17
_LINES_DROPPED = 24
_WITHDRAWN = 32


class ControlPage:
    """One side's view of the page.  `fd` is the memfd, owned by this object until `close`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map = mmap.mmap(fd, PAGE_BYTES)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls) -> ControlPage:
        """A new page whose size can never change again.  Raises OSError."""
        fd = os.memfd_create("warmd-page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, PAGE_BYTES)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            page = cls(fd)
        except BaseException:
            os.close(fd)
            raise
        page._words[_MAGIC_AT] = _MAGIC
        return page

    @classmethod
    def attach(cls, fd: int) -> ControlPage:
        """The page behind a received descriptor.  Raises ValueError when it is none."""
        size = os.fstat(fd).st_size
        if size != PAGE_BYTES:
            raise ValueError(f"the control page has {size} bytes, expected {PAGE_BYTES}")
        page = cls(fd)
        if page._words[_MAGIC_AT] != _MAGIC:
            raise ValueError("the control page is of another version of warmd")
        return page

    def close(self) -> None:
        self._words.release()
        self._map.close()
        os.close(self.fd)

    # Written by the worker.

    def enter(self, ordinal: int) -> None:
        """The worker turns to this call."""
        self._words[_ENTERED] = ordinal

    def add_lines_dropped(self, count: int) -> None:
        self._words[_LINES_DROPPED] += count

    # Written by the daemon.

    def request_cancel(self, ordinal: int) -> None:
        self._words[_CANCEL] = ordinal

    def request_interrupt(self, ordinal: int) -> None:
        self._words[_INTERRUPT] = ordinal

    def withdraw(self, ordinal: int) -> None:
        self._words[_WITHDRAWN + ordinal % MAX_WITHDRAWN] = ordinal

    # Read by both.

    def is_withdrawn(self, ordinal: int) -> bool:
        return self._words[_WITHDRAWN + ordinal % MAX_WITHDRAWN] == ordinal

    @property
    def entered(self) -> int:
        """The last call that the worker has turned to."""
        return self._words[_ENTERED]

    @property
    def cancel(self) -> int:
        return self._words[_CANCEL]

    @property
    def interrupt(self) -> int:
        return self._words[_INTERRUPT]

    def asked(self) -> tuple[int, int]:
        """The ordinals that the daemon wants cancelled and interrupted."""
        return self._words[_CANCEL], self._words[_INTERRUPT]

    @property
    def lines_dropped(self) -> int:
        """Lines of output that the log could not take (a full disk)."""
        return self._words[_LINES_DROPPED]


def create_stack_file() -> int:
    """A memfd for stacks, written at its end by faulthandler: a truncation empties it."""
    fd = os.memfd_create("warmd-stack", os.MFD_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND | os.O_RDWR)
    return fd
