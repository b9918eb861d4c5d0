"""Real files, edited on disk while a session lives."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.worker.daemon import FakeDaemon
from warmd.protocol.values import unpack
from warmd.protocol.work import NoFunction, Raised, Ready, Reloaded, Returned

APP = """
import helper
from helper import LIMIT, Point

CACHE = {}


class App:
    calls = 0

    def setup(self, config=None):
        self.model = object()
        self.point = Point(3)
        self.kind = Point
        self.callback = self.predict
        self.clean = helper.clean

    def predict(self, x=1):
        App.calls += 1
        CACHE[x] = len(CACHE)
        return ["old", self._clean(x)]

    def _clean(self, x):
        return helper.clean(x)

    def facts(self):
        return [id(self.model), App.calls, len(CACHE), LIMIT]

    def held(self):
        return [self.point.double(), isinstance(self.point, Point), isinstance(Point(1), self.kind),
                self.callback()[0], self.clean(1)]

    def count(self):
        yield from (1, 2)
"""
HELPER = """
LIMIT = 10


class Base:
    def double(self):
        return self.n * 2


class Point(Base):
    def __init__(self, n):
        self.n = n

    def double(self):
        return super().double()


def clean(x):
    return min(x, LIMIT)
"""


class Project:
    """The files of an app and the session that runs it."""

    def __init__(self, folder: Path, daemon: FakeDaemon) -> None:
        self.folder, self.daemon = folder, daemon
        self.texts: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        self.texts[name] = dedent(text)
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.texts[name])

    def edit(self, what: str, by: str, name: str = "app.py") -> None:
        assert what in self.texts[name]
        self.write(name, self.texts[name].replace(what, by))

    def start(self, target: str = "app:App", **options: Any) -> Ready:
        self.age()
        ready = self.daemon.start(target, paths=(str(self.folder),), reload=True, **options)
        assert isinstance(ready, Ready), ready
        return ready

    def age(self) -> None:
        """As if the files had been written a while ago."""
        for path in self.folder.rglob("*.py"):
            os.utime(path, ns=(1_600_000_000_000_000_000, 1_600_000_000_000_000_000))

    def refusal(self, function: str = "predict") -> str:
        reply = self.daemon.call(function)
        assert isinstance(reply, Raised), reply
        assert reply.type.endswith("NotReloaded")
        return str(reply.message)


@pytest.fixture
def project(daemon: FakeDaemon, tmp_path: Path) -> Project:
    (tmp_path / "files").mkdir()
    project = Project(tmp_path / "files", daemon)
    project.write("app.py", APP)
    project.write("helper.py", HELPER)
    return project


def test_a_method_is_swapped_and_the_state_kept(project: Project) -> None:
    assert project.start().reloads
    daemon = project.daemon
    assert daemon.value("predict", 30) == ["old", 10]
    before = daemon.value("facts")
    project.edit('"old"', '"new"')
    assert daemon.value("predict", 30) == ["new", 10]
    project.edit('"new"', '"3rd"')
    assert daemon.value("predict", 30) == ["3rd", 10]
    assert daemon.value("facts") == [before[0], 3, 1, 10]
    assert daemon.log_text() == 2 * "warmd: reloaded app.py: predict\n"


def test_nothing_is_done_without_an_edit(project: Project) -> None:
    project.start()
    os.utime(project.folder / "app.py")
    (project.folder / "helper.py").rename(project.folder / "away.py")
    assert project.daemon.value("predict") == ["old", 1]
    (project.folder / "away.py").rename(project.folder / "helper.py")
    assert project.daemon.value("predict") == ["old", 1]
    assert project.daemon.log_text() == ""


def test_what_the_state_holds_has_the_new_code(project: Project) -> None:
    project.start()
    assert project.daemon.value("held") == [6, True, True, "old", 1]
    project.edit("return super().double()", "return super().double() + 1", "helper.py")
    project.edit("self.n * 2", "self.n * 10", "helper.py")
    project.edit("return min(x, LIMIT)", "return -x", "helper.py")
    project.edit('"old"', '"new"')
    assert project.daemon.value("held") == [31, True, True, "new", -1]
    log = project.daemon.log_text()
    assert "reloaded helper.py: double, clean\n" in log and "reloaded app.py: predict\n" in log


def test_a_constant_of_another_module(project: Project) -> None:
    project.start()
    before = project.daemon.value("facts")
    project.edit("LIMIT = 10", "LIMIT = 20", "helper.py")
    assert project.daemon.value("predict", 30) == ["old", 20]
    assert project.daemon.value("facts") == [before[0], 1, 1, 20]


def test_an_error_of_syntax_and_then_none(project: Project) -> None:
    project.start()
    model = project.daemon.value("facts")[0]
    project.edit("return helper.clean(x)", "return helper.clean(x")
    for _ in range(2):
        assert project.refusal() == (
            "the app was edited and could not be reloaded: "
            f"{project.folder}/app.py:26: SyntaxError: '(' was never closed"
        )
    assert project.daemon.log_text().count("could not be reloaded") == 1
    project.edit("return helper.clean(x", "return helper.clean(x) + 1")
    assert project.daemon.value("predict") == ["old", 2]
    assert project.daemon.value("facts")[0] == model


def test_a_module_that_raises_changes_nothing(project: Project) -> None:
    project.start()
    project.edit("return min(x, LIMIT)", "return -x", "helper.py")
    project.edit("self.n * 2", "self.n * 10", "helper.py")
    project.edit("CACHE = {}", "CACHE = {}\nAGAIN = []\nraise ValueError('not now')")
    assert project.refusal("held").endswith(f"{project.folder}/app.py:7: ValueError: not now")
    project.write("app.py", APP)
    project.write("helper.py", HELPER)
    assert project.daemon.value("held") == [6, True, True, "old", 1]
    project.edit('"old"', '"new"')
    assert project.daemon.value("held") == [6, True, True, "new", 1]


@pytest.mark.parametrize(
    ("what", "by", "named"),
    [
        ("self.model = object()", "self.model = None", "App.setup has changed ({}/app.py:11)"),
        ("config=None", "config=1", "App.setup has changed ({}/app.py:11)"),
        ("calls = 0\n", "calls = 0\n    def __init__(self): pass\n", "App.__init__ has changed ({}/app.py:10)"),
        ("    calls = 0\n", "    __slots__ = ()\n", "the class App of {}/app.py cannot be changed in place"),
        ("class App:", "class Other:", "has no class 'App': did you mean"),
        ("def predict(self", "async def predict(self", "the app has an async function now"),
    ],
)
def test_what_needs_a_new_session(project: Project, what: str, by: str, named: str) -> None:
    project.start()
    project.edit(what, by)
    project.edit('"old"', '"new"')
    text = project.refusal()
    assert named.format(project.folder) in text
    assert "did you mean" in text or text.endswith("open a new session, or undo the change")
    project.edit(by, what)
    assert project.daemon.value("predict") == ["new", 1]


def test_a_setup_that_only_moved_is_no_change(project: Project) -> None:
    project.start()
    project.edit("    def setup", "    # said\n\n    def _more(self): pass\n\n    def setup")
    project.edit("self.model = object()", "self.model = object()  # said")
    assert project.daemon.value("predict") == ["old", 1]


def test_functions_that_come_and_go(project: Project) -> None:
    functions = project.start().functions
    project.edit("    def count", "    def fresh(self):\n        return 'fresh'\n\n    def count")
    project.daemon.invoke("fresh")
    said = [project.daemon.next(), project.daemon.next()]
    assert said[0] == Reloaded(sorted([*functions, "fresh"]), False)
    assert isinstance(said[1], Returned) and unpack(said[1].value) == "fresh"
    project.edit("def fresh(self)", "def on_cancel(self)")
    project.daemon.invoke("fresh")
    assert project.daemon.next() == Reloaded(functions, True)
    assert isinstance(project.daemon.next(), NoFunction)
    assert isinstance(project.daemon.call("nowhere"), NoFunction)


def test_a_stream(project: Project) -> None:
    project.start()
    project.daemon.invoke("count", window=1)
    assert project.daemon.parts(1) == [(0, 1)]
    project.edit("(1, 2)", "(3, 4, 5)")
    project.daemon.tell(__import__("warmd.protocol.work").protocol.work.MoreCredit(1, 5))
    assert project.daemon.parts(1) == [(1, 2)]
    assert project.daemon.next().parts == 2
    project.daemon.invoke("count", window=9)
    assert project.daemon.parts(3) == [(0, 3), (1, 4), (2, 5)]
