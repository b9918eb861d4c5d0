"""A `class` or `def` that is executed a second time changes the object that is there.

A class can be exchanged in two ways.  Giving each instance the new class (`instance.__class__ = New`)
asks for all instances to be found, and leaves the old class in every other place that knows it: what the
state holds as `kind`, other modules, pickles; `isinstance` then answers wrongly.  Changed in place, the
class stays what it was to all of them, its instances (the app's and those in its state) have the new
methods at once, and there is nobody to find.  So that is done, while the module is executed: the `class`
statement itself gives back the class that is there, and whatever follows it (decorators, subclasses,
instances made at import) never sees another.  The cell by which the new methods' `super()` knows
their class is made to hold that one.

The same for functions: the one that is there gets the new code, so that bound methods and callbacks
which the state holds have it too.  Where that cannot be done (other slots, another metaclass, closures)
the new object replaces the old one, and only new code sees it.
"""

from __future__ import annotations

import abc
import builtins
import contextlib
import gc
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import CellType, CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from warmd.daemon.worker.dirty import ClassEdit

_PLAIN_METACLASSES = (type, abc.ABCMeta)
_OF_THE_TYPE = (GetSetDescriptorType, MemberDescriptorType)
_FIXED = frozenset({"__dict__", "__weakref__", "__slots__", "_abc_impl"})
"""Of a class, and no statement's."""
# Asking for annotations that are not evaluated yet may raise.
_ANNOTATIONS = "__annotate__" if hasattr(FunctionType, "__annotate__") else "__annotations__"
_OF_A_FUNCTION = tuple(
    name
    for name in ("__code__", "__defaults__", "__kwdefaults__", "__doc__", "__type_params__", _ANNOTATIONS)
    if hasattr(FunctionType, name)
)
_MISSING = object()

Edits = Mapping[tuple[str, str], ClassEdit]
"""By module and qualified name."""


class Reopening:
    """Classes and functions of some modules, from the first change to the last one or back again."""

    def __init__(self, namespaces: Mapping[str, dict[str, Any]], edits: Edits) -> None:
        self._namespaces = namespaces
        self._before = {name: dict(namespace) for name, namespace in namespaces.items()}
        self._edits = edits
        self._classes: list[tuple[type, dict[str, Any], tuple[type, ...]]] = []
        """As they were."""
        self.replaced: list[str] = []
        """Classes that could not be changed in place."""

    @contextlib.contextmanager
    def class_statements(self) -> Iterator[None]:
        """Within this, `class` statements at the top of the modules change the classes that are there."""
        build: Any = builtins.__build_class__

        def reopen(body: Any, name: str, /, *bases: Any, **options: Any) -> Any:
            made = build(body, name, *bases, **options)
            old = self._counterpart(body.__globals__, body.__code__.co_qualname, made)
            return old if old is not None and self._reopen(old, made) else made

        builtins.__build_class__ = reopen
        try:
            yield
        finally:
            builtins.__build_class__ = build

    def settle(self) -> None:
        """After the modules were executed: what a decorator has made another class of."""
        for module, before in self._before.items():
            namespace = self._namespaces[module]
            for name, old in before.items():
                made = namespace.get(name)
                if made is old or not (isinstance(old, type) and isinstance(made, type)):
                    continue
                if not module == old.__module__ == made.__module__ or old.__qualname__ != made.__qualname__:
                    continue
                if self._reopen(old, made):
                    namespace[name] = old
                else:
                    self.replaced.append(name)

    def was(self, cls: type, name: str) -> Any:
        """An attribute of the class itself before its change; None where it had none."""
        for changed, members, _ in self._classes:
            if changed is cls:
                return members.get(name)
        return vars(cls).get(name)

    def commit(self) -> None:
        """The functions that are there get the code of the new ones.  Does not fail."""
        for module, before in self._before.items():
            namespace = self._namespaces[module]
            for name, made in list(namespace.items()):
                if _take_over(before.get(name), made):
                    namespace[name] = before[name]
        for cls, members, _ in self._classes:
            for name, made in list(vars(cls).items()):
                if _take_over(members.get(name), made):
                    type.__setattr__(cls, name, members[name])

    def undo(self) -> None:
        """All is as it was before."""
        for cls, members, bases in reversed(self._classes):
            if cls.__bases__ != bases:
                cls.__bases__ = bases
            for name in [name for name in vars(cls) if name not in members]:
                type.__delattr__(cls, name)
            for name, value in members.items():
                if vars(cls).get(name, _MISSING) is not value:
                    type.__setattr__(cls, name, value)
        for module, before in self._before.items():
            namespace = self._namespaces[module]
            for name in [name for name in namespace if name not in before]:
                del namespace[name]
            namespace.update(before)

    def _counterpart(self, namespace: dict[str, Any], qualified: str, made: Any) -> type | None:
        """The class that a class statement of this name has made the last time."""
        module = namespace.get("__name__", "")
        if self._namespaces.get(module) is not namespace or not isinstance(made, type):
            return None
        first, *rest = qualified.split(".")
        found = self._before[module].get(first)
        for step in rest:
            found = vars(found).get(step) if isinstance(found, type) else None
        known = isinstance(found, type) and (found.__module__, found.__qualname__) == (module, qualified)
        return found if known else None

    def _reopen(self, old: type, made: type) -> bool:
        """Make the old class what the new one is; False where that cannot be."""
        edit = self._edits.get((old.__module__, old.__qualname__))
        only_methods = edit is not None and edit.only_methods
        if type(old) is not type(made) or not (only_methods or type(old) in _PLAIN_METACLASSES):
            return False
        if _layout(old) != _layout(made):
            return False
        members, bases = dict(vars(old)), old.__bases__
        # An interrupt may come after each step, and all that was begun is to be undone.
        self._classes.append((old, members, bases))
        if bases != made.__bases__:
            try:
                old.__bases__ = made.__bases__
            except TypeError:
                self._classes.pop()
                return False
        if type(old) in _PLAIN_METACLASSES:
            _copy_members(old, made, members, edit)
        else:
            assert edit is not None
            _copy_methods(old, made, edit)
        _replace_everywhere(made, old)
        return True


