"""What `warmd top` knows: what the daemon has told of its sessions, and what their processes use.

A session's info is told only when it has changed.  Its times (for how long something runs, waits, or has
left) are those of that moment, so they are moved on by what has passed since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from warmd.http.usage import Used
from warmd.protocol import names

Info = Mapping[str, Any]

WINDOW_SECONDS = 5.0
"""Rates are over so long."""
RANKS = {"busy": 0, "idle": 2, "parked": 3}
"""States in the order of the table; the others, all on their way somewhere, come after the busy ones."""
GROWS = ("running_seconds", "waits_seconds")
SHRINKS = ("expires_in", "held_for", "lives_for")


class Sample(NamedTuple):
    at: float
    ended: int
    calls: Mapping[str, int]


class Row(NamedTuple):
    """A session as it is now; `cpu` in cores, and None where its process cannot be seen from here."""

    info: Info
    cpu: float | None
    memory: int | None
    calls_per_second: float


class Top:
    """`now` is monotonic."""

    def __init__(self, status: Info) -> None:
        self.status = status
        self.draining = bool(status["draining"])
        self._told: dict[str, tuple[float, Info]] = {}
        self._used: Mapping[int, Used] = {}
        self._ended = 0
        self._samples: deque[Sample] = deque()

    def take(self, told: Mapping[str, Any], now: float) -> None:
        """A value of the daemon's stream."""
        for info in told["sessions"]:
            if names.is_gone(info):
                self._told.pop(info["id"], None)
            else:
                self._told[info["id"]] = now, info
        self._ended += told["ended"]
        self.draining = told["draining"]

    def pids(self) -> set[int]:
        """Of the processes whose use is of interest."""
        pids = {info["pid"] for _, info in self._told.values()}
        return {pid for pid in (*pids, self.status["pid"]) if pid is not None}

    def measured(self, used: Mapping[int, Used]) -> None:
        self._used = used

    def sample(self, now: float) -> None:
        """Take note of how many calls there were by now."""
        calls = {id: info["calls"] for id, (_, info) in self._told.items()}
        self._samples.append(Sample(now, self._ended, calls))
        while len(self._samples) > 2 and self._samples[1].at <= now - WINDOW_SECONDS:
            self._samples.popleft()

    def rows(self, now: float) -> list[Row]:
        """The busiest first, and of these the newest."""
        return sorted((self._row(info, now - at) for at, info in self._told.values()), key=_order)

    def calls_per_second(self) -> float:
        """Of all sessions and of the shared pool."""
        return self._rate(lambda sample: sample.ended)

    @property
    def daemon_used(self) -> Used | None:
        return self._used.get(self.status["pid"])

    def _row(self, info: Info, passed: float) -> Row:
        used = self._used.get(info["pid"] or 0)
        calls = self._rate(lambda sample: sample.calls.get(info["id"], 0))
        moved = _moved_on(info, passed)
        if used is None:
            return Row(moved, None, info["memory"], calls)
        return Row(moved, used.cpu, used.memory, calls)

    def _rate(self, count: Callable[[Sample], int]) -> float:
        if len(self._samples) < 2:
            return 0.0
        first, last = self._samples[0], self._samples[-1]
        return max(0.0, count(last) - count(first)) / max(1e-3, last.at - first.at)


def _moved_on(info: Info, passed: float) -> dict[str, Any]:
    """The info as it would be told now."""
    moved = dict(info)
    for name, sign in (*((name, 1) for name in GROWS), *((name, -1) for name in SHRINKS)):
        if moved.get(name) is not None:
            moved[name] = max(0.0, moved[name] + sign * passed)
    if moved.get("gpu"):
        moved["gpu"] = _moved_on(moved["gpu"], passed)
    return moved


def _order(row: Row) -> tuple[float, ...]:
    info = row.info
    cpu, calls = round(row.cpu or 0.0, 1), round(row.calls_per_second)
    return RANKS.get(info["state"], 1), -info["queued"], -cpu, -calls, -info["created"]
