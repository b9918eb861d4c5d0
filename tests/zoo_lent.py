"""An app of the zoo that is given much and gives much back, and processes that die where they are told to.

Whoever imports this lets go soon of lent memory that it does not need, so tests do not.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import warmd.app
from warmd.protocol import mappings, segments

KEPT_SECONDS = 0.2
mappings.KEPT_SECONDS = segments.KEPT_SECONDS = KEPT_SECONDS

context = warmd.app.context


def die_at(point: str) -> None:
    """Have this process killed at `module:Class.method before 3`: just before its third call, or after it."""
    where, when, nth = point.split()
    module, _, name = where.partition(":")
    path = name.split(".")
    owner: Any = importlib.import_module(module)
    for part in path[:-1]:
        owner = getattr(owner, part)
    real, calls = getattr(owner, path[-1]), itertools.count(1)

    def dying(*args: Any, **kwargs: Any) -> Any:
        due = next(calls) >= int(nth)
        if due and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*args, **kwargs)
        finally:
            if due:
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, path[-1], dying)


def leave_descriptors(left: int) -> list[int]:
    """Have this process have so many left, and no more; those that were taken for it."""
    import resource

    limit = max(map(int, os.listdir("/proc/self/fd"))) + left + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    for _ in range(left):
        os.close(taken.pop())
    return taken


class Waits:
    """The same for an app that has an event loop."""

    def setup(self) -> None:
        from warmd.daemon.worker import invoke_async

        invoke_async.KEPT_SECONDS = KEPT_SECONDS

    async def filled(self, number: int, size: int) -> Any:
        import numpy as np

        return np.full(size, number, "u1")


def free(taken: list[int]) -> None:
    while taken:
        os.close(taken.pop())


class Echo:
    """Gives back what it is given, keeps it, changes it, and forks with it in its hands."""

    def setup(self, dies: str | None = None) -> None:
        self.kept: list[Any] = []
        if dies is not None:
            die_at(dies)

    def echo(self, value: Any) -> Any:
        return value

    def total(self, value: Any) -> int:
        return int(value.sum())

    def size(self, value: Any) -> int:
        return len(value)

    def filled(self, number: int, size: int) -> Any:
        import numpy as np

        return np.full(size, number, "u1")

    def give(self, size: int) -> bytes:
        return bytes(size)

    def add_one(self, value: Any) -> Any:
        """Into its input, which it gives back."""
        value += 1
        return value

    def keep(self, value: Any) -> int:
        self.kept.append(value)
        return len(self.kept)

    def totals(self) -> list[int]:
        return [int(value.sum()) for value in self.kept]

    def drop(self, number: int) -> None:
        del self.kept[number]

    def changing(self, count: int, size: int) -> Iterator[Any]:
        """Views of one array, which it fills anew for each."""
        import numpy as np

        array = np.empty(size, "u1")
        for number in range(count):
            array[:] = number % 251
            yield array[1:] if number % 2 else array

    def parts_of(self, value: Any, count: int) -> Iterator[Any]:
        """Its input again and again, with the number of the part in it."""
        for number in range(count):
            value[:] = number % 251
            yield value

    def wait(self, value: Any, pipe: str) -> Any:
        """Until something is written to the pipe."""
        context.progress("in")
        Path(pipe).read_bytes()
        return value

    def fork(self, value: Any, pipe: str, path: str) -> int:
        """A child has the input too; told by the pipe it writes to `path` what is in there."""
        child = os.fork()
        if child == 0:
            Path(pipe).read_bytes()
            Path(path).write_text(str(sorted({*value.tolist()})))
            os._exit(0)
        return child

    def in_children(self, value: Any) -> list[int]:
        self.kept = [value]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(self._kept_total, range(4))

    def _kept_total(self, _number: int) -> int:
        return int(self.kept[0].sum())

    def hog(self, mib: int) -> int:
        return len(bytearray(mib << 20))

    def leave_descriptors(self, left: int) -> None:
        self.taken = leave_descriptors(left)

    def free_descriptors(self) -> None:
        free(self.taken)

    def limit_files(self, size: int) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
