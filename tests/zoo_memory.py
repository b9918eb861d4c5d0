"""Apps that take more memory than they may, each in its own way."""

from __future__ import annotations

import ctypes
import mmap
import os
import time

MIB = 2**20


class Hog:
    def __init__(self) -> None:
        self.kept: list[object] = []

    def setup(self, taken: tuple[str, int] | None = None) -> None:
        """May take it here already: the name of a function, and MiB."""
        if taken is not None:
            getattr(self, taken[0])(taken[1])

    def pid(self) -> int:
        return os.getpid()

    def scores(self, python: str) -> list[int]:
        """oom_score_adj of this process, and of a child that runs another program."""
        import subprocess

        file = "/proc/self/oom_score_adj"
        child = subprocess.run([python, "-c", f"print(open({file!r}).read())"], capture_output=True)
        return [int(open(file).read()), int(child.stdout)]

    def one_block(self, mib: int) -> None:
        self.kept.append(b"x" * (mib * MIB))

    def lists(self, mib: int) -> None:
        for _ in range(mib):
            self.kept.append([0] * (MIB // 8))

    def mapped(self, mib: int) -> None:
        """Shared anonymous memory: RLIMIT_DATA does not count it."""
        area = mmap.mmap(-1, mib * MIB)
        self.kept.append(area)
        _fill(area, mib)
        time.sleep(60)

    def fast(self, mib: int) -> None:
        """As fast as one thread can, and then it waits to be seen."""
        for _ in range(mib // 64):
            self.kept.append(b"x" * (64 * MIB))
        time.sleep(60)

    def in_child(self, mib: int, orphaned: bool) -> None:
        """A forked child takes it, or one whose parent has left."""
        pid = os.fork()
        if pid == 0:
            if orphaned and os.fork():
                os._exit(0)
            os.setsid()
            self.mapped(mib)
            os._exit(0)
        time.sleep(60)

    def shared_by_forks(self, mib: int, forks: int) -> int:
        """Each child has all of it resident, and none of its own."""
        block = bytearray(b"x") * (mib * MIB)
        children = []
        for _ in range(forks):
            pid = os.fork()
            if pid == 0:
                _ = block.count(b"y")
                time.sleep(2)
                os._exit(0)
            children.append(pid)
        return sum(os.waitpid(pid, 0)[1] for pid in children)


def _fill(area: mmap.mmap, mib: int) -> None:
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for at in range(mib):
        ctypes.memset(start + at * MIB, 1, MIB)
