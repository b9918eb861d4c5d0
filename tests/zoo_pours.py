"""Apps that give much, and one that takes little; beside `zoo`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import warmd.app

context = warmd.app.context


class Pours:
    """Yields large parts, and writes a byte to a file for each that it was let go on after."""

    def ready(self) -> str:
        return "ready"

    def pour(self, n: int, size: int, path: str) -> Iterator[bytes]:
        with open(path, "ab", buffering=0) as file:
            for _ in range(n):
                file.write(b".")
                yield bytes(size)

    def sleep(self, input: float) -> None:
        context.progress("in")
        time.sleep(input)

    def take(self, input: bytes) -> int:
        return len(input)

    def give(self, n: int) -> bytes:
        return bytes(n)
