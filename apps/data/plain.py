"""What polars computes, as values that JSON has too: numbers, texts, lists and dicts."""

from __future__ import annotations

import base64
import datetime
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from warmd.apps.data.engine import pl
from warmd.apps.options import did_you_mean

_LARGEST, _SMALLEST = 2**64 - 1, -(2**63)


def plain(value: Any) -> Any:
    """The value for JSON: NaN and infinities are None, times are ISO 8601, durations are seconds, bytes
    are base64, integers beyond 64 bits are text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if _SMALLEST <= value <= _LARGEST else str(value)
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | pl.Series):
        return [plain(item) for item in value]
    return str(value)


def dtypes(schema: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in schema.items()}


def records(frame: pl.DataFrame, limit: int | None) -> dict[str, Any]:
    """`{"columns": {name: type}, "rows": [{name: value}], "truncated": whether there are more}`."""
    shown = frame if limit is None else frame.head(limit)
    rows = [plain(row) for row in shown.iter_rows(named=True)]
    return {"columns": dtypes(frame.schema), "rows": rows, "truncated": len(rows) < frame.height}


def unknown(what: str, name: Any, known: Iterable[str]) -> str:
    """What is wrong with a name that there is not, and which was meant."""
    return f"unknown {what} {str(name)[:80]!r}: {did_you_mean(name, known)}"


def said(error: Exception) -> str:
    """What polars says of an error, without the plan of its query."""
    return str(error).partition("\n\nThis error occurred")[0]
