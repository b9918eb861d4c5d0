"""Checks of what an app is given, with errors that name the value, what is allowed, and what was meant."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MOST_SHOWN = 20


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Which of the known names was meant, or else which there are."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    if not names:
        return "there is none"
    return f"there are {', '.join(names[:MOST_SHOWN])}" + (", ..." if len(names) > MOST_SHOWN else "")


def configure(function: Callable[..., Any], config: Mapping[str, Any] | None) -> None:
    """Calls `function` with what `setup` was given: a dict whose keys are its parameters.

    Raises TypeError for an option that it does not have, with what it has.
    """
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"setup takes a dict of options, not {str(config)[:40]!r}")
    known = list(inspect.signature(function).parameters)
    for name in config or {}:
        if name not in known:
            raise TypeError(f"setup has no option {str(name)[:40]!r}: {did_you_mean(name, known)}")
    function(**(config or {}))


def positive(name: str, value: Any) -> int:
    """A whole number from 1 on.  Raises ValueError that names the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {repr(value)[:40]}, allowed are whole numbers from 1 on")
    return value


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Raises ValueError that names the option and what is allowed."""
    if value not in allowed:
        raise ValueError(f"{name} is {str(value)[:40]!r}, allowed are {', '.join(allowed)}")
    return str(value)
