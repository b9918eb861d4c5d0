"""What would silently be lost, or silently go on as old code, if nobody took care of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.worker.daemon import FakeDaemon
from tests.worker.project import Project
from warmd.daemon.worker import reload


@pytest.fixture
def project(daemon: FakeDaemon, tmp_path: Path) -> Project:
    (tmp_path / "files").mkdir()
    return Project(tmp_path / "files", daemon)


def started(project: Project, text: str) -> None:
    """A session of an app whose file is as old as most are."""
    project.write("app.py", text)
    old = time.time() - 100
    for name in project.texts:
        os.utime(project.folder / name, (old, old))
    time.sleep(0.05)  # the time of the last change cannot be set
    project.start()


def value(project: Project, function: str = "run", given: Any = None) -> Any:
    return project.daemon.value(function, given)


def test_a_typed_input_has_its_new_fields(project: Project) -> None:
    started(
        project,
        """
        from dataclasses import dataclass
        @dataclass
        class Given:
            x: int
        class App:
            def run(self, given: Given):
                return vars(given)
        """,
    )
    assert value(project, given={"x": 1}) == {"x": 1}
    project.edit("x: int", "x: int\n    y: int = 5")
    assert value(project, given={"x": 1, "y": 2}) == {"x": 1, "y": 2}


def test_a_module_that_came_late_is_not_executed_twice(project: Project) -> None:
    started(project, "class App:\n    def run(self):\n        return 0\n")
    assert value(project) == 0
    time.sleep(0.05)
    project.write("late.py", "calls = []\ndef add():\n    calls.append(1)\n    return len(calls)\n")
    time.sleep(0.05)
    project.edit("return 0", "import late; return late.add()")
    assert [value(project) for _ in range(3)] == [1, 2, 3]


def test_a_failure_is_tried_again_when_the_file_is_saved_once_more(project: Project) -> None:
    started(project, "class App:\n    def run(self):\n        return 1\n")
    project.edit("class App", "import comes_late\nclass App")
    assert "ModuleNotFoundError" in project.refusal("run")
    (project.folder / "comes_late.py").write_text("")
    assert "ModuleNotFoundError" in project.refusal("run")
    os.utime(project.folder / "app.py")
    assert value(project) == 1


def test_a_file_that_is_just_being_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that is cut off would take values of the module away, and the whole one bring new ones."""
    path = tmp_path / "app.py"
    path.write_text("whole = 1")
    watched = reload._Watched("app", str(path), None, b"whole = 1", b"whole = 1")
    path.write_text("who")
    written = iter(["whole", "whole = 2"])
    monkeypatch.setattr(reload.time, "sleep", lambda _: path.write_text(next(written, "whole = 2")))
    assert reload._read_settled([watched])
    assert watched.latest == b"whole = 2"


REGISTRY = """
    handlers, tools = [], {}
    def on(f):
        handlers.append(f)
        tools[f.__name__] = f
        return f
    def named(name):
        def register(f):
            def wrapped():
                return f()
            handlers.append(wrapped)
            return wrapped
        return register
    """
REGISTERED = """
    @on
    def a(): return 1
    @on
    def b(): return 2
    @named("c")
    def c(): return 3
    class App:
        def run(self):
            return [[one() for one in handlers], sorted(tools)]
    """


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_registry_has_each_function_once_and_none_that_is_gone(
    project: Project, is_elsewhere: bool
) -> None:
    if is_elsewhere:
        project.write("registry.py", REGISTRY)
        started(project, "    from registry import handlers, named, on, tools\n" + REGISTERED)
    else:
        started(project, REGISTRY + REGISTERED)
    assert value(project) == [[1, 2, 3], ["a", "b"]]
    project.edit("return 1", "return 10")
    assert value(project) == [[10, 2, 3], ["a", "b"]]
    assert "made anew: handlers, tools" in project.daemon.log_text()
    project.edit("return 3", "return 30")
    project.edit("def b()", "def d()")
    assert value(project) == [[10, 2, 30], ["a", "d"]]


def test_a_function_is_in_a_list_once_that_no_name_shows(project: Project) -> None:
    project.write("hub.py", "class Hub:\n    all = []\ndef join(f):\n    vars(Hub)['all'].append(f)\n")
    started(
        project,
        """
        import hub
        def a(): return 1
        def b(): return 2
        {one: hub.join(one) for one in (a, b)}
        class App:
            def run(self): return [one() for one in hub.Hub.all]
        """,
    )
    assert value(project) == [1, 2]
    project.edit("return 1", "return 10")
    assert value(project) == [10, 2]


SUBCLASSES = """
    class Base: pass
    class A(Base):
        def name(self): return "a"
    class B(Base):
        def name(self): return "b"
    class App:
        def run(self):
            return [one().name() for one in Base.__subclasses__()]
    """


