"""The rules of the house, over the whole tree: sizes, who may import whom, and what is not written."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("protocol", "daemon", "sdk", "apps")
IMPORT_NAMES = {"protocol": "warmd.protocol", "daemon": "warmd.daemon", "sdk": "warmd", "apps": "warmd.apps"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
DOCUMENTED_FROM_LINES = 18
"""A public function of so many lines is not trivial: it says what it does."""


def files(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if "node_modules" not in path.parts)


SOURCES = files(*PACKAGES)
ALL = SOURCES + files("tests", "benchmarks", "examples")

every_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def nodes(path: Path, *kinds: type) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, kinds))


def where(path: Path, node: ast.AST | None = None) -> str:
    return f"{path.relative_to(ROOT)}" + (f":{node.lineno}" if node is not None else "")  # type: ignore[attr-defined]


def faults(paths: list[Path], find: Callable[[Path], Iterator[str]]) -> str:
    return "\n".join(fault for path in paths for fault in find(path))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Its length from `def` to its end, the docstring not counted."""
    documentation = 0
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        documentation = (text.end_lineno or 0) - text.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - documentation


# sizes


def test_files_are_for_one_sitting() -> None:
    long = {
        where(path): count for path in ALL if (count := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert not long


def test_functions_fit_on_a_page() -> None:
    def find(path: Path) -> Iterator[str]:
        for function in nodes(path, ast.FunctionDef, ast.AsyncFunctionDef):
            if body_lines(function) > MAX_FUNCTION_LINES:
                yield f"{where(path, function)} {function.name}: {body_lines(function)} lines"

    assert not faults(ALL, find)


# imports


def module_name(path: Path) -> str:
    package, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([IMPORT_NAMES[package], *(part for part in rest if part != "__init__")])


def own_imports(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """What of warmd a module imports, anywhere in it: also under TYPE_CHECKING and in functions."""
    for node in nodes(path, ast.Import):
        yield from ((node, alias.name) for alias in node.names if alias.name.split(".")[0] == "warmd")
    for node in nodes(path, ast.ImportFrom):
        assert node.level == 0, f"{where(path, node)}: imports are absolute"
        if (node.module or "").split(".")[0] == "warmd":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield node, full if is_module(full) else f"{node.module}:{alias.name}"


def is_module(name: str) -> bool:
    return name in {module_name(path) for path in SOURCES}


def may_import(importer: str, imported: str) -> bool:
    """The rule of the design, with what each exception is for."""
    within = imported.replace(":", ".")
    if within in ("warmd.__version__", "warmd") and not importer.startswith("warmd.daemon.core"):
        return True  # the version is said in handshakes
    if importer.startswith("warmd.protocol"):
        return within.startswith("warmd.protocol")
    if importer.startswith("warmd.daemon.core"):
        return within.startswith(("warmd.daemon.core", "warmd.protocol"))
    if importer.startswith("warmd.daemon.worker"):
        return within.startswith(("warmd.daemon.worker", "warmd.protocol", "warmd.app."))
    if importer.startswith("warmd.daemon"):
        return within.startswith(("warmd.daemon", "warmd.protocol"))
    if importer.startswith("warmd.apps"):
        return within.startswith(("warmd.apps", "warmd.app.", "warmd.context", "warmd.gpu"))
    in_cli = f"{importer}.".startswith("warmd.cli.")
    if in_cli and within.startswith(("warmd.daemon.main", "warmd.daemon.config", "warmd.daemon.settings")):
        return True  # `warmd serve` is the daemon
    if in_cli and within.startswith(("warmd.daemon.cgroup", "warmd.daemon.gpu.")):
        return True  # `warmd doctor` looks with the daemon's eyes
    return not within.startswith(("warmd.daemon", "warmd.apps"))


@every_source
def test_who_may_import_whom(path: Path) -> None:
    importer = module_name(path)
    wrong = [
        f"{where(path, node)} imports {name}"
        for node, name in own_imports(path)
        if not may_import(importer, name)
    ]
    assert not wrong


def test_the_daemon_never_unpacks_a_body() -> None:
    """Values are unpacked by workers and clients alone: a body is bytes to whoever passes it on."""
    unpackers = {"pickle", "cloudpickle", "warmd.protocol.values:unpack"}
    passing_on = [path for path in files("daemon") if path.parent.name != "worker"]
    found = [
        f"{where(path, node)} imports {name}"
        for path in passing_on
        for node, name in all_imports(path)
        if name in unpackers
    ]
    calls = [
        where(path, call)
        for path in passing_on
        for call in nodes(path, ast.Call)
        if ast.unparse(call.func) == "values.unpack"
    ]
    assert not found and not calls


def all_imports(path: Path) -> Iterator[tuple[ast.AST, str]]:
    for node in nodes(path, ast.Import):
        yield from ((node, alias.name) for alias in node.names)
    for node in nodes(path, ast.ImportFrom):
        yield from ((node, f"{node.module}:{alias.name}") for alias in node.names)
        yield node, str(node.module)


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("warmd.protocol.wire", "warmd.client"),
        ("warmd.daemon.core.broker", "warmd.daemon.server"),
        ("warmd.daemon.core.broker", "warmd:__version__"),
        ("warmd.daemon.worker.main", "warmd.daemon.core.broker"),
        ("warmd.daemon.worker.main", "warmd.client"),
        ("warmd.daemon.server", "warmd.client"),
        ("warmd.client", "warmd.daemon.config"),
        ("warmd.cli.sessions", "warmd.daemon.server"),
        ("warmd.apps.counter", "warmd.client"),
        ("warmd.apps.counter", "warmd.protocol.wire"),
    ],
)
def test_the_rule_forbids(importer: str, imported: str) -> None:
    assert not may_import(importer, imported)


LIGHT = {
    "warmd": "zmq msgpack click asyncio numpy psutil loky warmd.daemon",
    "warmd.app": "zmq msgpack click asyncio numpy psutil loky warmd.daemon",
    "warmd.client": "click numpy psutil loky warmd.daemon",
    "warmd.cli.top": "orjson starlette uvicorn numpy loky warmd.daemon",
    "warmd.protocol.wire": "zmq click asyncio numpy psutil loky warmd.daemon",
    "warmd.daemon.worker.main": "zmq click numpy psutil warmd.daemon.core warmd.daemon.server warmd.client",
}


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_importing_is_light(module: str) -> None:
    """In a process of its own: nothing heavy comes along, now or through another module."""
    code = (
        f"import sys, {module}\nprint(*(name for name in {LIGHT[module].split()!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


# what is written, and what is not


def test_every_module_says_what_it_is_for() -> None:
    assert not [where(p) for p in SOURCES if p.read_text().strip() and not ast.get_docstring(tree_of(p))]


def test_public_functions_that_are_not_trivial_are_documented() -> None:
    def find(path: Path) -> Iterator[str]:
        for function in public_functions(tree_of(path)):
            if body_lines(function) >= DOCUMENTED_FROM_LINES and not ast.get_docstring(function):
                yield f"{where(path, function)} {function.name}"

    assert not faults(SOURCES, find)


def public_functions(scope: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)


def test_public_classes_with_methods_are_documented() -> None:
    """By themselves, or by their module where they are all that it is about."""

    def find(path: Path) -> Iterator[str]:
        classes = [
            n for n in tree_of(path).body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")
        ]
        for node in classes:
            methods = [n for n in public_functions(node) if not n.decorator_list]
            if len(methods) > 3 and len(classes) > 2 and not ast.get_docstring(node):
                yield f"{where(path, node)} {node.name}"

    assert not faults(SOURCES, find)


def test_comments_are_about_the_code_as_it_is() -> None:
    """No notes of what is still to do, no banners."""
    to_do = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r")\b")
    banner = re.compile(r"#\s*[-=#*]{4,}")
    lines = [(p, n, line) for p in ALL for n, line in enumerate(p.read_text().splitlines(), 1)]
    wrong = [
        f"{where(p)}:{n} {line.strip()}" for p, n, line in lines if to_do.search(line) or banner.search(line)
    ]
    assert not wrong


def test_no_exception_is_swallowed_unseen() -> None:
    """Whoever passes over any exception at all says why, on the same line."""

    def find(path: Path) -> Iterator[str]:
        lines = path.read_text().splitlines()
        for handler in nodes(path, ast.ExceptHandler):
            assert isinstance(handler, ast.ExceptHandler)
            kind = ast.unparse(handler.type) if handler.type else ""
            silent = all(isinstance(statement, ast.Pass | ast.Continue) for statement in handler.body)
            says_why = "#" in lines[handler.lineno - 1]
            if not kind or (silent and kind in ("Exception", "BaseException") and not says_why):
                yield f"{where(path, handler)} except {kind or '(anything)'}"

    assert not faults(ALL, find)


FORBIDDEN = {
    "os.kill": "a pid may be another's by now: signal through a pidfd",
    "os.killpg": "children leave groups: the tree is found by its token",
    "os.fork": "",
    "select.select": "it takes no descriptor from 1024 on: select.poll",
    "time.time": "clocks jump: time.monotonic, and wall time only where it is shown",
    "datetime.utcnow": "",
    "pickle.loads": "never from the wire",
    "pickle.load": "never from the wire",
    "cloudpickle.loads": "never from the wire",
    "cloudpickle.load": "never from the wire",
}
ALLOWED = {
    ("daemon/worker/load.py", "pickle.loads"),  # a class given as app, in its own worker
    ("daemon/worker/load.py", "cloudpickle.loads"),
    ("daemon/worker/forksafety.py", "os.fork"),  # of a process that was looked at
    ("sdk/gpuholder.py", "os.fork"),  # a process of its own, before it has loaded anything
    ("daemon/launch.py", "os.kill"),  # a child that nobody else reaps, where no pidfd is to be had
    ("daemon/infos.py", "time.time"),  # shown in listings
    ("sdk/cli/sessions.py", "time.time"),
    ("sdk/cli/top.py", "time.time"),
    ("sdk/http/moments.py", "time.time"),
}


def test_calls_that_hide_a_trap_are_not_made() -> None:
    def find(path: Path) -> Iterator[str]:
        for call in nodes(path, ast.Call):
            name = ast.unparse(call.func)
            allowed = (str(path.relative_to(ROOT)), name) in ALLOWED
            if name in FORBIDDEN and not allowed and not path.is_relative_to(ROOT / "apps"):
                yield f"{where(path, call)} {name}: {FORBIDDEN[name]}"
            if name == "os.waitpid" and ast.unparse(call.args[0]) == "-1":
                yield f"{where(path, call)} waitpid(-1) steals the exit status of others"

    assert not faults(SOURCES, find)


# tests

MIRRORS = {
    "protocol": "protocol", "daemon": "daemon", "daemon/core": "core", "daemon/gpu": "gpu",
    "daemon/worker": "worker",
    "sdk": "sdk", "sdk/cli": "cli", "sdk/http": "http", "apps": "apps",
}  # fmt: skip


def test_the_tests_mirror_the_tree() -> None:
    for folder in {path.parent.relative_to(ROOT) for path in SOURCES if path.parent.parent != ROOT / "apps"}:
        assert str(folder) in MIRRORS, f"{folder} has no place among the tests"
    for source, tests in MIRRORS.items():
        assert list((ROOT / "tests" / tests).glob("test_*.py")), f"{source} has no tests in tests/{tests}"


def test_no_test_sleeps() -> None:
    """A bound that an event is awaited with is fine; a sleep is either too short or too long."""

    def find(path: Path) -> Iterator[str]:
        for call in nodes(path, ast.Call):
            sleeps = ast.unparse(call.func) in ("time.sleep", "sleep")
            if sleeps and not (call.args and ast.unparse(call.args[0]).startswith("0.0")):
                yield where(path, call)

    assert not faults(files("tests/core", "tests/protocol"), find)
