"""What `warmd bench` measured, and what that comes to: pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from warmd.cli.picture import Turn, times_sooner

PHASES = ("queue", "spawn", "imports", "setup", "first")
"""What passes until the caller of a new session has an answer, in the order in which it happens."""
PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One call, the first of a new session or one to a warm one; times in seconds.

    A warm call has no phases: all of its wait is `first`.
    """

    queue: float = 0.0
    spawn: float = 0.0
    imports: float = 0.0
    setup: float = 0.0
    first: float
    """From the session's readiness until its caller had the first part, or the answer."""
    total: float
    """From asking to the end of the call."""
    parts: int

    @property
    def until_first(self) -> float:
        """What the caller waited for the first part, or the answer, from asking."""
        return self.queue + self.spawn + self.imports + self.setup + self.first

    @property
    def parts_per_second(self) -> float | None:
        """How fast parts came after the first one; None when there was but one."""
        return self.turn("").parts_per_second

    def turn(self, label: str) -> Turn:
        """The call as `picture` draws it."""
        start = self.queue + self.spawn
        return Turn(label, start, self.imports, self.setup, self.first, self.total, self.parts)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Calls to one session of which several were always under way."""

    under_way: int
    calls: int
    seconds: float

    @property
    def calls_per_second(self) -> float:
        return self.calls / self.seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """All samples of a bench: at least one cold, at least one warm."""

    cold: Sequence[Sample]
    warm: Sequence[Sample]
    crowd: Crowd | None = None

    @property
    def streams(self) -> bool:
        """Whether the function is a generator, as far as its calls show."""
        return any(sample.parts > 1 for sample in (*self.cold, *self.warm))

    @property
    def typical_cold(self) -> float:
        """The median of what a caller waits for the first answer of a new session, in seconds.

        Of an even number the lower of the two in the middle, which was measured, as p50 is.
        """
        return statistics.median_low(sample.until_first for sample in self.cold)

    @property
    def typical_warm(self) -> float:
        """The same in a warm session."""
        return statistics.median_low(sample.first for sample in self.warm)

    @property
    def warm_calls_per_second(self) -> float:
        """One after another, without what lies between two calls."""
        return len(self.warm) / sum(sample.total for sample in self.warm)

    @property
    def parts_per_second(self) -> float | None:
        """The median over the warm calls; None when none of them yields parts."""
        rates = [rate for sample in self.warm if (rate := sample.parts_per_second) is not None]
        return statistics.median_low(rates) if rates else None


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of all do not exceed.

    >>> [percentile([4, 1, 3, 2], percent) for percent in (1, 50, 51, 100)]
    [1, 2, 3, 4]
    """
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99 and the largest."""
    names = ["max" if percent == 100 else f"p{percent}" for percent in PERCENTILES]
    return dict(zip(names, (percentile(values, percent) for percent in PERCENTILES), strict=True))


def as_object(measured: Measured) -> dict[str, Any]:
    """Everything for `--json`; times in seconds."""
    crowd = measured.crowd
    return {
        "cold": {
            "median": {
                name: statistics.median_low(getattr(sample, name) for sample in measured.cold)
                for name in (*PHASES, "until_first")
            },
            "samples": [{**asdict(sample), "until_first": sample.until_first} for sample in measured.cold],
        },
        "warm": {
            "first": percentiles([sample.first for sample in measured.warm]),
            "total": percentiles([sample.total for sample in measured.warm]),
            "calls_per_second": measured.warm_calls_per_second,
            "parts_per_second": measured.parts_per_second,
            "samples": [
                {"first": sample.first, "total": sample.total, "parts": sample.parts}
                for sample in measured.warm
            ],
        },
        "concurrent": crowd and {**asdict(crowd), "calls_per_second": crowd.calls_per_second},
        "times_sooner": times_sooner(measured.typical_cold, measured.typical_warm),
    }
