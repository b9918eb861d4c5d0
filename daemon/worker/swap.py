"""One function in the place of another: its code, wherever the old one is held, and what it has made.

A function that is there gets the code of the new one; so do the closures that it has made and that still
live, where they close over the same names.  Of a decorator's closure the function within gets it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from functools import cached_property
from types import CellType, CodeType, FunctionType
from typing import Any

# Asking for annotations that are not evaluated yet may raise.
_ANNOTATIONS = "__annotate__" if hasattr(FunctionType, "__annotate__") else "__annotations__"
_OF_A_FUNCTION = tuple(
    name
    for name in ("__code__", "__defaults__", "__kwdefaults__", "__doc__", "__type_params__", _ANNOTATIONS)
    if hasattr(FunctionType, name)
)


def take_over(old: Any, made: Any, inner: list[tuple[CodeType, CodeType]]) -> bool:
    """Whether the old function could be made what the new one is; adds to `inner` the codes within."""
    if old is made:
        return False
    if type(old) in (staticmethod, classmethod, property) and type(old) is type(made):
        for one in ("__func__", "fget", "fset", "fdel"):
            take_over(getattr(old, one, None), getattr(made, one, None), inner)
        return False
    if type(old) is not FunctionType or type(made) is not FunctionType:
        return False
    free = made.__code__.co_freevars
    same = (old.__module__, old.__qualname__) == (made.__module__, made.__qualname__)
    if not same or old.__globals__ is not made.__globals__ or old.__code__.co_freevars != free:
        return False
    if free not in ((), ("__class__",)):
        _take_over_within(old, made, inner)
        return False
    inner += codes_within(old.__code__, made.__code__)
    for name in _OF_A_FUNCTION:
        setattr(old, name, getattr(made, name))
    old.__dict__.clear()
    old.__dict__.update(made.__dict__)
    return True


def _take_over_within(old: FunctionType, made: FunctionType, inner: list[tuple[CodeType, CodeType]]) -> None:
    """A decorator's closures: who holds the old one calls what is in its cells."""
    for one, other in zip(old.__closure__ or (), made.__closure__ or (), strict=True):
        take_over(_content(one), _content(other), inner)


def codes_within(old: CodeType, made: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """The codes of functions that are made in it, of one name and place."""
    before, after = ([one for one in code.co_consts if isinstance(one, CodeType)] for code in (old, made))
    for name in {one.co_qualname for one in before}:
        former, newer = ([one for one in codes if one.co_qualname == name] for codes in (before, after))
        if len(former) == len(newer):
            for one, other in zip(former, newer, strict=True):
                yield one, other
                yield from codes_within(one, other)


def renew_inner(inner: Sequence[tuple[CodeType, CodeType]]) -> None:
    """Closures that live get the code of those that would be made now."""
    newer = {id(old): made for old, made in inner if old is not made and not _is_in_place(old, made)}
    olds = [old for old, _ in inner if id(old) in newer]
    for holder in gc.get_referrers(*olds) if olds else ():
        if type(holder) is not FunctionType or id(holder.__code__) not in newer:
            continue
        made = newer[id(holder.__code__)]
        if made.co_freevars == holder.__code__.co_freevars:
            holder.__code__ = made


def _is_in_place(old: CodeType, made: CodeType) -> bool:
    return old.co_firstlineno == made.co_firstlineno and same_code(old, made)


def replace_everywhere(pairs: Sequence[tuple[Any, Any]]) -> None:
    """In place of each first the second: in cells (those of `super()`), lists and dicts, as of registries."""
    # No closure over what is replaced may be in here: it would be in a cell of ours.
    instead = {id(made): old for made, old in pairs}
    ours = (pairs, instead, *pairs)
    for holder in gc.get_referrers(*(made for made, _ in pairs)) if pairs else ():
        if any(holder is one for one in ours):
            continue
        if type(holder) is CellType:
            holder.cell_contents = instead.get(id(holder.cell_contents), holder.cell_contents)
        elif type(holder) is dict:
            _replace_in_dict(holder, instead)
        elif type(holder) is list:
            _replace_in_list(holder, instead)
        elif type(holder) is set:
            for one in [one for one in holder if id(one) in instead]:
                holder.remove(one)
                holder.add(instead[id(one)])


def _replace_in_dict(holder: dict[Any, Any], instead: dict[int, Any]) -> None:
    owners: list[type] = []
    if "__module__" in holder and "__doc__" in holder:
        # A class keeps what it has found in its dict, and must be told.
        owners = [one for one in gc.get_referrers(holder) if isinstance(one, type)]
    for name in [name for name, value in holder.items() if id(value) in instead]:
        old = instead[id(holder[name])]
        if not owners:
            holder[name] = old
        for cls in owners:
            type.__setattr__(cls, name, old)


def _replace_in_list(holder: list[Any], instead: dict[int, Any]) -> None:
    for at in reversed(range(len(holder))):
        old = instead.get(id(holder[at]))
        if old is not None:
            holder[at : at + 1] = [] if any(one is old for one in holder) else [old]


# Comparing, and lines that moved.


def same_function(one: Any, other: Any, depth: int = 20) -> bool:
    """Whether two attributes do the same, wherever their lines are."""
    one, other = innermost(one), innermost(other)
    if not (isinstance(one, FunctionType) and isinstance(other, FunctionType)):
        return one is other or type(one) is type(other)
    if not (same_code(one.__code__, other.__code__) and _same_defaults(one, other)):
        return False
    # What a decorator that does not say so has wrapped.
    cells = zip(one.__closure__ or (), other.__closure__ or (), strict=True)
    inner = [(a, b) for x, y in cells for a, b in [(_content(x), _content(y))] if isinstance(a, FunctionType)]
    return depth == 0 or all(same_function(a, b, depth - 1) for a, b in inner)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _same_defaults(one: FunctionType, other: FunctionType) -> bool:
    def values(function: FunctionType) -> list[tuple[object, ...]]:
        named = (function.__kwdefaults__ or {}).items()
        return [(type(value), value) for value in function.__defaults__ or ()] + [
            (name, type(value), value) for name, value in named
        ]

    try:
        return bool(values(one) == values(other))
    except Exception:  # arrays, for one, do not say whether they are equal
        return False


def same_code(one: CodeType, other: CodeType) -> bool:
    """Whether two code objects do the same; their lines and columns are not looked at."""
    return (
        one.co_code == other.co_code
        and one.co_names == other.co_names
        and one.co_varnames == other.co_varnames
        and one.co_freevars == other.co_freevars
        and one.co_cellvars == other.co_cellvars
        and one.co_argcount == other.co_argcount
        and one.co_posonlyargcount == other.co_posonlyargcount
        and one.co_kwonlyargcount == other.co_kwonlyargcount
        and one.co_flags == other.co_flags
        and one.co_exceptiontable == other.co_exceptiontable
        and len(one.co_consts) == len(other.co_consts)
        and all(map(_same_constant, one.co_consts, other.co_consts))
    )


def _same_constant(one: Any, other: Any) -> bool:
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return same_code(one, other)
    # 1, 1.0 and True are equal, and -0.0 is 0.0.
    return type(one) is type(other) and repr(one) == repr(other)


def innermost(value: Any) -> Any:
    """The function within a method, a property or what a decorator has wrapped (and says so)."""
    for _ in range(20):
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        elif isinstance(value, property):
            value = value.fget
        elif isinstance(value, cached_property):
            value = value.func
        elif not isinstance(value, type) and hasattr(value, "__wrapped__"):
            value = value.__wrapped__
        else:
            break
    return value


