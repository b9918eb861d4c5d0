"""How often each key may ask: a bucket that fills with time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from warmd.http.keys import Caller
from warmd.http.problems import HttpProblem

BURST_SECONDS = 2.0
"""What was not asked in so long may be asked at once."""
MOST_KEYS = 10_000


class Rates:
    """At most `per_second` requests of one key in the long run, if its own rate is no other; 0: no limit."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, caller: Caller) -> None:
        """Count a request.  Raises HttpProblem when it is one too many."""
        rate = self.per_second if caller.rate is None else caller.rate
        if not rate:
            return
        now, most = self._clock(), max(1.0, rate * BURST_SECONDS)
        left, then = self._buckets.pop(caller.id, (most, now))
        left = min(most, left + (now - then) * rate)
        is_allowed = left >= 1.0
        self._buckets[caller.id] = (left - 1.0 if is_allowed else left, now)
        if len(self._buckets) > MOST_KEYS:
            self._buckets.popitem(last=False)
        if not is_allowed:
            seconds = (1.0 - left) / rate
            which = "--rate of the gateway" if caller.rate is None else "the rate of this key"
            raise HttpProblem(
                "RATE_LIMITED",
                f"this key asks more than {rate:g} times a second ({which}): wait {seconds:.1f} s",
                retry_seconds=seconds,
            )
