"""An interruption at any line of the client library."""

from __future__ import annotations

import functools
import linecache
import sys
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]


class Strike(BaseException):
    """Like KeyboardInterrupt: `except Exception` lets it pass."""


class Striker:
    """Raises `Strike` at the n-th line of the client library that runs, as Ctrl-C could.

    Not at a `with` line, as leaving the block counts as another visit to it, nor at `try`: there the
    interpreter never looks at signals.
    """

    def __init__(self, at: int) -> None:
        self.left = at

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        path = frame.f_code.co_filename
        if not is_of_the_library(path):
            return None
        if event == "line" and may_be_struck(path, frame.f_lineno):
            self.left -= 1
            if self.left == 0:
                raise Strike
        return self._trace


@functools.cache
def is_of_the_library(path: str) -> bool:
    return path.startswith(str(ROOT)) and "/tests/" not in path


@functools.cache
def may_be_struck(path: str, line: int) -> bool:
    return not linecache.getline(path, line).strip().startswith(("with ", "try:"))
