"""What a cell writes: Python's `print`, C code and child processes alike, in its order.

While a cell runs, descriptors 1 and 2 lead into a file in memory each.  All writers append to it, so
nobody ever waits for a reader, as with a pipe; and a thread, which looks now and then, copies what
is new to the session's log, tells the caller of it, and lets go of the middle of what is too long.
A child that goes on after its cell still writes there: that is looked after too, and goes to the log.
"""

from __future__ import annotations

import ctypes
import io
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO

MAX_BYTES = 1024 * 1024
"""Of each stream, what is kept of a cell: half of it from the beginning, half from the end."""
LOOK_SECONDS = 0.2
IDLE_LOOK_SECONDS = 2.0
LIVE_BYTES = 8 * 1024
_PAGE = 4096
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class Written(NamedTuple):
    text: str
    dropped_bytes: int


class Stream:
    """One of stdout and stderr."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.log = os.dup(fd)
        self.memory = os.memfd_create(f"warmd-cell-{fd}", os.MFD_CLOEXEC)
        # Through /proc: a description of its own, which appends.
        self._appending = os.open(f"/proc/self/fd/{self.memory}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._copied = 0
        self._freed = MAX_BYTES // 2

    def begin(self) -> None:
        os.ftruncate(self.memory, 0)
        self._copied, self._freed = 0, MAX_BYTES // 2
        os.dup2(self._appending, self.fd)

    def end(self) -> None:
        """Back to the log; may be repeated."""
        os.dup2(self.log, self.fd)

    def size(self) -> int:
        return os.fstat(self.memory).st_size

    def copy_new(self) -> int:
        """Write what came since the last time to the log, at most as much as is kept of a cell."""
        size = self.size()
        if size < self._copied:
            self._copied = 0
        new = size - self._copied
        if new:
            tail = os.pread(self.memory, min(new, MAX_BYTES), max(self._copied, size - MAX_BYTES))
            self._copied = size
            try:
                os.write(self.log, tail)
            except OSError:  # a full disk: the cell is not to fail for it
                return new
        return new

    def free_middle(self) -> None:
        """Give back the memory of what is neither beginning nor end."""
        until = (self.size() - MAX_BYTES // 2) // _PAGE * _PAGE
        if until - self._freed > MAX_BYTES:
            _punch(self.memory, self._freed, until - self._freed)
            self._freed = until

    def written(self) -> Written:
        size, half = self.size(), MAX_BYTES // 2
        if size <= MAX_BYTES:
            return Written(_text(os.pread(self.memory, size, 0)), 0)
        head, tail = os.pread(self.memory, half, 0), os.pread(self.memory, half, size - half)
        dropped = size - MAX_BYTES
        return Written(f"{_text(head)}\n[... {dropped} bytes are left out ...]\n{_text(tail)}", dropped)

    def latest(self) -> str:
        size = self.size()
        return _text(os.pread(self.memory, LIVE_BYTES, max(0, size - LIVE_BYTES)))

    def close(self) -> None:
        for fd in (self.log, self.memory, self._appending):
            os.close(fd)


class Capture:
    """Both streams, the `sys` streams of cells that lead into them, and the thread."""

    def __init__(self, tell: Callable[[dict[str, str]], None]) -> None:
        self._tell = tell
        self.out, self.err = Stream(1), Stream(2)
        self._streams = (self.out, self.err)
        self._texts = (_writer(1), _writer(2))
        self._before: tuple[TextIO, TextIO, TextIO] | None = None
        self._lock = threading.Lock()
        self._running = False
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._look, name="python-output", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        with self._lock:
            self.end_streams()
            self._before = (sys.stdin, sys.stdout, sys.stderr)
            for stream in self._streams:
                stream.copy_new()
                stream.begin()
            if any(text.closed for text in self._texts):
                self._texts = (_writer(1), _writer(2))
            nobody: Any = NoInput()
            sys.stdin, (sys.stdout, sys.stderr) = nobody, self._texts
            self._running = True
        self._wake.set()

    def end(self) -> None:
        """Have everything as before the cell.  An interrupt on the way does not leave it half done."""
        try:
            self._end()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        with self._lock:
            self._running = False
            self.end_streams()
            for stream in self._streams:
                stream.copy_new()

    def end_streams(self) -> None:
        for text in (*self._texts, sys.stdout, sys.stderr):
            _flush(text)
        if self._before is not None:
            sys.stdin, sys.stdout, sys.stderr = self._before
            self._before = None
        for stream in self._streams:
            stream.end()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join()
        for stream in self._streams:
            stream.end()
            stream.close()

    def _look(self) -> None:
        while not self._closed:
            self._wake.wait(None if not self._running and not _has_children() else IDLE_LOOK_SECONDS)
            self._wake.clear()
            while self._running and not self._closed:
                if self._wake.wait(LOOK_SECONDS):
                    self._wake.clear()
                self._look_once()
            self._look_once()

    def _look_once(self) -> None:
        with self._lock:
            if self._closed:
                return
            new = [stream.copy_new() for stream in self._streams]
            for stream in self._streams:
                stream.free_middle()
            if self._running and any(new):
                self._tell({"stdout": self.out.latest(), "stderr": self.err.latest()})


class NoInput:
    """`sys.stdin` of a cell: whoever reads from it is told so at once."""

    encoding = "utf-8"
    closed = False

    def read(self, *_: Any) -> str:
        raise RuntimeError("a cell has nobody to ask: use `set` for values instead of input() and sys.stdin")

    readline = readlines = __next__ = read

    def __iter__(self) -> NoInput:
        return self

    def close(self) -> None:
        """`multiprocessing` does this in each of its children."""

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return 0


def _writer(fd: int) -> TextIO:
    # No buffer of bytes in between: it raises when a signal handler prints.
    # Nor of text: what a child process writes comes after what was printed before it.
    raw: Any = open(fd, "wb", buffering=0, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)


def _flush(text: TextIO) -> None:
    try:
        text.flush()
    except Exception:  # a cell may have closed or replaced it
        return


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _has_children() -> bool:
    try:
        return any(path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    except OSError:  # a thread that has just ended
        return True


def _punch(fd: int, start: int, length: int) -> None:
    libc = ctypes.CDLL(None)
    offset = ctypes.c_int64
    libc.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, offset(start), offset(length))
