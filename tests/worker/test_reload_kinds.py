"""What an app's files may hold: other kinds of apps, classes, modules and values."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.daemon import FakeDaemon
from tests.worker.project import Project
from warmd.protocol.work import Ready


@pytest.fixture
def project(daemon: FakeDaemon, tmp_path: Path) -> Project:
    (tmp_path / "files").mkdir()
    return Project(tmp_path / "files", daemon)


def test_an_async_app(project: Project) -> None:
    project.write(
        "app.py",
        """
        import asyncio
        class App:
            async def setup(self):
                self.model = object()
                self.ticks = asyncio.create_task(self.tick())
            async def tick(self):
                while True:
                    await asyncio.sleep(0.01)
            async def run(self):
                await asyncio.sleep(0)
                return [1, id(self.model), self.ticks.done()]
            async def parts(self):
                yield 1
        """,
    )
    project.start()
    _, model, _ = project.daemon.value("run")
    project.edit("[1, id", "[2, id")
    project.edit("yield 1", "yield 2")
    assert project.daemon.value("run") == [2, model, False]
    project.daemon.invoke("parts", window=5)
    assert project.daemon.parts(1) == [(0, 2)]
    assert project.daemon.reply().parts == 1
    project.edit("[2, id", "[2, (id")
    assert "SyntaxError" in project.refusal("run")
    project.edit("[2, (id", "[3, id")
    assert project.daemon.value("run") == [3, model, False]
    project.edit("self.model = object()", "self.model = 1")
    assert "App.setup has changed" in project.refusal("run")


METACLASS = """
class Meta(type):
    def __setattr__(cls, name, value):
        raise TypeError("no")
    def __new__(mcs, name, bases, namespace, **options):
        made = super().__new__(mcs, name, bases, namespace)
        type.__setattr__(made, "made", [name])
        return made

class Model(metaclass=Meta):
    pass
"""


def test_an_app_of_a_metaclass_of_its_own(project: Project) -> None:
    """As of pydantic's models: only its methods are exchanged."""
    project.write("base.py", METACLASS)
    project.write(
        "app.py",
        """
        from base import Model
        FACTOR = 1
        class App(Model):
            size: int = 1
            def setup(self):
                self.model = object()
            def run(self):
                return [FACTOR, id(self.model), type(self).made is App.made]
            def gone(self):
                return 1
        """,
    )
    project.start()
    _, model, _ = project.daemon.value("run")
    project.edit("FACTOR = 1", "FACTOR = 2")
    assert project.daemon.value("run") == [2, model, True]
    project.edit("    def gone(self):\n        return 1", "    def come(self):\n        return 7")
    assert project.daemon.value("come") == 7
    project.edit("size: int = 1", "size: int = 2")
    assert "cannot be changed in place" in project.refusal("run")


def test_pydantic(project: Project) -> None:
    pytest.importorskip("pydantic")
    project.write(
        "app.py",
        """
        import pydantic
        class Input(pydantic.BaseModel):
            n: int = 1
        class App(pydantic.BaseModel):
            def setup(self):
                self.__dict__["model"] = object()
            def run(self):
                return [Input(n="4").n, id(self.model)]
        """,
    )
    project.start()
    _, model = project.daemon.value("run")
    project.edit("[Input", "[10 * Input")
    assert project.daemon.value("run") == [40, model]
    project.edit("n: int = 1", "n: int = 1\n    m: int = 2")
    project.edit('(n="4").n', '(n="4").m')
    assert project.daemon.value("run") == [20, model]
    assert "Input could not be changed in place" in project.daemon.log_text()


