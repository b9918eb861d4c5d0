"""A list of requirements as one text that means the same wherever it is installed from.

It names an environment (`worker.environment`), so all that matters has to be in it: files that it
includes are copied in, and paths made absolute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

MAX_BYTES = 32 * 1024
MAX_DEPTH = 10
_INCLUDE = re.compile(r"(?:-r|--requirement)[ =]?\s*(\S+)")
_PATH = re.compile(r"((?:-e|--editable|-c|--constraint)[ =]?\s*)?(\.{1,2}(?:/\S*)?)(\[.*\])?")
_CONSTRAINT = re.compile(r"((?:-c|--constraint)[ =]?\s*)(\S+)")


def of_file(path: str) -> str:
    """The requirements in a file, and in those that it includes.  Raises ValueError."""
    return _joined(_lines_of(path, 0))


def of_lines(folder: str, lines: Iterable[str]) -> str:
    """Requirements given one by one; paths are relative to `folder`.  Raises ValueError."""
    return _joined(line for given in lines for line in _expanded(folder, given, 0))


def with_package(text: str, package: str) -> str:
    """`text`, with a package that it may have left out."""
    named = re.search(rf"^{re.escape(package)}\b", text, re.MULTILINE | re.IGNORECASE)
    return text if named else f"{text}{package}\n"


def _joined(lines: Iterable[str]) -> str:
    text = "".join(f"{line}\n" for line in lines)
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(f"has {len(text.encode())} bytes, the most are {MAX_BYTES}: give it as a package")
    return text


def _lines_of(path: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise ValueError(f"includes files in files, {MAX_DEPTH} deep, and again {path}")
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"names {path}, which cannot be read: {error}") from None
    for line in text.replace("\\\n", " ").splitlines():
        yield from _expanded(os.path.dirname(path), line, depth)


def _expanded(folder: str, line: str, depth: int) -> Iterator[str]:
    line = re.sub(r"(^|\s)#.*$", "", line).strip()
    if not line:
        return
    if included := _INCLUDE.fullmatch(line):
        yield from _lines_of(os.path.join(folder, included[1]), depth + 1)
    elif constraint := _CONSTRAINT.fullmatch(line):
        yield f"{constraint[1]}{os.path.join(folder, constraint[2])}"
    elif path := _PATH.fullmatch(line):
        yield f"{path[1] or ''}{os.path.normpath(os.path.join(folder, path[2]))}{path[3] or ''}"
    else:
        yield line
