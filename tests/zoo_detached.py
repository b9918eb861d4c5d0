"""What detached calls are made of: streams that can be told piece by piece, and calls that wait."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import warmd.app

context = warmd.app.context


def piece(number: int, size: int) -> bytes:
    """What part `number` of a stream is, here and in who checks it."""
    return random.Random(number).randbytes(size)


class Pours:
    def setup(self) -> None:
        self.entered: list[str] = []

    def pour(self, name: str, count: int, size: int, pause: float = 0.0) -> Iterator[bytes]:
        """`count` pieces of `size` bytes."""
        self.entered.append(name)
        for number in range(count):
            yield piece(number, size)
            time.sleep(pause)

    def wait(self, name: str, path: str) -> str:
        """Until something is written to the pipe at `path`."""
        self.entered.append(name)
        context.progress("in")
        Path(path).read_bytes()
        return name

    def sleep(self, name: str, seconds: float) -> str:
        self.entered.append(name)
        time.sleep(seconds)
        return name

    def seen(self) -> list[str]:
        """The names of all calls that were entered."""
        return self.entered
