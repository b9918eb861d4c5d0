"""How far this process's descriptors may be used up: libzmq's listener aborts it when there are none.

From `mark()` on nothing new is begun: no connection is let in, no process started, no log opened.
What is left above it is for those connections that wait in the listener's backlog already, which
nobody can keep out, and for what is needed for a moment only.
"""

from __future__ import annotations

import errno
import os
import resource

MAX_BACKLOG = 512


def most() -> int:
    """Those that this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def mark() -> int:
    """The number that no descriptor of something new may have."""
    return most() * 3 // 4


def mark_of_loans() -> int:
    """The same for memory that is lent: room is left for sessions and connections."""
    return most() // 2


def backlog() -> int:
    """How many connections may wait to be accepted: they come in also after the mark is reached."""
    return max(1, min(MAX_BACKLOG, most() // 8))


def check(count: int = 1) -> None:
    """Raises OSError (EMFILE) unless the next `count` descriptors lie below the mark."""
    taken: list[int] = []
    try:
        for _ in range(count):
            taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            if taken[-1] >= mark():
                text = f"{os.strerror(errno.EMFILE)}: {mark()} of {most()} are in use or spoken for"
                raise OSError(errno.EMFILE, text)
    finally:
        for fd in taken:
            os.close(fd)
