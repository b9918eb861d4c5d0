"""stdout and stderr of an app: an append-only file that may be on a full disk.

A log line is never worth a call.  What the file does not take is dropped and counted, by lines,
on the control page.  Native code that writes to the descriptors itself is not counted.

A fork of a template goes on with the template's streams, which loggers may hold already: only what is
behind them becomes its own.
"""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

REPEATED_BYTES = 64 * 1024
"""Of what an import has printed, what a fork's log begins with."""


@dataclass
class _Log:
    """The one that this process writes to."""

    drop: Callable[[int], None]
    lost: bool
    """It could not be opened: descriptors 1 and 2 go nowhere."""


class LogWriter(io.RawIOBase):
    """Writes to a descriptor, all of what it is given or none; errors lose lines."""

    def __init__(self, fd: int, log: _Log) -> None:
        super().__init__()
        self._fd = fd
        self._log = log

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        try:
            while len(view) and not self._log.lost:
                view = view[os.write(self._fd, view) :]
        except OSError:
            pass
        if lost := bytes(view):
            self._log.drop(lost.count(b"\n") + (not lost.endswith(b"\n")))
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


_log: _Log | None = None


def redirect(log_path: str, drop: Callable[[int], None]) -> None:
    """Turns descriptors 0, 1, 2 and the `sys` streams to /dev/null and the log.

    A log that cannot be opened (a full disk, a folder that is gone) loses all lines, counted.
    """
    global _log
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        file = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        file = -1
    os.dup2(null, 0)
    for fd in (1, 2):
        os.dup2(null if file < 0 else file, fd)
    for fd in {null, file} - {-1, 0, 1, 2}:
        os.close(fd)
    if _log is not None:
        _log.drop, _log.lost = drop, file < 0
        return
    _log = _Log(drop, file < 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _text(1, _log)
    sys.stderr = _text(2, _log)


def repeat(log_path: str) -> None:
    """Writes once more, into this process's log, how another log begins."""
    try:
        with open(log_path, "rb") as file:
            os.write(1, file.read(REPEATED_BYTES))
    except OSError:
        return


def _text(fd: int, log: _Log) -> io.TextIOWrapper:
    # No BufferedWriter in between: it raises RuntimeError when a signal handler prints.
    raw = LogWriter(fd, log)
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)  # type: ignore[arg-type]


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
