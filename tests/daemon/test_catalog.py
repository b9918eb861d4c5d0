import os
import re
import sys
import venv

import pytest

from warmd.daemon import catalog as catalog_module
from warmd.daemon.catalog import AppLookupError, Catalog
from warmd.protocol.messages import AppRef, Origin
from warmd.protocol.work import AppSpec

TRAP = "raise SystemExit('imported!')\n"


@pytest.fixture
def folders(tmp_path):
    """A folder of app folders, none of which may be imported."""
    apps = tmp_path / "apps"
    files = {
        "plain/app.py": TRAP + "class App: ...\nclass Other: ...",
        "single/app.py": TRAP + "class _Hidden: ...\nclass Only: ...",
        "several/app.py": "class A: ...\nclass B: ...",
        "none/app.py": "x = 1",
        "broken/app.py": "class App(:",
        "imported/app.py": "from x import App",
        "assigned/app.py": "import y\nApp = y.make()",
        "guarded/app.py": "try:\n  import z\nexcept ImportError:\n  pass\nif True:\n  class App: ...",
        "infer/inference.py": TRAP + "class App: ...",
        "packaged/__init__.py": TRAP + "class App: ...",
        "relative/__init__.py": TRAP,
        "relative/app.py": "from .other import x\nclass App: ...",
        "not-a-name/app.py": "class App: ...",
        "empty/readme.txt": "",
        ".hidden/app.py": "class App: ...",
        "_private/app.py": "class App: ...",
        "file.py": "class App: ...",
    }
    for name, text in files.items():
        path = apps / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return apps


@pytest.fixture
def catalog(folders):
    return Catalog([str(folders), "/nowhere"])


def origin(path="", cwd="/", python=sys.executable):
    return Origin(python, str(cwd), str(path))


def problem_of(catalog, ref):
    with pytest.raises(AppLookupError) as error:
        catalog.lookup(ref)
    assert error.value.problem.ran == "no"
    return error.value.problem


@pytest.mark.parametrize(
    ("name", "target", "paths"),
    [
        ("plain", "app:App", ["plain"]),
        ("single", "app:Only", ["single"]),
        ("imported", "app:App", ["imported"]),
        ("assigned", "app:App", ["assigned"]),
        ("guarded", "app:App", ["guarded"]),
        ("broken", "app:App", ["broken"]),
        ("infer", "inference:App", ["infer"]),
        ("packaged", "packaged:App", ["", "packaged"]),
        ("relative", "relative.app:App", ["", "relative"]),
        ("not-a-name", "app:App", ["not-a-name"]),
    ],
)
def test_app_folders_by_name_and_by_path(catalog, folders, name, target, paths):
    paths = tuple(str(folders / path) for path in paths)
    assert catalog.lookup(AppRef(name)) == AppSpec(name, target, paths, str(folders / name))
    path = str(folders / name)
    assert catalog.lookup(AppRef(path)) == AppSpec(path, target, paths)
    client = origin("/client", "/tmp")
    assert catalog.lookup(AppRef(path, client)) == AppSpec(path, target, (*paths, "/client", "/tmp"), "/tmp")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("several", r"several classes \(A, B\).*app\.py:A"),
        ("none", "defines no class"),
        ("empty", r"holds no app\.py"),
    ],
)
def test_folders_that_are_no_apps_say_why(catalog, folders, name, text):
    for ref in (AppRef(name), AppRef(str(folders / name))):
        problem = problem_of(catalog, ref)
        assert problem.code == "APP_NOT_FOUND"
        assert re.search(text, problem.message)


def test_files_and_classes_in_them(catalog, folders):
    path = str(folders / "several" / "app.py")
    assert catalog.lookup(AppRef(path + ":B")) == AppSpec(path + ":B", "app:B", (os.path.dirname(path),))
    folder = str(folders / "several")
    assert catalog.lookup(AppRef(folder + ":B")).target == "app:B"
    assert problem_of(catalog, AppRef(path + ":C")).message.endswith("it defines A, B")
    assert "did you mean 'App'?" in problem_of(catalog, AppRef(str(folders / "plain/app.py") + ":Ap")).message
    assert catalog.lookup(AppRef(str(folders / "file.py"))).target == "file:App"
    (folders / "a-b.py").write_text("class App: ...")
    assert problem_of(catalog, AppRef(str(folders / "a-b.py"))).code == "INVALID"


def test_paths_that_lead_nowhere(catalog, folders):
    assert problem_of(catalog, AppRef("/no/such/app")).code == "APP_NOT_FOUND"
    assert problem_of(catalog, AppRef(str(folders / "empty/readme.txt"))).code == "APP_NOT_FOUND"
    assert problem_of(catalog, AppRef("./relative")).code == "INVALID"
    assert problem_of(catalog, AppRef("a\0b")).code == "INVALID"
    (folders / "huge").mkdir()
    (folders / "huge" / "app.py").write_text("(" * 100_000)
    assert problem_of(catalog, AppRef("huge")).code == "APP_NOT_FOUND"


