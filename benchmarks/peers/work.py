"""The work that every peer does, and warmd beside it: it counts, and gives back what it gets."""

from __future__ import annotations

from typing import Any


class Work:
    """Counts from 0; the count shows that it is always the same object."""

    def __init__(self) -> None:
        self.n = 0

    def incr(self, by: int = 1) -> dict[str, int]:
        self.n += by
        return {"n": self.n}

    def echo(self, input: Any) -> Any:
        return input


_work: Work | None = None


def incr(by: int) -> dict[str, int]:
    """The same of this process's own `Work`, for pools, which run functions."""
    global _work
    _work = _work or Work()
    return _work.incr(by)


def echo(value: Any) -> Any:
    return value
