"""Times as HTTP's clients read them: of the wall, in UTC."""

from __future__ import annotations

import datetime
import time


def now() -> float:
    """The Unix time, which is for showing alone: clocks jump."""
    return time.time()


def moment(seconds: float | None) -> str | None:
    """A Unix time in ISO 8601, to the millisecond."""
    if seconds is None:
        return None
    then = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")
