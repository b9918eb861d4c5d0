"""stdout and stderr of an app: an append-only file that may be on a full disk.

A log line is never worth a call.  What the file does not take is dropped and counted, by lines,
on the control page.  Native code that writes to the descriptors itself is not counted.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer


class LogWriter(io.RawIOBase):
    """Writes to a descriptor, all of what it is given or none; errors lose lines."""

    def __init__(self, fd: int, drop: Callable[[int], None]) -> None:
        super().__init__()
        self._fd = fd
        self._drop = drop

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        try:
            while len(view):
                view = view[os.write(self._fd, view) :]
        except OSError:
            lost = bytes(view)
            self._drop(lost.count(b"\n") + (not lost.endswith(b"\n")))
        return size


def write_to(log_path: str) -> None:
    """Turns descriptors 1 and 2 to the log, if it can be opened, and nothing else."""
    try:
        log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    for fd in (1, 2):
        os.dup2(log, fd)
    if log > 2:
        os.close(log)


def redirect(log_path: str, drop: Callable[[int], None]) -> None:
    """Turns descriptors 0, 1, 2 and the `sys` streams to /dev/null and the log.

    A log that cannot be opened (a full disk, a folder that is gone) loses all lines, counted.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        log = -1
    os.dup2(null, 0)
    for fd in (1, 2):
        os.dup2(null if log < 0 else log, fd)
    for fd in {null, log} - {-1, 0, 1, 2}:
        os.close(fd)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _text(1, drop, lost=log < 0)
    sys.stderr = _text(2, drop, lost=log < 0)


def _text(fd: int, drop: Callable[[int], None], lost: bool) -> io.TextIOWrapper:
    # No BufferedWriter in between: it raises RuntimeError when a signal handler prints.
    raw = _Nowhere(fd, drop) if lost else LogWriter(fd, drop)
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)  # type: ignore[arg-type]


class _Nowhere(LogWriter):
    def write(self, data: ReadableBuffer, /) -> int:
        lost = bytes(data)
        self._drop(lost.count(b"\n") + (not lost.endswith(b"\n")))
        return len(lost)


def flush() -> None:
    """Writes out what the streams hold, whatever the app has made of them."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed or replaced by the app
            continue


def note(text: str) -> None:
    """A line of the runtime's own in the session's log; needs no working `sys.stderr`."""
    try:
        os.write(2, f"warmd: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return
