"""The rule book is pure: no clock, no socket, no process, no thread, no log, no chance."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "daemon" / "core").glob("*.py"))
ALLOWED = {
    "__future__",
    "collections",
    "collections.abc",
    "contextlib",
    "dataclasses",
    "difflib",
    "enum",
    "heapq",
    "itertools",
    "math",
    "typing",
}
IMPURE = [
    "zmq",
    "asyncio",
    "threading",
    "socket",
    "logging",
    "psutil",
    "loky",
    "subprocess",
    "multiprocessing",
    "signal",
    "random",
    "secrets",
    "select",
    "selectors",
    "msgpack",
    "click",
    "warmd.daemon.server",
]


def imports_of(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            found.append(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_core_imports_only_the_pure(path: Path) -> None:
    for name in imports_of(path):
        own = name.startswith(("warmd.daemon.core", "warmd.protocol"))
        assert own or name in ALLOWED, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_core_prints_opens_and_waits_for_nothing(path: Path) -> None:
    calls = [
        n.func.id
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    ]
    assert not {"print", "open", "input", "exec", "eval", "__import__"} & set(calls)


def test_loading_the_core_loads_nothing_impure() -> None:
    """In a process of its own: what the core's imports import counts too."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "import warmd.daemon.core.broker\n"
        f"print(*(set({IMPURE!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == ""
