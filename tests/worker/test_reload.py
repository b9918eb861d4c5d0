"""Real files, edited on disk while a session lives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.worker.daemon import FakeDaemon
from tests.worker.project import Project
from warmd.protocol.values import unpack
from warmd.protocol.work import Interrupted, MoreCredit, NoFunction, Ordinal, Reloaded, Returned

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
    assert daemon.value("predict", {"x": 30}) == ["old", 10]
    before = daemon.value("facts")
    project.edit('"old"', '"new"')
    assert daemon.value("predict", {"x": 30}) == ["new", 10]
    project.edit('"new"', '"3rd"')
    assert daemon.value("predict", {"x": 30}) == ["3rd", 10]
    assert daemon.value("facts") == [before[0], 3, 1, 10]
    assert daemon.log_text() == 2 * "warmd: reloaded app.py: predict\n"


def test_nothing_is_done_without_an_edit(project: Project) -> None:
    project.start()
    os.utime(project.folder / "app.py")
    assert project.daemon.value("predict") == ["old", 1]
    (project.folder / "helper.py").rename(project.folder / "away.py")
    assert "helper.py of the app is not there any more" in project.refusal()
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
    assert project.daemon.value("predict", {"x": 30}) == ["old", 20]
    assert project.daemon.value("facts") == [before[0], 1, 1, 20]


def test_an_error_of_syntax_and_then_none(project: Project) -> None:
    project.start()
    model = project.daemon.value("facts")[0]
    project.edit("return helper.clean(x)", "return helper.clean(x")
    for _ in range(2):
        assert project.refusal() == (
            "the app was edited and could not be reloaded: "
            f"{project.folder}/app.py:24: SyntaxError: '(' was never closed"
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
        ("calls = 0", "def __init__(self): pass", "App.__init__ has changed ({}/app.py:9)"),
        ("    calls = 0\n", "    __slots__ = ()\n", "the class App of {}/app.py cannot be changed in place"),
        ("class App:", "class Other:", "/app.py has no class 'App': there is Other"),
        ("def predict(self", "async def predict(self", "the app has an async function now"),
    ],
)
def test_what_needs_a_new_session(project: Project, what: str, by: str, named: str) -> None:
    project.start()
    project.edit(what, by)
    project.edit('"old"', '"new"')
    text = project.refusal()
    assert named.format(project.folder) in text
    assert "has no class" in text or text.endswith("open a new session, or undo the change")
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
    project.daemon.tell(MoreCredit(Ordinal(1), 5))
    assert project.daemon.parts(1) == [(1, 2)]
    assert project.daemon.next().parts == 2
    project.daemon.invoke("count", window=9)
    assert project.daemon.parts(3) == [(0, 3), (1, 4), (2, 5)]


def test_edits_of_the_same_size_in_a_rush(project: Project) -> None:
    project.start()
    for number in range(20, 60):
        project.write("app.py", APP.replace('"old"', str(number)))
        assert project.daemon.value("predict")[0] == number


def test_a_file_that_was_put_in_place_with_its_old_time(project: Project) -> None:
    project.start()
    assert project.daemon.value("predict")[0] == "old"
    path, other = project.folder / "app.py", project.folder / "other"
    other.write_text(APP.replace('"old"', '"new"'))
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert project.daemon.value("predict")[0] == "new"


def test_tracebacks_show_the_new_lines(project: Project) -> None:
    project.edit("return min(x, LIMIT)", "raise ValueError('here')", "helper.py")
    project.start()
    raising = "in clean\n    raise ValueError('here')"
    assert f'helper.py", line 19, {raising}' in project.daemon.call("predict").traceback
    project.edit("LIMIT = 10\n", "LIMIT = 10\n\n# one line more", "helper.py")
    project.edit("class App:", "# moved\n\n\nclass App:")
    traceback = project.daemon.call("predict").traceback
    assert f'helper.py", line 20, {raising}' in traceback
    assert 'app.py", line 27, in _clean\n    return helper.clean(x)' in traceback


def test_the_stack_of_a_call_has_the_new_lines(project: Project) -> None:
    project.edit("yield from (1, 2)", "import time; import warmd; warmd.context.progress(1); time.sleep(20)")
    project.edit("def count(self):", "def count(self):\n        # said\n")
    project.edit("class App:", "# moved\n\n\nclass App:")
    project.write("app.py", project.texts["app.py"])
    project.start()
    project.edit("# moved\n", "# moved\n\n\n")
    project.daemon.entered("count")
    line = next(n for n, line in enumerate(project.texts["app.py"].splitlines(), 1) if "sleep(20)" in line)
    assert f'app.py", line {line} in count' in project.daemon.stack()


def test_a_file_that_changed_while_it_was_imported(project: Project) -> None:
    project.edit("import helper\n", "import helper\nimport pathlib, os\nSELF = pathlib.Path(__file__)\n")
    late = """
if 'ONCE' not in os.environ:
    os.environ['ONCE'] = ''
    SELF.write_text(SELF.read_text().replace('old', 'new'))
"""
    project.write("app.py", project.texts["app.py"] + late)
    project.start()
    assert project.daemon.value("predict")[0] == "new"


def test_an_interrupt_of_a_module_that_runs_on_and_on(project: Project) -> None:
    project.start()
    project.edit("CACHE = {}", "import warmd\nwarmd.context.progress(1)\nwhile True: pass\nCACHE = {}")
    ordinal = project.daemon.entered("predict")
    assert isinstance(project.daemon.interrupt_until_reply(ordinal), Interrupted)
    ordinal = project.daemon.entered("predict")
    assert isinstance(project.daemon.interrupt_until_reply(ordinal), Interrupted)
    project.write("app.py", APP.replace('"old"', '"new"'))
    assert project.daemon.value("predict")[0] == "new"


def test_without_the_setting_nothing_is_looked_at(project: Project, daemon: FakeDaemon) -> None:
    ready = daemon.start("app:App", paths=(str(project.folder),))
    assert not ready.reloads
    project.edit('"old"', '"new"')
    assert daemon.value("predict")[0] == "old"


def test_looking_costs_microseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an app of five files: less than a fiftieth of a millisecond a call."""
    import importlib
    import timeit

    from warmd.daemon.worker.load import App, find_class
    from warmd.daemon.worker.reload import Reloader

    monkeypatch.syspath_prepend(str(tmp_path))
    for number in range(4):
        (tmp_path / f"looked_at_{number}.py").write_text("x = 1\n")
    imports = "".join(f"import looked_at_{number}\n" for number in range(4))
    (tmp_path / "looking.py").write_text(f"{imports}class App: pass\n")
    importlib.invalidate_caches()
    app = App(find_class("looking:App"), "looking")
    reloader = Reloader("looking:App", 2**63)
    reloader._watched = {name: one for name, one in reloader._watched.items() if str(tmp_path) in one.path}
    assert len(reloader._watched) == 5

    def look() -> None:
        assert reloader.renew(app, lambda function: function()) is app

    assert min(timeit.repeat(look, number=200, repeat=5)) / 200 < 100e-6
