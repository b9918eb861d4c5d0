"""What is wrong with an input, in words: told before the function is entered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from warmd.protocol.errors import quoted

MAX_PROBLEMS = 10
MAX_VALUE_CHARACTERS = 80
MOST_SHOWN = 1000
"""Elements or characters of a value whose beginning is to be shown."""


class Unfit(TypeError):
    """An input that a function cannot take.  Each problem begins with what it is about."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = len(problems) - MAX_PROBLEMS
        super().__init__("; ".join(problems[:MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else ""))
        self.problems = problems


class WrongKind(Unfit):
    """No dict, or no list, where one is needed."""


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """`: did you mean 'x'?`, or what there is, or nothing."""
    known = list(right)
    close = closest(wrong, known)
    if close is not None:
        return f": did you mean {close!r}?"
    return f": there is {', '.join(sorted(known)[:10])}" if known else ""


def closest(wrong: str, right: Sequence[str]) -> str | None:
    """The name that was most likely meant."""
    import difflib

    return next(iter(difflib.get_close_matches(wrong, right, 1)), None)


def shown(value: Any) -> str:
    """What was given, its type first."""
    if isinstance(value, dict):
        return f"a dict with the keys {safely_quoted(list(islice(value, MOST_SHOWN)), 200)}"
    return f"{type(value).__name__} {safely_quoted(value, MAX_VALUE_CHARACTERS)}"


def safely_quoted(value: Any, most: int = MAX_VALUE_CHARACTERS) -> str:
    """`quoted`, also of a value whose repr fails."""
    try:
        return quoted(_beginning(value), most)
    except Exception:
        return f"a {type(value).__name__}"


def _beginning(value: Any) -> Any:
    """As much of a large value as is shown: the text of the whole can take seconds."""
    if type(value) in (list, tuple, str, bytes) and len(value) > MOST_SHOWN:
        return value[:MOST_SHOWN]
    if type(value) is dict and len(value) > MOST_SHOWN:
        return dict(islice(value.items(), MOST_SHOWN))
    return value
