"""How much of a stream may be on its way to who reads it: so many parts, and so many bytes of them."""

from __future__ import annotations

from collections import deque


class Window:
    """Credit comes for the parts that were taken, in their order; so their bytes are known here."""

    def __init__(self, parts: int, most_bytes: int | None) -> None:
        self._credit = parts
        self._most_bytes = most_bytes
        """None: parts alone count."""
        self._sizes: deque[int] = deque()
        self._bytes = 0

    @property
    def is_open(self) -> bool:
        """Whether one more part may be sent; one of any size may go when nothing else is on its way."""
        return self._credit > 0 and (self._most_bytes is None or self._bytes < self._most_bytes)

    def sent(self, size: int) -> None:
        self._credit -= 1
        if self._most_bytes is not None:
            self._sizes.append(size)
            self._bytes += size

    def more(self, parts: int) -> None:
        """So many parts were taken."""
        self._credit += parts
        for _ in range(min(parts, len(self._sizes))):
            self._bytes -= self._sizes.popleft()
