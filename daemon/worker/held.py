"""Whether the state of a session has something of a class that is another one now."""

from __future__ import annotations

import gc
from collections.abc import Collection
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

MOST_LOOKED_AT = 300_000
_NOT_STATE = (ModuleType, CodeType, FrameType, BuiltinFunctionType)


def held_of(state: Any, classes: Collection[type]) -> type | None:
    """One of the classes that the state, or an object in it, is or has an instance of.

    What only a module, a class or a running function holds is not looked at, nor is what lies beyond
    so many objects.
    """
    wanted = {id(cls): cls for cls in classes}
    seen, found = {id(state)}, [state]
    while found and len(seen) < MOST_LOOKED_AT:
        one = found.pop()
        if isinstance(one, type):
            if id(one) in wanted:
                return one
            continue
        former = next((wanted[id(base)] for base in type(one).__mro__ if id(base) in wanted), None)
        if former is not None:
            return former
        for inner in _within(one):
            if id(inner) not in seen and not isinstance(inner, _NOT_STATE):
                seen.add(id(inner))
                found.append(inner)
    return None


def _within(holder: Any) -> list[Any]:
    if isinstance(holder, FunctionType):  # not its globals
        return [*(holder.__closure__ or ()), holder.__defaults__, holder.__kwdefaults__]
    # Every object has its class, which is no state of it.
    return [one for one in gc.get_referents(holder) if one is not type(holder)]
