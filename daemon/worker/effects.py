"""What statements and functions change besides the names that they bind, as far as their text shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator

DEFS = (ast.FunctionDef, ast.AsyncFunctionDef)
FUNCTIONS = (*DEFS, ast.Lambda)
_CHANGING = {"add", "append", "appendleft", "clear", "connect", "extend", "insert", "put", "register",
             "setdefault", "subscribe", "update"}  # fmt: skip
"""Methods that are taken to change their object where a function calls them."""


def name_of(node: ast.expr) -> set[str]:
    """`f`, `module.f`, or `f()`."""
    called = node.func if isinstance(node, ast.Call) else node
    is_plain = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name)
    if not is_plain and not isinstance(called, ast.Name):
        return set()
    return {ast.unparse(called) + ("()" if isinstance(node, ast.Call) else "")}


def changed_outside(function: ast.FunctionDef | ast.AsyncFunctionDef, depth: int) -> set[str]:
    """Names that are not its own and that it assigns to, or whose objects it changes.

    The same of the functions that it makes, and those that they make, down to `depth`.
    """
    own = {one.arg for one in ast.walk(function) if isinstance(one, ast.arg)}
    own |= {one.id for one in ast.walk(function) if isinstance(one, ast.Name) and not is_load(one)}
    changed, shared = set[str](), set[str]()
    for node in _executed(function, depth):
        if isinstance(node, ast.Global):
            shared.update(node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed |= names_in(node.func.value) if node.func.attr in _CHANGING else set()
        elif isinstance(node, ast.Attribute | ast.Subscript) and not is_load(node):
            changed |= names_in(node.value)
    return (changed - own) | shared


def _executed(node: ast.AST, depth: int) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        deeper = depth - isinstance(child, FUNCTIONS)
        if deeper >= 0:
            yield child
            yield from _executed(child, deeper)


def is_load(node: ast.Name | ast.Attribute | ast.Subscript) -> bool:
    return isinstance(node.ctx, ast.Load)


def names_in(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
