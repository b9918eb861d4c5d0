"""A file as a value: what travels is its path, and its bytes stay where they are.

So it is for processes of one machine: an app returns it, a client of that machine opens it, and the
HTTP gateway keeps a copy and tells an address instead.  The payload of the ext type:

    msgpack array [path, content type or nil, filename]
"""

from __future__ import annotations

import os
import stat
from typing import Any

import msgpack

from warmd.protocol.described import Encoded, elements
from warmd.protocol.errors import quoted

FILE_CODE = 10
MAX_TEXT_CHARACTERS = 4096
"""Of a path, as the kernel has it; and of the rest."""


class File:
    """A file that a function returns, or takes: `File(path="plot.png")`.

    `content_type` is guessed from the name where it is not given, and `filename`, the name that the
    file is offered under, is the path's last part.  The file must be there until whoever receives it
    has read it: one in a folder that is deleted when the function returns is refused.

    Raises FileNotFoundError for a path where no file is, TypeError and ValueError for other values.
    """

    __slots__ = ("content_type", "filename", "path")

    path: str
    """Absolute."""
    content_type: str | None
    filename: str

    def __init__(
        self, path: str | os.PathLike[str], content_type: str | None = None, filename: str | None = None
    ) -> None:
        text = os.fspath(path)
        if not isinstance(text, str):
            raise TypeError(f"path: expected a text or a Path, got {quoted(text, 80)}")
        if problem := _problem(text):
            raise FileNotFoundError(problem)
        whole = os.path.abspath(text)
        self._fill(whole, content_type, os.path.basename(whole) if filename is None else filename)

    def _fill(self, path: Any, content_type: Any, filename: Any) -> None:
        for name, value in (("path", path), ("content_type", content_type), ("filename", filename)):
            if name == "content_type" and value is None:
                continue
            if type(value) is not str:
                raise TypeError(f"{name}: expected a text, got {quoted(value, 80)}")
            if not 0 < len(value) <= MAX_TEXT_CHARACTERS or "\0" in value:
                raise ValueError(f"{name}: expected 1 to {MAX_TEXT_CHARACTERS} characters and no NUL, "
                                 f"got {quoted(value, 80)}")  # fmt: skip
        if not os.path.isabs(path):
            raise ValueError(f"path: expected an absolute one, got {quoted(path, 80)}")
        self.path, self.content_type, self.filename = path, content_type, filename

    def _parts(self) -> tuple[str, str | None, str]:
        return self.path, self.content_type, self.filename

    def __repr__(self) -> str:
        return f"File({self.path!r}, content_type={self.content_type!r}, filename={self.filename!r})"

    def __eq__(self, other: object) -> bool:
        return self._parts() == other._parts() if isinstance(other, File) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._parts())

    def __fspath__(self) -> str:
        return self.path


def encode(value: object) -> Encoded | None:
    """The ext type for a file; None for anything else.  Raises TypeError when it is not there."""
    if not isinstance(value, File):
        return None
    if problem := _problem(value.path):
        raise TypeError(f"{problem}; it has to stay until its receiver has read it")
    parts = list(value._parts())
    return Encoded(FILE_CODE, msgpack.packb(parts, unicode_errors="surrogatepass"))


def decode(payload: bytes) -> File:
    """The file of a payload, whether or not it is there.  Raises ValueError."""
    found = File.__new__(File)
    try:
        found._fill(*elements(payload, 3, "surrogatepass"))
    except TypeError as error:
        raise ValueError(str(error)) from None
    return found


def _problem(path: str) -> str:
    """Why a path is no file's; empty where there is one."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        return f"no file at {quoted(path, 200)}: {said}"
    return "" if stat.S_ISREG(mode) else f"no file at {quoted(path, 200)}: it is not a regular one"
