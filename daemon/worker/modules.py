"""What an edit of one module means for the others: by what they import, and by what they call.

A call can change what lies in another module: `@on` of handlers.py fills a list of registry.py.  Then that
list is made anew, with all that is in it, so the edits of all modules are looked for again until nothing
is added.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from functools import partial

from warmd.daemon.worker.dirty import Edit, Imported, changed_by_calls, compare, imports_of


def edits_of(old: Mapping[str, ast.Module | None], new: Mapping[str, ast.Module]) -> dict[str, Edit]:
    """By module, in the order in which they are to be executed."""
    changed_by = {name: changed_by_calls(tree) for name, tree in new.items()}
    order, imports = _by_imports(new), {name: imports_of(tree) for name, tree in new.items()}
    dirty: dict[str, set[str]] = {}
    asked: dict[str, set[str]] = {name: set() for name in new}
    while True:
        before = _copied(dirty), _copied(asked)
        edits: dict[str, Edit] = {}
        for name in order:
            stale = partial(_is_stale, importer=name, dirty=dirty)
            edits[name] = compare(old[name], new[name], stale, frozenset(asked[name]))
            if edits[name].dirty:
                dirty[name] = edits[name].dirty
        for name in order:
            for module, function in _called(edits[name].calls, imports[name], name):
                if module in changed_by:
                    asked[module] |= changed_by[module].get(function, set())
        if before == (dirty, asked):
            return edits


def _copied(names: Mapping[str, set[str]]) -> dict[str, set[str]]:
    return {module: set(some) for module, some in names.items()}


def _called(calls: set[str], imports: Iterable[Imported], importer: str) -> list[tuple[str, str]]:
    """Functions of other modules, by module and name, as far as their imports show."""
    found = []
    for imported in imports:
        module = _absolute(imported, importer)
        for call in calls:
            holder, _, function = call.rpartition(".")
            if not holder and function.removesuffix("()") == imported.name:
                found.append((module, function))
            for whole in (module, f"{module}.{imported.name}") if holder else ():
                if whole.rpartition(".")[2] == holder:
                    found.append((whole, function))
    return found


def _by_imports(trees: Mapping[str, ast.Module]) -> list[str]:
    """The modules, each after those that it imports, as far as they do not import each other."""
    order: dict[str, None] = {}
    entered: set[str] = set()

    def enter(name: str) -> None:
        if name in entered:
            return
        entered.add(name)
        for imported in imports_of(trees[name]):
            for module in modules_of(imported, name):
                if module in trees:
                    enter(module)
        order[name] = None

    for name in trees:
        enter(name)
    return list(order)


def modules_of(imported: Imported, importer: str) -> list[str]:
    """The modules that an import statement may mean."""
    module = _absolute(imported, importer)
    parts = module.split(".")
    parents = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return [*parents, f"{module}.{imported.name}"] if imported.name else parents


def _absolute(imported: Imported, importer: str) -> str:
    if not imported.level:
        return imported.module
    package = getattr(sys.modules.get(importer), "__package__", None) or importer.rpartition(".")[0]
    parts = package.split(".")
    base = parts[: len(parts) - imported.level + 1]
    return ".".join([*base, imported.module] if imported.module else base)


def _is_stale(imported: Imported, importer: str, dirty: Mapping[str, set[str]]) -> bool:
    """Whether what an import brings was made anew."""
    if not imported.name:
        return any(module in dirty for module in modules_of(imported, importer))
    module = _absolute(imported, importer)
    names = dirty.get(module, set())
    brings = bool(names) if imported.name == "*" else imported.name in names
    return brings or f"{module}.{imported.name}" in dirty
