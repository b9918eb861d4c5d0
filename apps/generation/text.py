"""Tokens become text, piece by piece: no character is cut, and nothing of a stop string gets out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_INCOMPLETE = "\ufffd"
"""What a decoder makes of the first bytes of a character."""


class Detokenizer:
    """Gives the text that each token adds.

    What a token means may depend on those before it (a space, the rest of a character), so a few
    are decoded again each time: those since the last piece but one.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._start = 0
        self._told = 0
        """So many of the tokens, from the first on, are in pieces that were given."""

    def add(self, token: int) -> str:
        """What can be said now; empty while a character is not complete."""
        self._tokens.append(token)
        piece = self._untold()
        if not piece or piece.endswith(_INCOMPLETE):
            return ""
        self._start, self._told = self._told, len(self._tokens)
        return piece

    def rest(self) -> str:
        """What is left at the end, without a character that was never completed."""
        return self._untold().rstrip(_INCOMPLETE)

    def _untold(self) -> str:
        known = self._decode(self._tokens[self._start : self._told])
        return self._decode(self._tokens[self._start :])[len(known) :]


class StopWatch:
    """Lets text through up to the first of some strings; keeps back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """What may be said of all so far; from then on `stopped` tells whether a string was found."""
        text = self._held + piece
        found = [at for at in map(text.find, self._stops) if at >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was kept back and is no stop string after all."""
        return self._held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
