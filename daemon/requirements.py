"""A list of requirements as one text that means the same wherever it is installed from.

It names an environment (`worker.environment`), so all that matters has to be in it: files that it
includes are copied in, and paths made absolute.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator

MAX_BYTES = 32 * 1024
MAX_DEPTH = 10
MAX_FILES = 100
"""So many inclusions: files that include each other twice would be read for ever."""
_INCLUDE = re.compile(r"(?:-r|--requirement)[ =]?\s*(\S+)")
_PATH = re.compile(r"((?:-e|--editable|-c|--constraint)[ =]?\s*)?(\.{1,2}(?:/\S*)?)(\[.*\])?")
_CONSTRAINT = re.compile(r"((?:-c|--constraint)[ =]?\s*)(?!\w+://)(\S+)")


def of_file(path: str) -> str:
    """The requirements in a file, and in those that it includes.  Raises ValueError."""
    return _joined(_Reading().lines_of(path, 0))


def of_lines(folder: str, lines: Iterable[str]) -> str:
    """Requirements given one by one; paths are relative to `folder`.  Raises ValueError."""
    reading = _Reading()
    return _joined(line for given in lines for line in reading.expanded(folder, given, 0))


def with_package(text: str, package: str) -> str:
    """`text`, with a package that it may have left out."""
    named = re.search(rf"^{re.escape(package)}\b", text, re.MULTILINE | re.IGNORECASE)
    return text if named else f"{text}{package}\n"


def _joined(lines: Iterable[str]) -> str:
    text, size = [], 0
    for line in lines:
        text.append(f"{line}\n")
        size += len(text[-1].encode())
        if size > MAX_BYTES:
            raise ValueError(f"has more than {MAX_BYTES} bytes, which is the most: give it as a package")
    return "".join(text)


class _Reading:
    """One list, and the files that it includes."""

    def __init__(self) -> None:
        self._files = 0

    def lines_of(self, path: str, depth: int) -> Iterator[str]:
        self._files += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"includes files in files, {MAX_DEPTH} deep, and again {path}")
        if self._files > MAX_FILES:
            raise ValueError(f"includes more than {MAX_FILES} files, the last one {path}")
        for line in _text(path).replace("\\\n", " ").splitlines():
            yield from self.expanded(os.path.dirname(path), line, depth)

    def expanded(self, folder: str, line: str, depth: int) -> Iterator[str]:
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not line:
            return
        if included := _INCLUDE.fullmatch(line):
            yield from self.lines_of(os.path.join(folder, included[1]), depth + 1)
        elif constraint := _CONSTRAINT.fullmatch(line):
            yield f"{constraint[1]}{os.path.join(folder, constraint[2])}"
        elif path := _PATH.fullmatch(line):
            yield f"{path[1] or ''}{os.path.normpath(os.path.join(folder, path[2]))}{path[3] or ''}"
        else:
            yield line


def _without_waiting(path: str, flags: int) -> int:
    """A pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _text(path: str) -> str:
    """Raises ValueError."""
    try:
        with open(path, encoding="utf-8-sig", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"names {path}, which is no file")
            return file.read(MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"names {path}, which cannot be read: {error}") from None
