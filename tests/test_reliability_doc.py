"""docs/reliability.md names for each promise a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def defined(path: Path) -> set[str]:
    """The tests of a file: functions, and state machines that are assigned to a name."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    functions = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    return functions | {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_each_named_test_exists() -> None:
    names = NAMED.findall(PAGE)
    assert names
    missing = [
        f"{path}::{name}"
        for path, name in names
        if not (TESTS / path).exists() or name not in defined(TESTS / path)
    ]
    assert not missing


def test_each_promise_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise", "| ---"))]
    assert promises
    assert not [row for row in promises if not NAMED.search(row)]
