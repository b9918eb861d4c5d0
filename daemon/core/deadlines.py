"""Everything that waits, in one heap: keys and the monotonic second at which each is due.

A key has at most one time.  Changing or dropping it leaves its old heap entry behind, to be
skipped when it surfaces; the heap is rebuilt when such leftovers outnumber the living, so that
millions of calls with hour-long deadlines cost no memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import inf
from typing import TypeAlias

Key: TypeAlias = tuple[str, object]

_SPARE_ENTRIES = 64


class Deadlines:
    def __init__(self) -> None:
        self._times: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._times)

    def __contains__(self, key: Key) -> bool:
        return key in self._times

    def __iter__(self) -> Iterator[Key]:
        return iter(self._times)

    def set(self, key: Key, at: float) -> None:
        """`key` is due at `at` (inf: never), and no longer at the time it had before."""
        self._times[key] = at
        self._push(key, at)
        if len(self._heap) > 2 * len(self._times) + _SPARE_ENTRIES:
            self._rebuild()

    def drop(self, key: Key) -> None:
        """`key` is never due; dropping an absent key is fine."""
        self._times.pop(key, None)

    def time_of(self, key: Key) -> float | None:
        return self._times.get(key)

    def next(self) -> float | None:
        """When the earliest key is due, or None when nothing waits."""
        while self._heap and not self._lives(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Key | None:
        """Take out the earliest key that is due at `now`, or None.

        One at a time: what is done about a key may drop or set others that are due as well.
        """
        at = self.next()
        if at is None or at > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._times[key]
        return key

    def _push(self, key: Key, at: float) -> None:
        if at == inf:
            return
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, key))

    def _lives(self, entry: tuple[float, int, Key]) -> bool:
        at, _, key = entry
        return self._times.get(key) == at

    def _rebuild(self) -> None:
        self._heap = []
        for key, at in self._times.items():
            self._push(key, at)
