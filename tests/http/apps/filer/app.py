"""An app that takes and gives files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import warmd


class App:
    def read(self, path: str, gate: str | None = None) -> dict[str, Any]:
        """What is in a file, opened when `gate` is there."""
        while gate is not None and not Path(gate).exists():
            time.sleep(0.01)
        return {"name": Path(path).name, "text": Path(path).read_text()}

    def copy(self, path: str, gate: str) -> bytes:
        return str(self.read(path, gate)["text"]).encode()

    def give(self, path: str, text: str) -> warmd.File:
        Path(path).write_text(text)
        return warmd.File(path)

    def arrays(self) -> dict[str, Any]:
        return {"array": np.arange(6.0).reshape(2, 3), "odd": {1: {2, 3}, "t": (1j,)}}

    def pictures(self, n: int, folder: str) -> Iterator[bytes]:
        """Yields the next when a file of its number is there."""
        for i in range(n):
            yield b"\x89PNG\r\n\x1a\n" + bytes([i])
            while not (Path(folder) / str(i)).exists():
                time.sleep(0.01)
