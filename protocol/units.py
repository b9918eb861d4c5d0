"""Durations and sizes as people write them: `90`, `"90s"`, `"1h30m"`, `"never"`, `"256MiB"`.

Numbers are seconds or bytes.  0 and -1 are refused: other tools give them opposite meanings (at
once, for ever, off), so here they mean nothing.
"""

from __future__ import annotations

import math
import re

NEVER = "never"
MOST_SECONDS = 10**12
"""Longer than any machine lives; a larger number is a mistake."""
LONGEST_WAIT_SECONDS = 3600.0
"""poll and epoll count milliseconds in 31 bits, which is 24 days: who waits longer looks up in between."""
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_BYTES = {
    "": 1, "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[dhms]))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)


def seconds(value: object, *, what: str, allow_never: bool = False) -> float:
    """A duration in seconds; `math.inf` for never.

    Takes a positive int or float, `"90"`, `"90s"`, `"5m"`, `"1h30m"`, `"500ms"`, and where
    `allow_never` is set `"never"` or inf.  Raises ValueError naming `what`, the value and the remedy.
    """
    never = ', or "never"' if allow_never else ""
    hint = f'give a positive number of seconds or a text such as "90s", "5m", "1h30m"{never}'
    result: float | None = None
    if isinstance(value, str):
        result = _spelled_seconds(value.strip())
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        # Compared before the conversion: float() of a huge int raises OverflowError.
        result = math.nan if MOST_SECONDS < value < math.inf else float(max(value, -1))
    if result is None or math.isnan(result):
        raise ValueError(f"{what}: {value!r} is not a duration; {hint}")
    if result == math.inf and not allow_never:
        raise ValueError(f"{what}: {value!r} is not possible here; {hint}")
    if result <= 0:
        raise ValueError(f"{what}: {value!r} is refused, 0 and negative values have no meaning here; {hint}")
    return result


def _spelled_seconds(text: str) -> float | None:
    if text.lower() == NEVER:
        return math.inf
    sign = -1.0 if text.startswith("-") else 1.0
    text = text.lstrip("-")
    if _NUMBER.fullmatch(text):
        return sign * float(text)
    if not _DURATION.fullmatch(text):
        return None
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def size_bytes(value: object, *, what: str) -> int:
    """A size in bytes, from an int or a text such as `"256MiB"` or `"8MB"`.  Raises ValueError."""
    hint = 'give a positive number of bytes or a text such as "256MiB" or "8MB"'
    result: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        result = value
    elif isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        unit = _BYTES.get(match[2]) if match else None
        if match and unit is not None and (number := float(match[1]) * unit) < math.inf:
            result = round(number)
        elif value.strip().startswith("-"):
            result = -1
    if result is None:
        raise ValueError(f"{what}: {value!r} is not a size; {hint}")
    if result <= 0:
        raise ValueError(f"{what}: {value!r} is refused, 0 and negative values have no meaning here; {hint}")
    return result


def spell_seconds(value: float) -> str:
    """The shortest exact spelling: 90.0 -> "1m30s", inf -> "never", 0.5 -> "0.5s"."""
    if value == math.inf:
        return NEVER
    if value != int(value) or value < 60:
        return f"{value:g}s"
    rest, text = int(value), ""
    for unit, length in (("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        text += f"{count}{unit}" if count else ""
    return text


def spell_bytes(value: int) -> str:
    """The shortest exact spelling: 268435456 -> "256MiB", 1000 -> "1000B"."""
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"
