"""What is computed of measured times: ratios of figures that were taken in turns, and verdicts."""

from __future__ import annotations

import collections
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

IN_FLIGHT = 64
"""Unanswered calls of a pipeline."""


def paired_ratio(values: list[float], others: list[float]) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(one / other for one, other in zip(values, others, strict=True))


def call_times(call: Callable[[], object], calls: int, seconds: float = float("inf")) -> list[float]:
    """Seconds of each of at most `calls` calls, one after the other; after `seconds` no other begins."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    for _ in range(calls):
        begun = time.perf_counter()
        if times and begun >= end:
            break
        call()
        times.append(time.perf_counter() - begun)
    return times


def rate(work: Callable[[int], object], count: int) -> float:
    """How many of `count` a second `work(count)` does."""
    begun = time.perf_counter()
    work(count)
    return count / (time.perf_counter() - begun)


def pipelined(begin: Callable[[], Any], calls: int) -> None:
    """`calls` calls, at most `IN_FLIGHT` unanswered; `begin` starts one and returns what has `result()`."""
    under_way: collections.deque[Any] = collections.deque()
    for _ in range(calls):
        if len(under_way) == IN_FLIGHT:
            under_way.popleft().result()
        under_way.append(begin())
    for last in under_way:
        last.result()


@dataclass(frozen=True)
class Target:
    """One line of the verdict; `value` is None for what could not be measured here."""

    text: str
    value: float | None
    limit: float
    at_most: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        if self.value is None:
            return False
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def verdict(self) -> str:
        """One of "met", "MISSED" and "not measured"."""
        if self.value is None:
            return "not measured"
        return "met" if self.met else "MISSED"
