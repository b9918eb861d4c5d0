"""Streams: many small parts, and how soon the first of them is there."""

from __future__ import annotations

import collections
import contextlib
import statistics
import time

from benchmarks.figures import Target, call_times, rate
from benchmarks.floor import running_floor
from benchmarks.rows import SLICE_SECONDS, Contest, Contestant
from benchmarks.subjects import Counted, warmd_counter

PARTS = 10_000
SHORT = 3
"""Parts of a stream of which only the first is timed."""


class Stream(Contest):
    """The floor's worker sends each part by itself, as a generator must, and waits for no credit."""

    key = "stream"
    title = f"A stream of {PARTS} small parts"
    unit = "parts/s"
    slow = True

    def open(self, stack: contextlib.ExitStack) -> None:
        floor = stack.enter_context(running_floor(parts=PARTS))
        _, counted = stack.enter_context(warmd_counter(1))
        self.floor = Contestant("forwarding floor", lambda: rate(floor.stream, PARTS))
        self.warmd = Contestant("warmd", lambda: rate(lambda parts: _consume(counted, parts), PARTS))

    def targets(self) -> list[Target]:
        ratio = self.to_floor("warmd")
        return [Target(f"{PARTS} parts: parts/s / forwarding floor", ratio, 0.5, at_most=False)]


class FirstPart(Contest):
    """The floor is a warm call to the same session."""

    key = "first-part"
    title = "The first part of a stream, p50"
    unit = "us"
    scale = 1e6

    def open(self, stack: contextlib.ExitStack) -> None:
        _, counted = stack.enter_context(warmd_counter(1))
        self.floor = Contestant("warmd, warm call", lambda: statistics.median(self._calls(counted)))
        self.warmd = Contestant("warmd, first part", lambda: statistics.median(self._firsts(counted)))

    def _calls(self, counted: Counted) -> list[float]:
        return call_times(counted.call, self.effort.calls, SLICE_SECONDS)

    def _firsts(self, counted: Counted) -> list[float]:
        times: list[float] = []
        for _ in range(self.effort.calls // 2):
            begun = time.perf_counter()
            parts = counted.stream(SHORT)
            next(parts)
            times.append(time.perf_counter() - begun)
            collections.deque(parts, maxlen=0)
        return times

    def targets(self) -> list[Target]:
        return [Target("first part of a stream / warm call", self.to_floor("warmd, first part"), 1.3)]


def _consume(counted: Counted, parts: int) -> None:
    got = sum(1 for _ in counted.stream(parts))
    if got != parts:
        raise AssertionError(f"{got} parts came of {parts}")
