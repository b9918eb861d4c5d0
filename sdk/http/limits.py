"""How often each key may ask: a bucket that fills with time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from warmd.http.problems import HttpProblem

BURST_SECONDS = 2.0
"""What was not asked in so long may be asked at once."""
MOST_KEYS = 10_000


class Rates:
    """At most `per_second` requests of one key in the long run; 0 for no limit."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._clock = clock
        self._most = max(1.0, per_second * BURST_SECONDS)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, key: str) -> None:
        """Count a request.  Raises HttpProblem when it is one too many."""
        if not self.per_second:
            return
        now = self._clock()
        left, then = self._buckets.pop(key, (self._most, now))
        left = min(self._most, left + (now - then) * self.per_second)
        self._buckets[key] = (max(left - 1.0, left if left < 1.0 else 0.0), now)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        if left < 1.0:
            seconds = (1.0 - left) / self.per_second
            raise HttpProblem(
                "RATE_LIMITED",
                f"this key asks more than {self.per_second:g} times a second (--rate): wait {seconds:.1f} s",
                retry_seconds=seconds,
            )
