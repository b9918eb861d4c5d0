"""How an answer is to be made: the options of one call, checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from warmd.apps.options import did_you_mean

DEFAULT_MAX_TOKENS = 256
MAX_STOPS = 16


@dataclass(frozen=True, slots=True)
class Options:
    """What both engines understand, in llama.cpp's terms and in its order: penalties, top_k, top_p, min_p,
    temperature."""

    max_tokens: int
    temperature: float = 0.2
    """0 takes the likeliest token each time."""
    top_p: float = 0.9
    top_k: int = 40
    """0: all tokens."""
    min_p: float = 0.05
    seed: int | None = None
    """None: another one each time."""
    stop: tuple[str, ...] = ()
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


OPTIONS = frozenset(Options.__dataclass_fields__)

_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 5.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.1, 10.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_WHOLE = {"top_k": 2**31 - 1, "seed": 2**32 - 1}
"""From 0 to these."""


def checked_options(given: Mapping[str, Any], context: int) -> Options:
    """The options of a call to a model with `context` tokens; None means the default.

    Raises TypeError for an option that there is not, and ValueError for values out of range.
    """
    refuse_unknown(given, OPTIONS, "option")
    wanted = {name: value for name, value in given.items() if value is not None}
    length = wanted.pop("max_tokens", min(DEFAULT_MAX_TOKENS, context // 2))
    remedy = ": a larger 'context' can be given to setup"
    values: dict[str, Any] = {"max_tokens": whole_number("max_tokens", length, 1, context - 1, remedy)}
    return Options(**values, **{name: checked_option(name, value) for name, value in wanted.items()})


def checked_option(field: str, value: Any, name: str = "") -> Any:
    """The value of a field of `Options`, but `max_tokens`; errors have `name`, by default the field's.

    Raises ValueError.
    """
    if field == "stop":
        return _stops(value)
    if field in _WHOLE:
        return whole_number(name or field, value, 0, _WHOLE[field])
    return number(name or field, value, *_RANGES[field])


def refuse_unknown(given: Iterable[Any], known: Collection[str], what: str) -> None:
    """Raises TypeError for the first name that is not known, with what it may have meant."""
    for name in given:
        if name not in known:
            raise TypeError(f"unknown {what} {str(name)[:40]!r}: {did_you_mean(name, sorted(known))}")


def number(name: str, value: Any, least: float, most: float) -> float:
    """`value` as a float from `least` to `most`.  Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"{name} is {str(value)[:40]!r}, it must be a number from {least:g} to {most:g}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {value:g}, allowed are {least:g} to {most:g}")
    return float(value)


def whole_number(name: str, value: Any, least: int, most: int, remedy: str = "") -> int:
    """`value` as a whole number from `least` to `most`.  Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {str(value)[:40]!r}, it must be a whole number from {least} to {most}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}, allowed are {least} to {most}{remedy}")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else value
    if not isinstance(stops, list | tuple) or not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"stop is {str(value)[:40]!r}, it must be a text or a list of texts, none empty")
    if len(stops) > MAX_STOPS:
        raise ValueError(f"stop has {len(stops)} texts, allowed are {MAX_STOPS}: leave out the rarest")
    return tuple(stops)
