"""What an app's `setup` is given: a dict whose keys are the parameters of one function."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def configure(function: Callable[..., Any], config: Mapping[str, Any] | None) -> None:
    """Calls `function` with the options in `config`.

    Raises TypeError for an option that it does not have, with what it has.
    """
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"setup takes a dict of options, not {str(config)[:40]!r}")
    known = list(inspect.signature(function).parameters)
    for name in config or {}:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise TypeError(f"setup has no option {str(name)[:40]!r}: {hint}")
    function(**(config or {}))


def positive(name: str, value: Any) -> int:
    """A whole number from 1 on.  Raises ValueError that names the option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}, allowed are whole numbers from 1 on")
    return value


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Raises ValueError that names the option and what is allowed."""
    if value not in allowed:
        raise ValueError(f"{name} is {str(value)[:40]!r}, allowed are {', '.join(allowed)}")
    return str(value)
