"""Which statements of an edited module run again."""

from __future__ import annotations

import ast
from textwrap import dedent

import pytest

from warmd.daemon.worker.dirty import ClassEdit, Edit, Imported, compare, imports_of

MODULE = """
import json
CACHE = {}
SIZE = 3
def make(): return SIZE
TABLE = make()
def other(): return 1
MODEL = other()
items = []
items.append(TABLE)
json.dumps(SIZE)
"""


def edit(old: str | None, new: str, stale: tuple[Imported, ...] = ()) -> Edit:
    before = None if old is None else ast.parse(dedent(old))
    return compare(before, ast.parse(dedent(new)), lambda one: one in stale)


def again(old: str | None, new: str, stale: tuple[Imported, ...] = ()) -> list[str]:
    return [ast.unparse(node) for node in edit(old, new, stale).statements]


def class_edit(old: str, new: str, name: str = "A") -> ClassEdit:
    return edit(old, new).classes[name]


@pytest.mark.parametrize(
    ("what", "by", "expected"),
    [
        ("SIZE = 3", "# moved\n\nSIZE  =  (3)", []),
        ("CACHE = {}", "CACHE = {1: 2}", ["CACHE = {1: 2}"]),
        ("return 1", "return 2", ["def other():\n    return 2", "MODEL = other()"]),
        ("import json", "import json, os", ["import os"]),
        ("CACHE", "OTHER", ["OTHER = {}"]),
        ("items = []", "items = [0]", ["items = [0]", "items.append(TABLE)"]),
        (
            "return SIZE",
            "return -SIZE",
            ["def make():\n    return -SIZE", "TABLE = make()", "items = []", "items.append(TABLE)"],
        ),
    ],
)
def test_what_depends_on_an_edit_runs_again_and_nothing_else(what: str, by: str, expected: list[str]) -> None:
    assert again(MODULE, MODULE.replace(what, by)) == expected


def test_an_object_that_was_changed_is_made_anew_before_it_is_changed() -> None:
    old = "x = []\nx.append(1)\nx[0] = 2\nx.y = 3\ny = 5\n"
    every = ["x = []", "x.append(1)", "x[0] = 2", "x.y = 3"]
    assert again(old, old.replace("append(1)", "append(4)")) == [every[0], "x.append(4)", *every[2:]]
    assert again(old, old.replace("x[0] = 2\n", "")) == [every[0], every[1], every[3]]
    assert again("x = 1\ny = 2\nf(x)", "x = 1\ny = 2\ng(x)") == ["x = 1", "g(x)"]
    assert again("import m\nx = 1\nm.f(x)", "import m\nx = 1\nm.g(x)") == ["x = 1", "m.g(x)"]
    assert again("x = 1\nx += 1", "x = 1\nx += 2") == ["x = 1", "x += 2"]


def test_statements_that_change_places_run_again() -> None:
    assert again("a = 1\nx = a\nx = 2", "a = 1\nx = 2\nx = a") == ["x = 2", "x = a"]


def test_what_is_deleted_at_the_end_is_made_anew_to_be_used() -> None:
    old = "a = 1\nb = a\nc = 3\ndel a\n"
    assert again(old, old.replace("b = a", "b = -a")) == ["a = 1", "b = -a", "del a"]
    assert again(old, old.replace("c = 3", "c = 4")) == ["c = 4"]


def test_a_registry_is_filled_anew() -> None:
    old = "r = R()\n@r.add\ndef f(): return 1\n@r.add('g')\ndef g(): return 2\n"
    assert len(again(old, old.replace("return 1", "return 3"))) == 3


def test_what_is_bound_in_other_statements_counts() -> None:
    old = """
        try:
            import fast as engine
        except ImportError as error:
            engine = None
        with open("x") as file:
            text = file.read()
        for n in range(3):
            pass
        match text:
            case [*rest] as whole:
                pass
        [inner for inner in text]
        """
    found = edit(old, "pass")
    assert {"engine", "error", "file", "text", "n", "rest", "whole"} <= found.gone
    assert "inner" not in found.gone


def test_imports_run_again_when_what_they_bring_was_made_anew() -> None:
    module = "import helper\nfrom helper import LIMIT, other\nDOUBLE = LIMIT * 2\nSAME = helper\nX = 1\n"
    assert again(module, module, (Imported("helper", 0, "LIMIT"),)) == [
        "from helper import LIMIT", "DOUBLE = LIMIT * 2",
    ]  # fmt: skip
    assert again(module, module, (Imported("helper", 0, ""),)) == ["import helper", "SAME = helper"]
    assert again(module, module) == []


def test_a_star_that_brings_something_new_is_everything() -> None:
    module = "from helper import *\nCACHE = {}\n"
    assert again(module, module, (Imported("helper", 0, "*"),)) == ["from helper import *", "CACHE = {}"]
    assert edit(module, module, (Imported("helper", 0, "*"),)).edited == []


