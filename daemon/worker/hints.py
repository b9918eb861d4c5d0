"""Annotations of functions and classes, as far as they can be resolved: the rest is as if not there."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

RETURN = "return"


def hints_of(holder: Any, owner: type | None = None) -> dict[str, Any]:
    """The annotations of a function or class by name, `return` included.

    Texts are evaluated where the function was defined, and then among the names of its class, `owner`.
    """
    names = {} if owner is None else dict(vars(owner))
    for local in (None, names):
        try:
            return typing.get_type_hints(holder, localns=local, include_extras=True)
        except Exception:  # a name that is not there, or whatever an annotation does
            continue
    return _one_by_one(holder, names)


def _one_by_one(holder: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    inner = inspect.unwrap(holder)
    space = getattr(inner, "__globals__", {})
    found = {}
    for name, annotation in getattr(inner, "__annotations__", {}).items():
        try:
            found[name] = eval(annotation, space, dict(names)) if isinstance(annotation, str) else annotation
        except Exception:  # the same, of this one
            continue
    return found


def without_extras(annotation: Any) -> Any:
    """`X` of `Annotated[X, ...]`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)
