"""What is done to one log file through its descriptor: reading, cutting, cleaning.

All of it works while other processes append to the file.
"""

from __future__ import annotations

import ctypes
import os
import re
from typing import NamedTuple

CHUNK_BYTES = 64 * 1024
MARK = b"... (older lines dropped)\n"
MARKED_BYTES = 1024
"""A line that is cut and longer than this keeps its rest behind the mark."""
COPY_BYTES = 2**20
COPY_ROUNDS = 8
"""Looks at what was appended during the copy; a faster writer than that loses some lines."""
TAIL_LINES = 20
TAIL_BYTES = 4096
CRASH = "Fatal Python error: "
"""How faulthandler begins."""
LINES_BEFORE_CRASH = 5

_COLLAPSE_RANGE = 8
_CONTROLS = {code: None for code in (*range(32), 127) if code not in (9, 10)}
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")


class Cut(NamedTuple):
    """What a cut did: places moved `by` so many bytes; what is kept begins at `begin`, behind the mark."""

    by: int
    begin: int


def halve(fd: int, size: int, max_bytes: int) -> Cut:
    """Keeps the newest half of `max_bytes`, a little more or less.  Raises OSError.

    Where the file system can take away the beginning of a file (ext4, xfs), nothing is lost, whoever
    writes meanwhile.  Elsewhere what is kept is copied.
    """
    most = size - max_bytes // 2
    whole_blocks = most - most % os.fstat(fd).st_blksize
    if whole_blocks > 0 and _collapse(fd, whole_blocks):
        return Cut(whole_blocks, _mark_beginning(fd))
    return _copy_down(fd, most, size)


def _collapse(fd: int, count: int) -> bool:
    """Take the first `count` bytes away; False where that is not possible."""
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return bool(fallocate(fd, _COLLAPSE_RANGE, 0, count) == 0)


def _mark_beginning(fd: int) -> int:
    """Write the mark over the rest of a line that was cut; where the next line begins."""
    rest = read_at(fd, 0, MARKED_BYTES).find(b"\n", len(MARK) - 1) + 1
    begin = max(rest, len(MARK))
    write_at(fd, 0, MARK.rjust(begin, b"."))
    return begin


def _copy_down(fd: int, cut: int, size: int) -> Cut:
    """Keep what lies behind `cut`, by copying.

    It is copied over the beginning of the file, then what was appended meanwhile, then the file is
    cut there: in place, because a full disk could not take a second copy.  What a process appends
    between the last look and the cut (microseconds) is lost.
    """
    cut += read_at(fd, cut, CHUNK_BYTES).find(b"\n") + 1
    write_at(fd, 0, MARK)
    end = len(MARK)
    for _ in range(COPY_ROUNDS):
        count = _copy(fd, cut + end - len(MARK), end, size)
        end += count
        size = os.fstat(fd).st_size
        if cut + end - len(MARK) >= size:
            break
    os.ftruncate(fd, end)
    return Cut(cut - len(MARK), len(MARK))


def _copy(fd: int, source: int, target: int, stop: int) -> int:
    """Copies what lies from `source` to `stop` nearer to the beginning; how many bytes that were."""
    done = 0
    while piece := read_at(fd, source + done, min(COPY_BYTES, stop - source - done)):
        write_at(fd, target + done, piece)
        done += len(piece)
    return done


def read_at(fd: int, at: int, count: int) -> bytes:
    parts = []
    while count > 0 and (part := os.pread(fd, count, at)):
        parts.append(part)
        at, count = at + len(part), count - len(part)
    return b"".join(parts)


def read_end(fd: int, count: int) -> tuple[int, bytes]:
    """The size of the file and its last bytes, at most `count`."""
    while True:
        size = os.fstat(fd).st_size
        data = read_at(fd, max(0, size - count), count)
        # A cut on the helper thread takes the place away that was looked at: look again.
        if os.fstat(fd).st_size >= size:
            return size, data


def write_at(fd: int, at: int, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        count = os.pwrite(fd, view, at)
        view, at = view[count:], at + count


def lines_from_end(fd: int, size: int, lines: int) -> int:
    """Where the last `lines` lines begin; a last line without its newline counts as one."""
    if not size or not lines:
        return size
    at = size
    missing = lines if read_at(fd, size - 1, 1) != b"\n" else lines + 1
    while at > 0:
        begin = max(0, at - CHUNK_BYTES)
        block = read_at(fd, begin, at - begin)
        count = block.count(b"\n")
        if count >= missing:
            place = len(block)
            for _ in range(missing):
                place = block.rindex(b"\n", 0, place)
            return begin + place + 1
        missing -= count
        at = begin
    return 0


def cleaned(data: bytes) -> str:
    text = _ESCAPES.sub("", data.decode("utf-8", "replace"))
    # A progress bar redraws its line with carriage returns; the last drawing is the one to show.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return "\n".join(lines).translate(_CONTROLS)


def last_words(text: str) -> str:
    """The last lines (at most 20, at most 4 KiB); of a crash, those from just before its trace on.

    faulthandler puts the innermost frames first, and what tells least at the end.
    """
    lines = text.splitlines()
    crash = max((n for n, line in enumerate(lines) if line.startswith(CRASH)), default=None)
    if crash is not None:
        told = "\n".join(lines[max(0, crash - LINES_BEFORE_CRASH) :])
        return told.encode()[:TAIL_BYTES].decode("utf-8", "ignore")
    data = "\n".join(lines[-TAIL_LINES:]).encode()
    if len(data) > TAIL_BYTES:
        data = data[-TAIL_BYTES:]
        data = data[data.find(b"\n") + 1 :]
    return data.decode("utf-8", "ignore")
