"""One descriptor that becomes readable when a watched file has grown: inotify, slowed down.

A worker may print a hundred thousand lines a second, and an event for each would keep the daemon
busy.  So a watch fires once (`IN_ONESHOT`); the owner then looks at the file itself on the ticks
of a timer until it is quiet, and only then sets the watch again, as network drivers do under load.
Both the inotify instance and the timer hide behind one epoll descriptor, which the daemon's loop
watches level-triggered; an idle machine costs nothing.

Python 3.11 has neither inotify nor timerfd, hence ctypes.  Elsewhere than on Linux
`GrowthWatch.open()` returns None.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
from typing import Any

TICK_SECONDS = 0.03
"""How often a busy file is looked at, and so the delay of a live line that follows another."""

_IN_MODIFY = 0x2
_IN_IGNORED = 0x8000
_IN_Q_OVERFLOW = 0x4000
_IN_ONESHOT = 0x80000000
_EVENT = struct.Struct("iIII")
_CLOCK_MONOTONIC = 1


class GrowthWatch:
    """Watches files for growth; `fd` is what the loop polls."""

    def __init__(self, libc: Any) -> None:
        self._libc = libc
        self._inotify = self._called("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._timer = self._called("timerfd_create", _CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            os.close(self._inotify)
            raise
        self._epoll = select.epoll()
        self._epoll.register(self._inotify, select.EPOLLIN)
        self._epoll.register(self._timer, select.EPOLLIN)
        self._ticking = False

    @staticmethod
    def open() -> GrowthWatch | None:
        """A watch, or None where the system has none to give (not Linux, no instances left)."""
        if not sys.platform.startswith("linux"):
            return None
        try:
            return GrowthWatch(ctypes.CDLL(None, use_errno=True))
        except (OSError, AttributeError):
            return None

    @property
    def fd(self) -> int:
        return self._epoll.fileno()

    def add(self, path: str) -> int:
        """Watches the file until it next grows; the number of the watch.  Raises OSError."""
        return self._called("inotify_add_watch", self._inotify, os.fsencode(path), _IN_MODIFY | _IN_ONESHOT)

    def remove(self, watch: int) -> None:
        """A watch that has already fired is no error: both can happen at once."""
        self._libc.inotify_rm_watch(self._inotify, watch)

    def fired(self) -> tuple[set[int], bool]:
        """The watches that fired, and whether some may be missing; also takes in a tick."""
        self._read(self._timer, 8)
        watches: set[int] = set()
        overflowed = False
        while data := self._read(self._inotify, 64 * 1024):
            at = 0
            while at < len(data):
                watch, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size + length
                overflowed |= bool(mask & _IN_Q_OVERFLOW)
                if not mask & (_IN_IGNORED | _IN_Q_OVERFLOW):
                    watches.add(watch)
        return watches, overflowed

    def tick(self, on: bool) -> None:
        """Makes `fd` readable every `TICK_SECONDS`, or no more."""
        if on == self._ticking:
            return
        nanoseconds = int(TICK_SECONDS * 1e9) if on else 0
        spec = struct.pack("llll", 0, nanoseconds, 0, nanoseconds)
        self._called("timerfd_settime", self._timer, 0, spec, None)
        self._ticking = on

    def close(self) -> None:
        self._epoll.close()
        os.close(self._timer)
        os.close(self._inotify)

    def _called(self, name: str, *arguments: Any) -> int:
        result = int(getattr(self._libc, name)(*arguments))
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return result

    @staticmethod
    def _read(fd: int, count: int) -> bytes:
        try:
            return os.read(fd, count)
        except BlockingIOError:
            return b""
