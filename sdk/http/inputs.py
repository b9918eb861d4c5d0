"""Texts in an input, or an output, that may be addresses of files."""

from __future__ import annotations

from typing import Any

from warmd.http.addresses import MARK


def with_mark(value: Any) -> list[str]:
    """All texts in it that may be addresses; in one pass, for most inputs have none."""
    found, left = [], [[value]]
    while left:
        some: Any = left.pop()
        for item in some.values() if type(some) is dict else some:
            kind = type(item)
            if kind is str:
                if MARK in item:
                    found.append(item)
            elif kind is dict or kind is list:
                left.append(item)
    return found


def replaced(value: Any, paths: dict[str, str]) -> Any:
    """It with other texts for some.  Raises RecursionError."""
    kind = type(value)
    if kind is str:
        return paths.get(value, value)
    if kind is list:
        return [replaced(item, paths) for item in value]
    if kind is dict:
        return {key: replaced(item, paths) for key, item in value.items()}
    return value
