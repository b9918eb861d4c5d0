"""The apps that use the fake GPU, with the names of those on torch."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time

from tests.fakegpu import FakeCuda


class Memory:
    """So many bytes, and results that depend on all of them."""

    def setup(self, size_bytes: int, seed: int = 1, way: str = "driver") -> None:
        assert way == "driver", "the fake GPU is no torch device, so nothing on it can be offloaded"
        self.cuda = FakeCuda()
        self.cuda.alloc("weights", random.Random(seed).randbytes(size_bytes))

    def run(self, x: int = 0) -> str:
        return hashlib.sha256(self.cuda.read("weights") + str(x).encode()).hexdigest()

    def work(self, seconds: float) -> str:
        """The same, after so long."""
        time.sleep(seconds)
        return self.run()

    def pid(self) -> int:
        return os.getpid()

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)