KINDS = """
import abc, enum, functools
from dataclasses import dataclass, field
from typing import NamedTuple

class Mode(enum.Enum):
    FAST = 1
    def text(self): return "mode"

class Pair(NamedTuple):
    a: int
    def total(self): return self.a

@dataclass
class Data:
    n: int = 1
    items: list = field(default_factory=list)
    def total(self): return self.n

@dataclass(slots=True)
class Slim:
    n: int = 1
    def total(self): return self.n

class Abstract(abc.ABC):
    @abc.abstractmethod
    def total(self): ...

class Concrete(Abstract):
    @property
    def size(self): return 1
    @staticmethod
    def static(): return 1
    @classmethod
    def made(cls): return [cls is Concrete, 1]
    @functools.lru_cache
    def cached(self): return 1
    def total(self): return 1

def doubled(f):
    @functools.wraps(f)
    def inner(*args):
        return 2 * f(*args)
    return inner

class App:
    def setup(self):
        self.held = [Mode.FAST, Pair(1), Data(1, [2]), Slim(1), Concrete()]

    @doubled
    def run(self):
        mode, pair, data, slim, concrete = self.held
        return [mode.text(), mode is Mode.FAST, pair.total(), data.total(), slim.total(), concrete.total(),
                concrete.size, concrete.static(), concrete.made(), concrete.cached(),
                [isinstance(one, kind) for one, kind in zip(self.held, (Mode, Pair, Data, Slim, Abstract))],
                repr(data), data == Data(1, [2]), Pair(1) == pair]
"""


def test_kinds_of_classes(project: Project) -> None:
    project.write("app.py", KINDS)
    project.start()
    whole = ["mode", True, 1, 1, 1, 1, 1, 1, [True, 1], 1, [True] * 5, "Data(n=1, items=[2])", True, True]
    assert project.daemon.value("run") == 2 * whole
    project.edit("return self.a", "return 10 * self.a")
    project.edit("return self.n", "return 10 * self.n")
    project.edit('return "mode"', 'return "other"')
    project.edit("def total(self): return 1\n", "def total(self): return 10\n")
    project.edit("def size(self): return 1", "def size(self): return 10")
    project.edit("def static(): return 1", "def static(): return 10")
    project.edit("return [cls is Concrete, 1]", "return [cls is Concrete, 10]")
    project.edit("def cached(self): return 1", "def cached(self): return 10")
    project.edit("return 2 * f", "return 3 * f")
    found = project.daemon.value("run")
    assert found == 3 * ["other", True, *[10] * 6, [True, 10], 10, [True] * 5, *whole[-3:]]
    project.edit("field(default_factory=list)", "field(default_factory=list, repr=False)")
    assert project.daemon.value("run")[11] == "Data(n=1)"
    assert "in place" not in project.daemon.log_text()


def test_a_class_that_is_another_one_now_and_has_made_state_asks_for_a_new_session(project: Project) -> None:
    project.write("app.py", KINDS)
    project.start()
    before = project.daemon.value("run")
    assert before[1] is True
    project.edit("FAST = 1", "FAST = 1\n    SLOW = 2")
    assert "the class Mode" in project.refusal("run")
    project.edit("FAST = 1\n    SLOW = 2", "FAST = 1")
    assert project.daemon.value("run") == before


def test_other_bases(project: Project) -> None:
    project.write(
        "app.py",
        """
        class A:
            def name(self): return "A"
        class B(A):
            def name(self): return "B"
        class Held(A):
            pass
        class App:
            def setup(self):
                self.held = Held()
            def run(self):
                return self.held.name()
        """,
    )
    project.start()
    assert project.daemon.value("run") == "A"
    project.edit("class Held(A)", "class Held(B)")
    assert project.daemon.value("run") == "B"
    project.edit("class Held(B)", "class Held(A)")
    project.edit("return self.held", "return 2 * self.held")
    assert project.daemon.value("run") == "AA"


def test_a_package_with_relative_imports(project: Project) -> None:
    project.write("pack/__init__.py", "")
    project.write("pack/deep/__init__.py", "from .. import settings\nfrom ..settings import SIZE as size\n")
    project.write("pack/settings.py", "SIZE = 1\n")
    project.write(
        "pack/app.py",
        """
        from . import deep, settings
        from .deep import size
        DOUBLE = 2 * size
        class App:
            def run(self):
                from .settings import SIZE
                return [SIZE, size, DOUBLE, deep.size, deep.settings.SIZE]
        """,
    )
    project.start("pack.app:App")
    assert project.daemon.value("run") == [1, 1, 2, 1, 1]
    project.edit("1", "5", "pack/settings.py")
    assert project.daemon.value("run") == [5, 5, 10, 5, 5]


