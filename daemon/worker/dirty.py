"""Which statements of a module that was edited must be executed anew, and which names they make anew.

Those that were edited, and those that what they have made may depend on: a statement depends on each name
that stands anywhere in it, so also in the bodies of its functions.  What a statement assigns to, defines,
or may change (`handlers.append(f)` as a statement, `@handlers.register` on one) is made anew by
it, and then so are all that touch it, from the beginning: `X = 1` before `X += 1`.  All else keeps its
value: a table of results, a model that was loaded, a class that nothing happened to.

A statement that calls a function of the module, also as a decorator, may change what that function changes:
so a registry is filled anew from the beginning, and nothing is in it twice, or still.

That is more than what changed, never less, but for what no name shows (`exec`, a registry elsewhere).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import NamedTuple, TypeAlias

from warmd.daemon.worker.effects import (
    DEFS,
    FUNCTIONS,
    changed_outside,
    is_load,
    name_of,
    names_in,
)

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_IMPORTS = (ast.Import, ast.ImportFrom)
_VALUES = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_PLAIN_DECORATORS = frozenset({"staticmethod", "classmethod", "property"})


class Imported(NamedTuple):
    """`from module import name`, or `import module` where `name` is empty."""

    module: str
    level: int
    name: str


@dataclass
class Statement:
    """One statement of a body, and what it has to do with names."""

    node: ast.stmt
    binds: set[str] = field(default_factory=set)
    changes: list[tuple[set[str], set[str]]] = field(default_factory=list)
    """Names whose objects it may change; where these are only modules, it may be the second ones."""
    uses: set[str] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)
    """Functions, as they stand there, that are called while it is executed: `f`, `module.f`, and `f()` where
    what that gives back is called too, as of `@f(1)`."""
    changes_when_called: dict[str, set[str]] = field(default_factory=dict)
    """Of a function, for its own such calls: names outside of it whose objects they may change."""
    imports: list[Imported] = field(default_factory=list)

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, _IMPORTS)


@dataclass(frozen=True)
class ClassEdit:
    """What happened to a class statement."""

    kept: frozenset[str] = frozenset()
    """Attributes that keep their values, also those that were assigned since."""
    gone: frozenset[str] = frozenset()
    """Attributes that no statement makes any more."""
    methods: frozenset[str] = frozenset()
    """Those to take over."""
    only_methods: bool = False
    """Nothing but undecorated functions was edited."""
    is_decorated: bool = False


@dataclass(frozen=True)
class Edit:
    """What is to be done about one module."""

    statements: list[ast.stmt]
    """To be executed, in their order."""
    dirty: set[str]
    """The names that they make anew."""
    gone: set[str]
    edited: list[str]
    """The functions and other names that were edited themselves, for people."""
    classes: dict[str, ClassEdit]
    """By qualified name: of those that are executed anew."""
    calls: set[str] = field(default_factory=set)
    """What those that are executed anew, or are there no more, have called."""
    remade: list[str] = field(default_factory=list)
    """The names of values, not of functions or classes, that are made anew and were not edited."""


IsStale: TypeAlias = Callable[[Imported], bool]


def compare(
    old: ast.Module | None, new: ast.Module, is_stale: IsStale, dirty: frozenset[str] = frozenset()
) -> Edit:
    """What the difference of two versions asks for; all of the new one where the old is not known.

    `is_stale` says of an import whether what it brings was made anew.  `dirty`: names that are to be made
    anew for other reasons.
    """
    after = list(_statements(new.body))
    made = {name for one in after for name in one.binds}
    if old is None:
        return Edit(new.body, made, set(), sorted(made), {}, remade=_values(after))
    before = list(_statements(old.body))
    body = _Body(before, after, is_stale, set(dirty))
    gone = {name for one in before for name in one.binds} - made
    # What a star brings has no name here, and what a future changes is everything.
    stars = any(is_stale(one) for statement in after for one in statement.imports if one.name == "*")
    if stars or _futures(old) != _futures(new):
        return Edit(new.body, made | gone, gone, _edited(body), {}, remade=_values(after))
    again = [one for one in after if id(one) in body.again]
    classes = dict(_class_edits(before, again, body.dirty, is_stale, ""))
    run = [one.node for one in after if id(one) in body.again or _is_future(one.node)]
    edited = _edited(body)
    calls = {name for one in (*again, *body.removed) for name in one.calls}
    remade = [name for name in _values(again) if name not in edited]
    return Edit(run if again else [], body.dirty, gone, edited, classes, calls, remade)


def _values(statements: Sequence[Statement]) -> list[str]:
    return sorted({name for one in statements if isinstance(one.node, _VALUES) for name in one.binds})


def changed_by_calls(tree: ast.Module) -> dict[str, set[str]]:
    """Of each call of a function of the module (`f`, `f()`) the names whose objects it may change."""
    return _changed_by_calls(list(_statements(tree.body)), [])


def _changed_by_calls(new: Sequence[Statement], old: Sequence[Statement]) -> dict[str, set[str]]:
    modules = _only_imported(new)
    return {
        call: changed - modules for one in (*old, *new) for call, changed in one.changes_when_called.items()
    }


def imports_of(tree: ast.Module) -> list[Imported]:
    """What a module imports while it is executed."""
    return [one for statement in _statements(tree.body) for one in statement.imports]


class _Body:
    """The statements of a module or class against those of its former version."""

    def __init__(
        self, old: Sequence[Statement], new: Sequence[Statement], is_stale: IsStale, dirty: set[str]
    ) -> None:
        self.removed, self.added = _difference(old, new)
        self.dirty = set(dirty)
        self.again: set[int] = set()
        """Statements that are to be executed, by identity."""
        self._modules = _only_imported(new)
        self._deleted = {name for one in new for name in one.deletes}
        self._changed_by = _changed_by_calls(new, old)
        for one in (*self.removed, *self.added):
            self._make_anew(one)
        self.again = {id(one) for one in self.added if not _is_text(one.node)}
        while clean := [one for one in new if id(one) not in self.again and self._is_dirty(one, is_stale)]:
            for one in clean:
                self.again.add(id(one))
                self._make_anew(one)

    def _make_anew(self, statement: Statement) -> None:
        # What is deleted at the end is not there to be used.
        self.dirty |= statement.binds | (statement.uses & self._deleted)
        for changed, given in statement.changes:
            self.dirty |= (changed - self._modules) or (given - self._modules)
        for name in statement.calls & self._changed_by.keys():
            self.dirty |= self._changed_by[name]

    def _is_dirty(self, statement: Statement, is_stale: IsStale) -> bool:
        touched = statement.binds | statement.uses
        return not self.dirty.isdisjoint(touched) or any(map(is_stale, statement.imports))


def _difference(
    old: Sequence[Statement], new: Sequence[Statement]
) -> tuple[list[Statement], list[Statement]]:
    """What was taken away, and what was put in; a statement that only moved is both."""
    before, after = ([ast.dump(one.node) for one in body] for body in (old, new))
    removed: list[Statement] = []
    added: list[Statement] = []
    for what, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what != "equal":
            removed += old[i:j]
            added += new[k:m]
    return removed, added


def _only_imported(statements: Sequence[Statement]) -> set[str]:
    """Names that mean modules, as far as one can see: they are not made anew by a call of what they hold."""
    imported = {name for one in statements if one.is_import for name in one.binds}
    return imported - {name for one in statements if not one.is_import for name in one.binds}


def _edited(body: _Body) -> list[str]:
    """The names of what was edited; of a class that is still there, those of its members."""
    names: dict[str, None] = {}
    before = {one.node.name: one.node for one in body.removed if isinstance(one.node, ast.ClassDef)}
    after = {one.node.name: one.node for one in body.added if isinstance(one.node, ast.ClassDef)}
    for name in before.keys() & after.keys():
        removed, added = _difference(
            list(_statements(before[name].body)), list(_statements(after[name].body))
        )
        members = {member for one in (*removed, *added) for member in one.binds}
        names.update(dict.fromkeys(sorted(members) or [name]))
    for one in (*body.added, *body.removed):
        names.update(dict.fromkeys(sorted(one.binds - (before.keys() & after.keys()))))
    return list(names)


def _class_edits(
    old: Sequence[Statement], again: Sequence[Statement], dirty: set[str], is_stale: IsStale, prefix: str
) -> Iterator[tuple[str, ClassEdit]]:
    former = {one.node.name: one.node for one in old if isinstance(one.node, ast.ClassDef)}
    for one in again:
        if isinstance(one.node, ast.ClassDef) and one.node.name in former:
            yield from _class_edit(former[one.node.name], one.node, dirty, is_stale, prefix)


def _class_edit(
    old: ast.ClassDef, new: ast.ClassDef, dirty: set[str], is_stale: IsStale, prefix: str
) -> Iterator[tuple[str, ClassEdit]]:
    before, after = list(_statements(old.body)), list(_statements(new.body))
    # While its body is executed the class itself is not there to be used.
    body = _Body(before, after, is_stale, dirty - {new.name})
    again = [one for one in after if id(one) in body.again]
    made_again, made, had = (
        {name for one in side for name in one.binds} for side in (again, after, before)
    )
    edited = (*body.removed, *body.added, *again)
    name = prefix + new.name
    is_decorated = bool(new.decorator_list or old.decorator_list)
    # What a decorator has made of an attribute is not what it is to be given: of a field, for one.
    values = {name for one in after if _is_plain_value(one.node) for name in one.binds}
    kept = made - made_again
    yield name, ClassEdit(
        frozenset(kept & values if is_decorated else kept),
        frozenset(had - made),
        frozenset(one.node.name for one in again if isinstance(one.node, DEFS)),
        _head(old) == _head(new) and all(_is_method(one.node) for one in edited),
        is_decorated,
    )
    yield from _class_edits(before, again, body.dirty, is_stale, f"{name}.")


def _head(node: ast.ClassDef) -> list[str]:
    return [ast.dump(one) for one in (*node.bases, *node.keywords, *node.decorator_list)]


def _is_plain_value(node: ast.stmt) -> bool:
    """`x = 1`, and `x: ClassVar = 1`: no field."""
    if isinstance(node, ast.AnnAssign):
        return "ClassVar" in ast.unparse(node.annotation)
    return isinstance(node, ast.Assign)


def _is_method(node: ast.stmt) -> bool:
    if _is_text(node):
        return True
    return isinstance(node, DEFS) and all(
        isinstance(one, ast.Name) and one.id in _PLAIN_DECORATORS for one in node.decorator_list
    )


def _is_text(node: ast.stmt) -> bool:
    """A docstring, or another constant that does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _statements(body: Sequence[ast.stmt]) -> Iterator[Statement]:
    """Each statement; of an import each name, so that one more asks for nothing but itself."""
    for node in [part for one in body for part in _parts(one)]:
        statement = Statement(node)
        _gather(node, statement, inner=False, in_class=False)
        yield statement


