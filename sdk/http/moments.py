"""Times as HTTP's clients read them: of the wall, in UTC."""

from __future__ import annotations

import time
from functools import lru_cache


def now() -> float:
    """The Unix time, which is for showing alone: clocks jump."""
    return time.time()


def moment(seconds: float | None) -> str | None:
    """A Unix time in ISO 8601, to the millisecond."""
    if seconds is None:
        return None
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{_to_the_second(whole)}.{milliseconds:03d}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