def test_futures_are_kept_and_are_everything_when_they_change() -> None:
    old = "from __future__ import annotations\nx = 1\ny = 2\n"
    assert again(old, old.replace("1", "3")) == ["from __future__ import annotations", "x = 3"]
    assert again(old, "x = 1\ny = 2\n") == ["x = 1", "y = 2"]
    assert again(old, old + "# only text\n") == []


def test_all_of_a_module_that_is_not_known() -> None:
    found = edit(None, "a = 1\nb = 2\n")
    assert (len(found.statements), found.dirty, found.edited) == (2, {"a", "b"}, ["a", "b"])


def test_what_people_are_told() -> None:
    old = """
        X = 1
        def f(): pass
        class A:
            size = 1
            def run(self): return 1
            def same(self): return X
        """
    new = old.replace("return 1", "return 2").replace("size = 1", "size = 2")
    assert edit(old, new).edited == ["run", "size"]
    assert edit(old, old.replace("X = 1", "X = 2")).edited == ["X"]
    assert edit(old, old.replace("class A", "class B")).edited == ["B", "A"]
    assert edit(old, old.replace("class A:", "class A(list):")).edited == ["A"]
    assert edit(old, old.replace("def f(): pass", "")).edited == ["f"]


CLASS = """
X = 1
class A:
    count = 0
    size = X
    def setup(self): pass
    def run(self): return X
    class Inner:
        n = 1
        def f(self): return 1
"""


def test_attributes_that_nothing_happened_to_are_kept() -> None:
    found = class_edit(CLASS, CLASS.replace("X = 1", "X = 2"))
    assert found.kept == {"count", "setup", "Inner"}
    assert not found.only_methods
    found = class_edit(CLASS, CLASS.replace("    def setup(self): pass\n", ""))
    assert (found.gone, found.only_methods) == ({"setup"}, True)
    assert "setup" not in found.kept


def test_classes_in_classes() -> None:
    new = CLASS.replace("return 1", "return 2")
    assert class_edit(CLASS, new, "A.Inner") == ClassEdit(
        frozenset({"n"}), frozenset(), frozenset({"f"}), only_methods=True
    )


def test_of_a_decorated_class_no_field_is_kept() -> None:
    old = "@dataclass\nclass A:\n    n: int = 1\n    def f(self): return 1\n    def g(self): return 3\n"
    assert class_edit(old, old.replace("return 1", "return 2")).kept == frozenset()
    state = old.replace("n: int = 1", "n: int = 1\n    made: ClassVar[list[A]] = []\n    count = 0")
    assert class_edit(state, state.replace("return 1", "return 2")).kept == {"made", "count"}


def test_what_a_call_of_a_function_changes_is_made_anew() -> None:
    old = """
        handlers, seen = [], {}
        def on(name):
            seen[name] = 1
            def inner(f):
                handlers.append(f)
                def later(*args):
                    seen.clear()
                    counts[name] += 1
                return later
            log.info(name)
            return inner
        counts = {}
        log = logger()
        @on("a")
        def a(): return 1
        @on("b")
        def b(): return 2
        kept = load()
        """
    assert edit(old, old.replace("return 1", "return 3")).remade == ["handlers", "seen"]
    assert edit(old, old.replace("kept = load()", "kept = load(1)")).remade == []
    plain = old.replace('@on("a")', "@on")
    assert edit(plain, plain.replace("return 1", "return 3")).remade == ["handlers", "seen"]
    plain = plain.replace('@on("b")', "@on").replace("seen[name] = 1", "global seen")
    assert "on" in edit(plain, plain.replace("return 1", "return 3")).dirty


@pytest.mark.parametrize(
    ("body", "new", "only_methods"),
    [
        ("def f(self): return 1", "def f(self): return 2", True),
        ("def f(self): return 1", "'text'\n    async def f(self): return 2", True),
        ("@property\n    def f(self): return 1", "@property\n    def f(self): return 2", True),
        ("@validator\n    def f(self): return 1", "@validator\n    def f(self): return 2", False),
        ("n: int", "n: str", False),
        ("n: X", "n: X\n    def f(self): return X", True),
    ],
)
def test_whether_only_methods_were_edited(body: str, new: str, only_methods: bool) -> None:
    old, new = (f"class A(Base):\n    m = 0\n    {one}\n" for one in (body, new))
    assert class_edit(old, new).only_methods is only_methods
    assert not class_edit(old, new.replace("Base", "Other")).only_methods


def test_imports_of_a_module_are_those_of_its_execution() -> None:
    tree = ast.parse(
        "import a.b\nfrom ..c import d\nif x:\n    import e\nclass A:\n    import f\n"
        "    def g(self):\n        import h\ndef i():\n    import j\n"
    )
    assert imports_of(tree) == [
        Imported("a.b", 0, ""), Imported("c", 2, "d"), Imported("e", 0, ""), Imported("f", 0, ""),
    ]  # fmt: skip
