"""The daemon's own log: lines on stderr, and a cap where stderr is `daemon.log`.

A daemon in the background has that file as its stderr, opened for appending by whoever started it.
It is cut as session logs are (`logfile.halve`).  A file that somebody else chose for stderr is left
alone, and so are terminals and pipes.  A line that cannot be written costs nothing but itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from pathlib import Path

from warmd.daemon.logfile import halve

STDERR = 2
READER_MILLISECONDS = 100
"""For the reader of a pipe that is full, the first time; until it reads again, none."""
FIELDS = ("session", "app", "call_id", "pid")
"""What a log record may carry besides its text."""


class OwnLog(logging.Handler):
    """Writes to stderr; `path` is the file that is kept under `max_bytes`, if that is what stderr is."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__()
        self.setFormatter(_Lines())
        self.lines_dropped = 0
        self._max_bytes = max_bytes
        self._cut_from = max_bytes
        self._cutting: threading.Thread | None = None
        self._file = _opened(path)
        self._writable = select.poll()
        self._writable.register(STDERR, select.POLLOUT)
        self._wait_milliseconds = READER_MILLISECONDS

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(memoryview(f"{self.format(record)}\n".encode("utf-8", "backslashreplace")))
            self._look()
        except Exception:  # nothing that is said may end the daemon
            self.lines_dropped += 1

    def _write(self, data: memoryview) -> None:
        """Raises OSError; also where nobody reads the other end of a pipe, which must stop nothing."""
        while len(data):
            if not self._writable.poll(self._wait_milliseconds):
                self._wait_milliseconds = 0
                raise BlockingIOError("nobody reads stderr")
            # A pipe that is writable takes so much at once.
            data = data[os.write(STDERR, data[: select.PIPE_BUF]) :]
        self._wait_milliseconds = READER_MILLISECONDS

    def close(self) -> None:
        if self._cutting is not None:
            self._cutting.join()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        super().close()

    def _look(self) -> None:
        if self._file < 0 or (self._cutting is not None and self._cutting.is_alive()):
            return
        size = os.fstat(self._file).st_size
        if size > self._cut_from:
            # Milliseconds per megabyte, for which the loop must not wait.
            self._cutting = threading.Thread(target=self._cut, args=(size,), name="warmd-log", daemon=True)
            self._cutting.start()

    def _cut(self, size: int) -> None:
        try:
            halve(self._file, size, self._max_bytes)
            self._cut_from = self._max_bytes
        except OSError:
            # Not again at each line; and lines are still written.
            self._cut_from = size + self._max_bytes


def _opened(path: Path) -> int:
    """`path` once more, for reading and cutting, if it is what stderr writes to; else -1."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if os.path.samestat(os.fstat(fd), os.fstat(STDERR)):
            return fd
        os.close(fd)
    return -1


class _Lines(logging.Formatter):
    """`2026-11-23T03:15:00.123Z info what happened session=sess_1234 pid=42`, all in one line but
    for tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        instant = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage().replace("\n", "\\n")
        facts = [f"{name}={value}" for name in FIELDS if (value := record.__dict__.get(name)) is not None]
        millis = min(999, int(record.msecs))
        line = " ".join([f"{instant}.{millis:03d}Z", record.levelname.lower(), text, *facts])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