def _parts(node: ast.stmt) -> list[ast.stmt]:
    if isinstance(node, ast.Import) and len(node.names) > 1:
        return [ast.copy_location(ast.Import([alias]), node) for alias in node.names]
    if isinstance(node, ast.ImportFrom) and len(node.names) > 1:
        return [
            ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node) for alias in node.names
        ]
    return [node]


def _gather(node: ast.AST, found: Statement, inner: bool, in_class: bool) -> None:
    """Add what is in the node; `inner`: names that are bound there are not the body's own."""
    if isinstance(node, ast.Name):
        _gather_name(node, found, inner)
    elif isinstance(node, _IMPORTS):
        if not inner or in_class:
            _gather_import(node, found, inner)
    elif not inner:
        _gather_from(node, found)
    opens = isinstance(node, (*FUNCTIONS, *_COMPREHENSIONS, ast.ClassDef))
    class_body = isinstance(node, ast.ClassDef) or (in_class and not isinstance(node, FUNCTIONS))
    for child in ast.iter_child_nodes(node):
        _gather(child, found, inner or opens, class_body)


def _gather_from(node: ast.AST, found: Statement) -> None:
    if isinstance(node, DEFS):
        found.changes_when_called = {
            node.name: changed_outside(node, 0),
            f"{node.name}()": changed_outside(node, 1),
        }
    if isinstance(node, ast.Call):
        found.calls |= name_of(node.func)
    if isinstance(node, (*DEFS, ast.ClassDef)):
        found.binds.add(node.name)
        for decorator in node.decorator_list:
            found.calls |= name_of(decorator)
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(called, ast.Attribute):
                found.changes.append((names_in(called), set()))
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        found.binds |= {node.name} if node.name else set()
    elif isinstance(node, ast.Expr):
        found.changes.append(_changed_by(node.value))
    elif isinstance(node, ast.Attribute | ast.Subscript) and not is_load(node):
        found.changes.append((names_in(node.value), set()))


