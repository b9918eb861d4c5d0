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
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from warmd.daemon.worker.dirty import ClassEdit
from warmd.daemon.worker.swap import (
    codes_within,
    innermost,
    renew_inner,
    replace_everywhere,
    same_code,
    take_over,
)

_PLAIN_METACLASSES = (type, abc.ABCMeta)
_OF_THE_TYPE = (GetSetDescriptorType, MemberDescriptorType)
_FIXED = frozenset({"__dict__", "__weakref__", "__slots__", "_abc_impl"})
"""Of a class, and no statement's."""
_MISSING = object()

Edits = Mapping[tuple[str, str], ClassEdit]
"""By module and qualified name."""


class Reopening:
    """Classes and functions of some modules, from the first change to the last one or back again."""

    def __init__(self, namespaces: Mapping[str, dict[str, Any]], edits: Edits) -> None:
        self._namespaces = namespaces
        self._before = {name: dict(namespace) for name, namespace in namespaces.items()}
        self._edits = edits
        known = [one for before in self._before.values() for one in before.values() if isinstance(one, type)]
        self._children = {
            base: set(map(id, _children_of(base)))
            for cls in known
            for base in cls.__bases__
            if base is not object
        }
        """What each class was inherited by."""
        self._classes: list[tuple[type, dict[str, Any], tuple[type, ...]]] = []
        """As they were."""
        self.replaced: list[type] = []
        """Classes that could not be changed in place, as they were."""

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
                    self.replaced.append(old)

    def was(self, cls: type, name: str) -> Any:
        """An attribute of the class itself before its change; None where it had none."""
        for changed, members, _ in self._classes:
            if changed is cls:
                return members.get(name)
        return vars(cls).get(name)

    def commit(self) -> None:
        """The functions that are there get the code of the new ones.  Does not fail."""
        taken: list[tuple[Any, Any]] = []
        inner: list[tuple[CodeType, CodeType]] = []
        for module, before in self._before.items():
            namespace = self._namespaces[module]
            for name, made in list(namespace.items()):
                if take_over(before.get(name), made, inner):
                    namespace[name] = before[name]
                    taken.append((made, before[name]))
        for cls, members, _ in self._classes:
            for name, made in list(vars(cls).items()):
                if take_over(members.get(name), made, inner):
                    type.__setattr__(cls, name, members[name])
        replace_everywhere(taken)
        renew_inner(inner)

    def undo(self) -> None:
        """All is as it was before."""
        self._remove_unfinished()
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

    def _remove_unfinished(self) -> None:
        """Classes that were made and have not become the ones that are there, as after an interrupt."""
        for base, before in self._children.items():
            for made in [one for one in _children_of(base) if id(one) not in before]:
                old = self._counterpart(self._namespaces.get(made.__module__, {}), made.__qualname__, made)
                if old is not None:
                    replace_everywhere([(made, old)])
                    _detach(made)

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
        replace_everywhere([(made, old)])
        _detach(made)
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
        is_kept = name in kept and name in members
        if is_kept and edit is not None and edit.is_decorated:
            is_kept = type(members[name]) is type(value) and not hasattr(value, "__get__")
        if not is_kept:
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


def _children_of(cls: type) -> list[type]:
    children: list[type] = type.__subclasses__(cls)  # also of a metaclass
    return children


def _detach(made: type) -> None:
    """Or it would be among `__subclasses__()` until the collector comes."""
    with contextlib.suppress(TypeError):  # a base of C, which seldom asks
        made.__bases__ = (_Nowhere,)


class _Nowhere:
    pass


def move_lines(codes_of: Sequence[tuple[Mapping[str, Any], str, CodeType]]) -> None:
    """Functions that nothing happened to stand in other lines of their file now.

    Of each module its namespace, its name, and the code of its whole text.
    """
    inner: list[tuple[CodeType, CodeType]] = []
    for namespace, module, code in codes_of:
        codes: dict[str, list[CodeType]] = {}
        _gather(code, codes)
        _move(namespace, module, partial(_move_function, codes=codes, inner=inner), 10)
    renew_inner(inner)


def _gather(code: CodeType, codes: dict[str, list[CodeType]]) -> None:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            codes.setdefault(inner.co_qualname, []).append(inner)
            _gather(inner, codes)


def _move(
    members: Mapping[str, Any], module: str, move: Callable[[FunctionType], None], depth: int
) -> None:
    for value in list(members.values()):
        if isinstance(value, type):
            if value.__module__ == module and depth:
                _move(vars(value), module, move, depth - 1)
            continue
        parts = (value.fget, value.fset, value.fdel) if isinstance(value, property) else (value,)
        for part in parts:
            function = innermost(part)
            if isinstance(function, FunctionType) and function.__module__ == module:
                move(function)


def _move_function(
    function: FunctionType, codes: Mapping[str, list[CodeType]], inner: list[tuple[CodeType, CodeType]]
) -> None:
    for code in codes.get(function.__code__.co_qualname, []):
        if same_code(function.__code__, code):
            inner += codes_within(function.__code__, code)
            function.__code__ = code
            return
