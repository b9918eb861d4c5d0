"""An app that keeps a book of who came, and tells how its streams ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import warmd.app

context = warmd.app.context


class Visits:
    def setup(self) -> None:
        self.book: list[str] = []

    def enter(self, name: str) -> str:
        self.book.append(name)
        return name

    def stay(self, name: str, seconds: float) -> str:
        self.book.append(name)
        context.progress("in")
        time.sleep(seconds)
        self.book.append(f"{name} left")
        return name

    def stream(self, path: str, size: int = 8) -> Iterator[bytes]:
        """Without end; how it came to one is written to `path`."""
        try:
            while True:
                yield bytes(size)
                time.sleep(0.001)
        except BaseException as error:
            Path(path).write_text(type(error).__name__)
            raise

    def seen(self) -> list[str]:
        return self.book