def _gather_name(node: ast.Name, found: Statement, inner: bool) -> None:
    if is_load(node):
        found.uses.add(node.id)
    elif not inner:
        found.binds.add(node.id)
        found.deletes |= {node.id} if isinstance(node.ctx, ast.Del) else set()


def _gather_import(node: ast.Import | ast.ImportFrom, found: Statement, inner: bool) -> None:
    for alias in node.names:
        if isinstance(node, ast.Import):
            found.imports.append(Imported(alias.name, 0, ""))
            bound = alias.asname or alias.name.partition(".")[0]
        else:
            found.imports.append(Imported(node.module or "", node.level, alias.name))
            bound = alias.asname or alias.name
        if not inner:
            found.binds.add(bound)


def _changed_by(value: ast.expr) -> tuple[set[str], set[str]]:
    """Of `a.append(b)` a; of `module.sort(b)` and `sort(b)`, b."""
    if not isinstance(value, ast.Call):
        return names_in(value), set()
    given = {name for one in (*value.args, *value.keywords) for name in names_in(one)}
    return names_in(value.func.value) if isinstance(value.func, ast.Attribute) else set(), given


def _futures(tree: ast.Module) -> set[str]:
    return {alias.name for node in tree.body if _is_future(node) for alias in node.names}  # type: ignore[attr-defined]


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level