def test_a_file_that_is_too_large_is_not_searched(catalog, folders, monkeypatch):
    monkeypatch.setattr(catalog_module, "MAX_SOURCE_BYTES", 100)
    path = str(folders / "big.py")
    with open(path, "w") as file:
        file.write("class App: ...\n" + "#" * 86)
    problem = problem_of(catalog, AppRef(path))
    for fact in ("has 101 bytes", "up to 100", f"{path}:App", "module:App"):
        assert fact in problem.message
    assert catalog.lookup(AppRef(path + ":Anything")).target == "big:Anything"


def test_a_class_that_is_asked_for_may_be_defined_in_any_way(catalog, folders):
    (folders / "odd.py").write_text("class A: ...\nglobals()['Made'] = A\nif A: Other = A\n")
    for name in ("Made", "Other"):
        assert catalog.lookup(AppRef(f"{folders}/odd.py:{name}")).target == f"odd:{name}"
    assert "defines no class 'Mad'" in problem_of(catalog, AppRef(f"{folders}/odd.py:Mad")).message
    (folders / "star.py").write_text("from a import *\n")
    assert catalog.lookup(AppRef(f"{folders}/star.py:Any")).target == "star:Any"


def test_module_and_class_travel_with_the_clients_place(catalog, tmp_path):
    spec = catalog.lookup(AppRef("pkg.mod:Class", origin(tmp_path, tmp_path)))
    assert spec == AppSpec("pkg.mod:Class", "pkg.mod:Class", (str(tmp_path),), str(tmp_path), None)
    assert catalog.lookup(AppRef("mod:Class")) == AppSpec("mod:Class", "mod:Class")
    assert catalog.lookup(AppRef("mod:Outer.Inner")).target == "mod:Outer.Inner"
    for name in ("mod:", ":Class", "a..b:C", "a b:C", "mod:C:D", "__main__:App"):
        assert problem_of(catalog, AppRef(name)).code == "INVALID"
    assert problem_of(catalog, AppRef("m:C", origin(cwd="/gone/away"))).code == "INVALID"


def test_another_interpreter_is_told_from_the_same_one(catalog, tmp_path):
    def python_of(path):
        return catalog.lookup(AppRef("m:C", origin(python=str(path)))).python

    bin_dir = os.path.dirname(sys.executable)
    assert python_of(sys.executable) is None
    twin = os.path.join(bin_dir, "python")
    assert python_of(twin) is None
    venv.EnvBuilder(symlinks=True, with_pip=False).create(tmp_path / "env")
    other = str(tmp_path / "env" / "bin" / "python")
    assert python_of(other) == other
    for wrong in ("python3", str(tmp_path / "none"), str(tmp_path)):
        assert problem_of(catalog, AppRef("m:C", origin(python=wrong))).code == "INVALID"


def test_classes_by_value(catalog):
    ref = AppRef("Counter", origin("/client", "/tmp"), "ab" * 32)
    assert catalog.lookup(ref) == AppSpec("Counter", "", ("/client", "/tmp"), "/tmp")
    problem = problem_of(Catalog(classes=False), ref)
    assert problem.code == "NOT_ALLOWED"
    assert "classes = true" in problem.message


def test_registered_apps(catalog):
    assert catalog.lookup(AppRef("counter")) == AppSpec("counter", "warmd.apps.counter:Counter")
    assert catalog.lookup(AppRef("chat-with-memory")).target == "warmd.apps.chat:Chat"


def test_an_unknown_name_gets_a_suggestion_and_the_list(catalog):
    problem = problem_of(catalog, AppRef("countr"))
    assert problem.code == "APP_NOT_FOUND"
    assert "did you mean 'counter'?" in problem.message
    assert "plain" in problem.message
    assert "did you mean" not in problem_of(catalog, AppRef("zzzzzz")).message


def test_the_list_holds_what_can_be_called_by_name(catalog, folders):
    apps = {app["name"]: app for app in catalog.apps()}
    assert list(apps) == sorted(apps)
    assert {"counter", "chat", "plain", "infer", "not-a-name"} <= set(apps)
    assert not {"several", "empty", ".hidden", "_private", "file.py"} & set(apps)
    assert apps["counter"] == {
        "name": "counter",
        "target": "warmd.apps.counter:Counter",
        "folder": None,
        "source": "package warmd",
    }
    assert apps["plain"]["folder"] == str(folders / "plain")
    assert apps["plain"]["source"] == f"folder {folders}"


def test_a_package_installed_later_is_found(catalog, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    assert problem_of(catalog, AppRef("late")).code == "APP_NOT_FOUND"
    info = site / "late-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[warmd.apps]\nlate = late.app:Late\n")
    assert catalog.lookup(AppRef("late")).target == "late.app:Late"


def test_registered_names_come_before_folders(folders):
    (folders / "counter").mkdir()
    (folders / "counter" / "app.py").write_text("class App: ...")
    assert Catalog([str(folders)]).lookup(AppRef("counter")).target == "warmd.apps.counter:Counter"


def test_with_reload_each_app_takes_over_what_is_edited(folders):
    assert not Catalog([str(folders)]).lookup(AppRef("counter")).reload
    assert Catalog([str(folders)], reload=True).lookup(AppRef("counter")).reload
