"""The smallest app that shows what a session is: it counts, and remembers how far."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any


class Counter:
    """Counts from 0, or from `{"start": n}` in `setup`."""

    def setup(self, config: Mapping[str, int] | None = None) -> None:
        self.n = (config or {}).get("start", 0)

    def run(self, input: Any = None) -> dict[str, int]:  # noqa: ARG002
        """Counts one further; the process id shows that it is always the same process."""
        self.n += 1
        return {"n": self.n, "pid": os.getpid()}

    def incr(self, by: int = 1) -> dict[str, int]:
        self.n += by
        return {"n": self.n}

    def get(self) -> dict[str, int]:
        return {"n": self.n}

    def count_up(self, input: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """Streams `{"i": 0}` to `{"i": n - 1}` for `{"n": n}`."""
        for i in range(input["n"]):
            yield {"i": i}

    def boom(self, message: str = "boom") -> None:
        """Raises; the session lives on."""
        raise ValueError(message)