def _layout(cls: type) -> tuple[object, ...]:
    """What instances of two classes must have alike to be each other's."""
    slots = cls.__dict__.get("__slots__", ())
    return (
        sorted([slots] if isinstance(slots, str) else slots),
        cls.__basicsize__,
        cls.__itemsize__,
        cls.__dictoffset__,
        cls.__weakrefoffset__,
        cls.__dict__.get("_fields"),
    )


def _copy_members(old: type, made: type, members: Mapping[str, Any], edit: ClassEdit | None) -> None:
    kept = frozenset() if edit is None else edit.kept
    new = {name: value for name, value in vars(made).items() if not _is_fixed(name, value)}
    for name, value in new.items():
        if name not in kept or name not in members:
            type.__setattr__(old, name, value)
    for name, value in members.items():
        if name in new or _is_fixed(name, value):
            continue
        gone = name in edit.gone if edit is not None else hasattr(value, "__get__")
        # What a decorator has added it must find missing, to add it again.
        if gone or (name.startswith("__") and name.endswith("__")):
            type.__delattr__(old, name)


def _is_fixed(name: str, value: Any) -> bool:
    return name in _FIXED or isinstance(value, _OF_THE_TYPE)


def _copy_methods(old: type, made: type, edit: ClassEdit) -> None:
    for name in edit.methods & vars(made).keys():
        type.__setattr__(old, name, vars(made)[name])
    for name in edit.gone & vars(old).keys():
        type.__delattr__(old, name)


def _replace_everywhere(made: type, old: type) -> None:
    """In the cells of `super()`, and in what `__init_subclass__` and metaclasses keep of their classes."""
    # No function in here: `made` would be in a cell of ours.
    for holder in gc.get_referrers(made):
        if type(holder) is CellType:
            holder.cell_contents = old
        elif type(holder) is dict:
            for name in list(holder):
                if holder[name] is made:
                    holder[name] = old
        elif type(holder) is list:
            for at in reversed(range(len(holder))):
                if holder[at] is made:
                    holder[at : at + 1] = [] if _holds(holder, old) else [old]


def _holds(holder: list[Any], wanted: object) -> bool:
    return any(one is wanted for one in holder)


def _take_over(old: Any, made: Any) -> bool:
    """Whether the old function could be made what the new one is."""
    if old is made or type(old) is not FunctionType or type(made) is not FunctionType:
        return False
    free = made.__code__.co_freevars
    same = (old.__module__, old.__qualname__) == (made.__module__, made.__qualname__)
    if not same or old.__globals__ is not made.__globals__ or old.__code__.co_freevars != free:
        return False
    if free not in ((), ("__class__",)):
        return False
    for name in _OF_A_FUNCTION:
        setattr(old, name, getattr(made, name))
    old.__dict__.clear()
    old.__dict__.update(made.__dict__)
    return True


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


def move_lines(namespace: Mapping[str, Any], module: str, code: CodeType) -> None:
    """Functions that nothing happened to stand in other lines of their file now."""
    codes: dict[str, list[CodeType]] = {}
    _gather(code, codes)
    _move(namespace, module, codes, 10)


def _gather(code: CodeType, codes: dict[str, list[CodeType]]) -> None:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            codes.setdefault(inner.co_qualname, []).append(inner)
            _gather(inner, codes)


def _move(members: Mapping[str, Any], module: str, codes: dict[str, list[CodeType]], depth: int) -> None:
    for value in list(members.values()):
        if isinstance(value, type):
            if value.__module__ == module and depth:
                _move(vars(value), module, codes, depth - 1)
            continue
        parts = (value.fget, value.fset, value.fdel) if isinstance(value, property) else (value,)
        for part in parts:
            function = innermost(part)
            if isinstance(function, FunctionType) and function.__module__ == module:
                _move_function(function, codes.get(function.__code__.co_qualname, []))


def _move_function(function: FunctionType, candidates: list[CodeType]) -> None:
    for code in candidates:
        if same_code(function.__code__, code):
            function.__code__ = code
            return


