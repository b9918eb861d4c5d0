"""An app with something to look at: pictures, parts that take their time, words in its log, progress."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import warmd


def png(width: int, height: int, shade: int) -> bytes:
    rows = (b"\0" + bytes([shade, 120, 40]) * width) * height

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


class App:
    """Paints squares."""

    def setup(self, shade: int = 200) -> None:
        self.shade = shade

    def paint(self, width: int = 64, height: int = 48) -> dict[str, object]:
        """One picture."""
        return {"picture": png(width, height, self.shade), "shade": self.shade}

    def words(self, gate: str, n: int = 3) -> Iterator[dict[str, str]]:
        """Yields a word whenever the file `gate` with its number is there."""
        for number in range(n):
            wait_for(Path(f"{gate}-{number}"))
            yield {"text": f"word{number} "}

    def slowly(self, gate: str) -> str:
        """Tells how far it is, and waits for the file `gate`."""
        warmd.context.progress({"n": 3, "total": 12, "desc": "painting"})
        wait_for(Path(gate))
        return "painted"

    def stroke(self, seconds: float) -> float:
        """Takes its time."""
        time.sleep(seconds)
        return seconds

    def say(self, text: str) -> None:
        """Writes to the session's log."""
        print(text, flush=True)

    def size_of(self, file: str) -> int:
        """Bytes of a file that was uploaded."""
        return Path(file).stat().st_size

    def crash(self) -> None:
        """Ends its process."""
        import os

        os._exit(3)


def wait_for(path: Path) -> None:
    until = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
