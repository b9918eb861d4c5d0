"""Hypothesis strategies for whole messages, built from their type hints: a new field or message is
tested from the moment it is declared."""

from __future__ import annotations

import types
import typing
from dataclasses import fields
from typing import Any

from hypothesis import strategies as st

# msgpack carries UTF-8; a lone surrogate is refused when packing (tested on its own).
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    str: TEXT,
    bytes: st.binary(max_size=20),
}
PLAIN_VALUES = st.recursive(
    st.none() | st.one_of(*SCALARS.values()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.binary(max_size=300)


def messages_of(cls: type) -> st.SearchStrategy[Any]:
    """Any message of this class."""
    hints = typing.get_type_hints(cls)
    bodies = getattr(cls, "FRAMES", ())
    return st.builds(
        cls, **{f.name: BODIES if f.name in bodies else values_of(hints[f.name]) for f in fields(cls)}
    )


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that a header field of this type may have."""
    if isinstance(hint, typing.NewType):
        return values_of(hint.__supertype__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return PLAIN_VALUES
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(values_of(part) for part in arguments))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=3)
    if origin is tuple:
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=3)
    if hasattr(hint, "_fields"):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{name: values_of(hints[name]) for name in hint._fields})
    return st.none() if hint is types.NoneType else SCALARS[hint]
