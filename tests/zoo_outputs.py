"""Apps of the zoo that write and raise more than anybody wants to have."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


class Floods:
    def setup(self) -> None:
        self.n = 0

    def alive(self) -> int:
        self.n += 1
        return self.n

    def flood(self, megabytes: int) -> int:
        block = (b"x" * 99 + b"\n") * 10_000
        for _ in range(megabytes):
            os.write(1, block)
        os.write(2, b"the last line\n")
        return megabytes

    def flood_by_child(self, megabytes: int) -> int:
        """Bytes that are no text, without a newline, from another process."""
        code = f"import os\nfor _ in range({megabytes}): os.write(1, os.urandom(10**6).replace(b'\\n', b'.'))"
        return subprocess.run([sys.executable, "-S", "-c", code], check=True).returncode

    def group(self) -> None:
        raise BaseExceptionGroup("many", [ValueError("one"), KeyboardInterrupt("two")])

    def cycle(self) -> None:
        first, second = ValueError("first"), TypeError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    def evil_repr(self) -> Any:
        return EvilRepr()

    def evil_argument(self) -> None:
        raise ValueError(EvilRepr())


class EvilRepr:
    def __repr__(self) -> str:
        os.write(2, b"asked for its repr\n")
        raise SystemExit(5)