def test_state_of_a_module_is_kept_where_nothing_happened_to_it(project: Project) -> None:
    project.write(
        "app.py",
        """
        import itertools
        CACHE, COUNT = {}, 0
        NUMBERS = itertools.count()
        STEP = 1
        class App:
            seen = []
            def run(self):
                global COUNT
                COUNT += STEP
                self.seen.append(1)
                return [COUNT, next(NUMBERS), len(self.seen)]
        """,
    )
    project.start()
    assert project.daemon.value("run") == [1, 0, 1]
    project.edit("STEP = 1", "STEP = 10")
    assert project.daemon.value("run") == [11, 1, 2]
    project.edit("itertools.count()", "itertools.count(5)")
    assert project.daemon.value("run") == [21, 5, 3]
    project.edit("seen = []", "seen = [0, 0]")
    assert project.daemon.value("run") == [31, 6, 3]
    project.edit("CACHE, COUNT = {}, 0", "CACHE, COUNT = {}, 100")
    assert project.daemon.value("run") == [110, 7, 4]


def test_modules_that_import_each_other(project: Project) -> None:
    project.write("one.py", "import two\ndef f(): return 1\ndef g(): return two.f()\n")
    project.write("two.py", "import one\ndef f(): return 2\ndef g(): return one.f()\n")
    project.write("app.py", "import one, two\nclass App:\n    def run(self): return [one.g(), two.g()]\n")
    project.start()
    assert project.daemon.value("run") == [2, 1]
    project.edit("return 1", "return 10", "one.py")
    project.edit("return 2", "return 20", "two.py")
    assert project.daemon.value("run") == [20, 10]


def test_new_modules_and_those_that_are_imported_late(project: Project) -> None:
    project.write("late.py", "def f(): return 1\n")
    project.write("app.py", "class App:\n    def run(self):\n        import late\n        return late.f()\n")
    project.start()
    assert project.daemon.value("run") == 1
    project.edit("1", "2", "late.py")
    assert project.daemon.value("run") == 2
    project.write("fresh.py", "def f(): return 3\n")
    project.write("app.py", "import fresh\nclass App:\n    def run(self):\n        return fresh.f()\n")
    assert project.daemon.value("run") == 3
    project.edit("3", "4", "fresh.py")
    assert project.daemon.value("run") == 4


def test_a_class_by_value(daemon: FakeDaemon, project: Project) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")

    class Local:
        def run(self) -> object:
            import helper  # type: ignore[import-not-found]

            return helper.f()

    project.write("helper.py", "def f(): return 1\n")
    daemon.spawn()
    daemon.admit()
    daemon.begin("", pickled=cloudpickle.dumps(Local), paths=(str(project.folder),), reload=True)
    assert isinstance(daemon.next(), Ready)
    assert daemon.value("run") == 1
    project.edit("1", "2", "helper.py")
    assert daemon.value("run") == 2


def test_registries_of_classes_have_each_once(project: Project) -> None:
    project.write(
        "app.py",
        """
        class Plugin:
            listed, named = [], {}
            def __init_subclass__(cls):
                cls.listed.append(cls)
                cls.named[cls.__name__] = cls
        class One(Plugin):
            def value(self): return 1
        class App:
            def run(self):
                return [[kind().value() for kind in Plugin.listed], Plugin.named["One"] is One]
        """,
    )
    project.start()
    assert project.daemon.value("run") == [[1], True]
    project.edit("return 1", "return 2")
    assert project.daemon.value("run") == [[2], True]
    project.edit("class App", "class Two(Plugin):\n    def value(self): return 3\n\nclass App")
    assert project.daemon.value("run") == [[2, 3], True]


def test_an_async_app_may_be_so_again(project: Project) -> None:
    project.write("app.py", "class App:\n    async def run(self):\n        return 1\n")
    project.start()
    assert project.daemon.value("run") == 1
    project.edit("async def", "def")
    assert project.daemon.value("run") == 1
    project.edit("def run", "async def run")
    assert project.daemon.value("run") == 1


def test_a_setup_within_a_decorator(project: Project) -> None:
    project.write(
        "app.py",
        """
        def silent(f):
            def inner(self):
                return f(self)
            return inner
        class App:
            @silent
            def setup(self):
                self.model = 1
            def run(self):
                return self.model
        """,
    )
    project.start()
    assert project.daemon.value("run") == 1
    project.edit("class App", "# moved\nclass App")
    project.edit("return self.model", "return -self.model")
    assert project.daemon.value("run") == -1
    project.edit("self.model = 1", "self.model = 2")
    assert "App.setup has changed" in project.refusal("run")