def test_there_are_no_ghosts_among_subclasses(project: Project) -> None:
    started(project, SUBCLASSES)
    assert value(project) == ["a", "b"]
    project.edit('return "a"', 'return "A"')
    assert value(project) == ["A", "b"]


def test_values_of_decorated_classes_are_kept(project: Project) -> None:
    started(
        project,
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import ClassVar
        @dataclass
        class Pool:
            size: int = 1
            all: ClassVar[list[Pool]] = []
            def name(self): return "old"
        class App:
            def setup(self):
                Pool.all.append(Pool())
            def run(self):
                return [len(Pool.all), Pool.all[0].name(), Pool().size]
        """,
    )
    assert value(project) == [1, "old", 1]
    project.edit('"old"', '"new"')
    assert value(project) == [1, "new", 1]
    project.edit("size: int = 1", "size: int = 2")
    assert value(project) == [1, "new", 2]


def test_closures_that_the_state_holds_have_the_new_code(project: Project) -> None:
    started(
        project,
        """
        import functools
        def traced(f):
            @functools.wraps(f)
            def inner(*args):
                return f(*args)
            return inner
        class App:
            def setup(self):
                self.bound = self.named
                self.made = None
            @traced
            def named(self): return "old"
            def make(self):
                word = "!"
                self.made = [lambda: "old" + word, lambda: "second"]
            def run(self):
                if self.made is None:
                    self.make()
                return [self.bound(), self.named(), *(one() for one in self.made)]
        """,
    )
    assert value(project) == ["old", "old", "old!", "second"]
    project.edit('"old"', '"new"')
    assert value(project) == ["new", "new", "new!", "second"]


@pytest.mark.parametrize(
    ("what", "by", "text"),
    [
        ('x: str = "old"', 'x: str = "new"', "the class Model of "),
        ('RED = "red"', 'RED = "RED"', "the class Color of "),
        ('return "lazy"', 'return "other"', "App.lazy has changed"),
    ],
)
def test_state_that_would_be_of_former_code_asks_for_a_new_session(
    project: Project, what: str, by: str, text: str
) -> None:
    started(
        project,
        """
        import enum, functools
        import pydantic
        class Model(pydantic.BaseModel):
            x: str = "old"
        class Color(enum.Enum):
            RED = "red"
        class App:
            def setup(self):
                self.model = {1: [Model()]}
                self.color = (Color.RED,)
            @functools.cached_property
            def lazy(self): return "lazy"
            def run(self):
                return [isinstance(self.model[1][0], Model), self.color[0] is Color.RED, self.lazy]
        """,
    )
    assert value(project) == [True, True, "lazy"]
    project.edit(what, by)
    assert text in project.refusal("run")
    project.edit(by, what)
    assert value(project) == [True, True, "lazy"]


def test_what_a_template_has_frozen_is_found(project: Project) -> None:
    """Its forks have its objects out of the collector's sight."""
    started(
        project,
        """
        import gc
        class Base:
            kinds = []
            def __init_subclass__(cls): Base.kinds.append(cls)
        class A(Base):
            def name(self): return "a"
        class App:
            def setup(self):
                gc.freeze()
            def run(self):
                return [one().name() for one in Base.kinds]
        """,
    )
    assert value(project) == ["a"]
    project.edit('"a"', '"A"')
    assert value(project) == ["A"]


def test_a_class_that_was_left_half_made_is_no_ghost(project: Project) -> None:
    started(
        project,
        """
        class Base:
            kinds = []
            def __init_subclass__(cls):
                Base.kinds.append(cls)
                cls.check()
        class A(Base):
            @classmethod
            def check(cls): pass
            def name(self): return "a"
        class App:
            def run(self):
                return [[one().name() for one in Base.kinds], len(Base.__subclasses__())]
        """,
    )
    project.edit("check(cls): pass", "check(cls): 1 / 0")
    assert "ZeroDivisionError" in project.refusal("run")
    project.edit("1 / 0", "pass")
    project.edit('"a"', '"A"')
    assert value(project) == [["A"], 1]


def test_closures_that_the_state_holds_stand_in_the_new_lines(project: Project) -> None:
    started(
        project,
        """
        import sys
        class App:
            def setup(self):
                self.line = lambda: sys._getframe().f_lineno
            def run(self):
                return self.line()
        """,
    )
    line = value(project)
    project.edit("import sys", "import sys\n\n\n")
    assert value(project) == line + 3


def test_what_a_star_makes_anew_is_told(project: Project) -> None:
    project.write("names.py", "SIZE = 1\n")
    started(
        project,
        """
        from names import *
        calls = []
        class App:
            def run(self):
                return [SIZE, len(calls)]
        """,
    )
    assert value(project) == [1, 0]
    project.edit("SIZE = 1", "SIZE = 2", "names.py")
    assert value(project) == [2, 0]
    assert "reloaded app.py: nothing itself; made anew: calls" in project.daemon.log_text()
