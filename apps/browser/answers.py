"""What actions give back: plain values, whatever a page has put into them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

MOST_INTEGER = 2**64


def plain(value: Any) -> Any:
    """The value without what cannot be sent: text for dates, huge integers and things of the page.

    A page's text may hold halves of characters, which no encoding has.
    """
    if value is None or isinstance(value, bool | float | bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int):
        return value if -MOST_INTEGER // 2 <= value < MOST_INTEGER else str(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)
