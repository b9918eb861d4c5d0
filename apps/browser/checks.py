"""Checks of what actions are given."""

from __future__ import annotations

import math
from typing import Any

MOST_SECONDS = 86400


def checked_seconds(timeout_seconds: float) -> float:
    """Raises TypeError and ValueError for what cannot be a time to wait."""
    if isinstance(timeout_seconds, bool) or not isinstance(timeout_seconds, int | float):
        raise TypeError(f"timeout_seconds: expected a number, got {str(timeout_seconds)[:40]!r}")
    if not (0 < timeout_seconds <= MOST_SECONDS) or math.isnan(timeout_seconds):
        raise ValueError(f"timeout_seconds is {timeout_seconds:g}, allowed is more than 0, to {MOST_SECONDS}")
    return float(timeout_seconds)


def checked_text(name: str, value: Any, *, empty: bool = False) -> str:
    """Raises TypeError and ValueError for what is no text, or an empty one."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a text, got {str(value)[:80]!r}")
    if not value and not empty:
        raise ValueError(f"{name}: expected a text, got an empty one")
    return value
