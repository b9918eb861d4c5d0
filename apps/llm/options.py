"""How a text is to be made: options by transformers' names, with the defaults that a model brings along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warmd.apps.generation.options import (
    DEFAULT_MAX_TOKENS,
    Options,
    checked_option,
    refuse_unknown,
    whole_number,
)

OPTIONS = {
    "max_new_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "seed": "seed",
    "stop": "stop",
}
"""The field of `Options` that each stands for."""
_TOP_K = 50
"""What transformers takes where a model says nothing."""


def defaults_of(generation: Any) -> dict[str, Any]:
    """What a model's generation_config.json says, by the names of `OPTIONS`.

    As in transformers the likeliest token is taken each time, unless it says `do_sample`.
    """
    said = {name: getattr(generation, name, None) for name in OPTIONS if name not in ("seed", "stop")}
    sampled = bool(getattr(generation, "do_sample", False))
    otherwise = {
        "max_new_tokens": DEFAULT_MAX_TOKENS,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": _TOP_K,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }
    found = {name: otherwise[name] if said[name] is None else said[name] for name in otherwise}
    return found if sampled else {**found, "temperature": 0.0}


def checked(given: Mapping[str, Any], defaults: Mapping[str, Any], context: int) -> Options:
    """The options of a call to a model with `context` tokens; None means the default.

    Raises TypeError for an option that there is not, and ValueError for values out of range.
    """
    refuse_unknown(given, OPTIONS, "option")
    wanted = {name: value for name, value in given.items() if value is not None}
    length = wanted.pop("max_new_tokens", min(defaults["max_new_tokens"], context // 2))
    remedy = ": it must fit into 'max_context' of setup, together with the prompt"
    values: dict[str, Any] = {"max_tokens": whole_number("max_new_tokens", length, 1, context - 1, remedy)}
    for name, value in {**defaults, **wanted}.items():
        if name != "max_new_tokens":
            values[OPTIONS[name]] = checked_option(OPTIONS[name], value, name)
    return Options(**values)
