"""What app folders say of themselves, and what is no manifest."""

from __future__ import annotations

import itertools
import os
import sys

import pytest

from warmd.daemon.catalog import AppLookupError, Catalog
from warmd.daemon.manifest import Manifest, ManifestError, read
from warmd.protocol.messages import AppRef, Origin
from warmd.protocol.work import AppSpec, Asks

WHOLE = f"""
entry = "code:Model"
default_function = "predict"
paths = ["lib"]
python = "{sys.executable}"
requirements = ["numpy >= 1", "./wheel.whl"]
gpu = [0, 1]
reload = true
template = false
spares = 2
session_timeout = "5m"
max_lifetime = "1h"
start_timeout = 90
memory = "2GiB"

[env]
LEVEL = 3
"""


LAUGHS = "a: &a [x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
    for before, after in itertools.pairwise("abcdefghi")
)
LAUGHS += "env: *i\n"
"""A few lines that stand for 9^8 values."""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "apps" / "demo"
    (folder / "lib").mkdir(parents=True)
    (folder / "app.py").write_text("class App: ...")
    return folder


def said(folder, text, file="app.toml"):
    (folder / file).write_text(text)
    return read(str(folder))


def test_a_folder_need_say_nothing(folder):
    assert read(str(folder)) == Manifest()


def test_all_that_can_be_said(folder):
    assert said(folder, WHOLE) == Manifest(
        entry="code:Model",
        paths=(str(folder / "lib"),),
        python=sys.executable,
        requirements=f"numpy >= 1\n{folder}/wheel.whl\n",
        env={"LEVEL": "3", "CUDA_VISIBLE_DEVICES": "0,1"},
        default_function="predict",
        reload=True,
        asks=Asks(300.0, 3600.0, 90.0, 2 * 2**30, 2, False),
    )


def test_it_goes_along_with_where_the_app_is_found(folder):
    said(folder, WHOLE)
    spec = Catalog([str(folder.parent)]).lookup(AppRef(folder.name))
    assert spec == AppSpec(
        folder.name,
        "code:Model",
        (str(folder), str(folder / "lib")),
        str(folder),
        sys.executable,
        f"numpy >= 1\n{folder}/wheel.whl\n",
        {"LEVEL": "3", "CUDA_VISIBLE_DEVICES": "0,1"},
        "predict",
        True,
        Asks(300.0, 3600.0, 90.0, 2 * 2**30, 2, False),
    )
    assert Catalog([str(folder.parent)]).spares() == {folder.name: 2}


def test_its_interpreter_goes_before_that_of_the_client(folder):
    said(folder, 'requirements = ["numpy"]')
    ref = AppRef(str(folder), Origin("/usr/bin/python3", str(folder), ""))
    assert Catalog().lookup(ref).python is None
    (folder / "app.toml").unlink()
    assert Catalog().lookup(ref).python == "/usr/bin/python3"


def test_it_can_stand_in_pyproject(folder):
    text = '[tool.warmd]\nmax_sessions = 3\n[tool.warmd.app]\nspares = 1\n'
    assert said(folder, text, "pyproject.toml").asks.spares == 1
    assert said(folder, "spares = 2").asks.spares == 2  # app.toml goes first


def test_gpus_are_told_to_cuda(folder):
    assert said(folder, 'gpu = "none"').env == {"CUDA_VISIBLE_DEVICES": ""}
    assert said(folder, 'gpu = "all"').env == {}
    assert said(folder, 'gpu = [1]\nenv = {CUDA_VISIBLE_DEVICES = "7"}').env == {"CUDA_VISIBLE_DEVICES": "7"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("spare = 1", "app.toml has an unknown key 'spare': did you mean 'spares'?"),
        ("colour = 1", "unknown key 'colour': there are entry, default_function,"),
        ("spares = 1\nspares = 2", "app.toml: Cannot overwrite a value"),
        ("spares = true", "app.toml: spares must be a number from 0 to 100, not 'True'"),
        ("spares = 101", "spares must be a number from 0 to 100"),
        ('entry = "app"', "entry must be 'module:Class', such as 'app:App', not 'app'"),
        ('entry = "a b:App"', "entry must be"),
        ("entry = 3", "entry must be"),
        ('default_function = "_run"', "default_function must be the name of a public function"),
        ('paths = "lib"', "paths must be a list of folders, not 'lib'"),
        ('paths = ["nowhere"]', "paths names .*/nowhere, where no folder is"),
        ('python = ".venv/bin/python"', "python names .*/.venv/bin/python, which is no executable file"),
        ("python = 3", "python must be the path of an interpreter"),
        ('requirements = "nowhere.txt"', "requirements names .*/nowhere.txt, which cannot be read"),
        ("requirements = 3", "requirements must be a file or a list of requirements"),
        ('session_timeout = "soon"', "app.toml: session_timeout 'soon' is not a duration; give"),
        ("session_timeout = 0", "session_timeout 0 is refused"),
        ('start_timeout = "never"', "start_timeout 'never' is not possible here"),
        ('memory = "much"', "app.toml: memory 'much' is not a size; give"),
        ("env = 3", "env must be a table of texts"),
        ('env = {WARMD_RUN_DIR = "/"}', "env has 'WARMD_RUN_DIR', which can be no variable of an app"),
        ('env = {"A=B" = "c"}', "env has 'A=B'"),
        ("gpu = [-1]", "gpu must be"),
        ("reload = 1", "reload must be true or false"),
        ("a = " + "[" * 5000, "app.toml is nested too deeply"),
        ("spares = " + "9" * 5000, "app.toml: Exceeds the limit"),
        ("spares = 0x" + "f" * 5000, "spares must be a number from 0 to 100, not 'a number of very many"),
        ("memory = 0x" + "f" * 5000, "memory must be at most 4611686018427387904 bytes"),
        (f'memory = "{"9" * 310}"', "memory '9+' is not a size; give"),
        (f'session_timeout = "{"x" * 9999}"', "session_timeout cannot be 'x{80}'$"),
        (f"{'x' * 9999} = 1", "app.toml has an unknown key 'x{80}': there are"),
        (f'env = {{A = "{"x" * 25000}"}}', "env has more than 24576 bytes, the most are these"),
        ('env = {A = "\\u0000"}', "env has 'A', whose text holds a NUL"),
        (f"{'a.' * 101}a = 1", "line 1 has more than 100 dots: break it"),
    ],
)
def test_what_is_no_manifest(folder, text, error):
    with pytest.raises(ManifestError, match=error):
        said(folder, text)
    with pytest.raises(AppLookupError, match=error) as refused:
        Catalog().lookup(AppRef(str(folder)))
    assert refused.value.problem.code == "INVALID"


def test_a_table_that_is_none_and_a_file_that_is_too_large(folder):
    with pytest.raises(ManifestError, match=r"\[tool.warmd.app\] of .* must be a table of keys"):
        said(folder, "[tool.warmd]\napp = 3", "pyproject.toml")
    with pytest.raises(ManifestError, match="has more than 262144 bytes"):
        said(folder, "#" * (2**18 + 1))


def test_what_editors_make_of_it(folder):
    (folder / "app.toml").write_bytes(b"\xef\xbb\xbfspares = 1\r\nreload = true\r\n")
    assert read(str(folder)) == Manifest(reload=True, asks=Asks(spares=1))
    (folder / "app.toml").write_bytes(b'entry = "\xe4"')
    with pytest.raises(ManifestError, match=r"app\.toml is not UTF-8: invalid continuation byte at byte 9"):
        read(str(folder))


@pytest.mark.parametrize("target", ["app.toml", "/dev/zero", "nowhere"])
def test_what_is_no_file_is_not_passed_over(folder, target):
    (folder / "app.toml").symlink_to(target)
    with pytest.raises(ManifestError, match=r"app\.toml is no file, and no link to one"):
        read(str(folder))
    (folder / "app.toml").unlink()
    os.mkfifo(folder / "app.toml")
    with pytest.raises(ManifestError, match=r"app\.toml is no file, and no link to one"):
        read(str(folder))


def test_a_faulty_one_takes_nothing_else_away(folder, caplog):
    other = folder.parent / "other"
    other.mkdir()
    (other / "app.py").write_text("class App: ...")
    said(other, "spares = 1")
    (folder / "app.toml").write_text("spares = -1")
    catalog = Catalog([str(folder.parent)])
    assert catalog.spares() == {"other": 1}
    assert "spares must be a number" in caplog.text


def test_what_inference_sh_says(folder):
    (folder / "app.py").rename(folder / "inference.py")
    text = "name: demo\nkernel: python-3.11\nresources:\n  gpu: {count: 1}\n"
    told = said(folder, text + "default_function: generate\nenv:\n  LEVEL: 3\n", "inf.yml")
    assert told == Manifest(env={"LEVEL": "3"}, default_function="generate")
    (folder / "requirements.txt").write_text("numpy\n")
    assert read(str(folder)).requirements == "numpy\ninferencesh\n"
    (folder / "requirements.txt").write_text("inferencesh==0.6\n")
    assert read(str(folder)).requirements == "inferencesh==0.6\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("default_function: [", r"inf.yml: while parsing"),
        ("- a", "inf.yml must be a mapping of keys"),
        ("default_function: _run", "inf.yml: default_function must be the name"),
        ("a: !!int ''", "inf.yml: string index out of range"),
        ("a: !!bool maybe", "inf.yml: 'maybe'"),
        ("a: 2020-13-45", "inf.yml: month must be in 1..12"),
        ("a: " + "[" * 2000, "inf.yml is nested too deeply"),
        ("env: {1: 2}", "inf.yml: env has '1', which can be no variable"),
        ("a: &a {b: c}\nd:\n  <<: [*a, *a]", r"merge keys \(<<\) are not read"),
        (LAUGHS, "inf.yml: env must be a table of texts"),
    ],
)
def test_what_is_no_inf_yml(folder, text, error):
    with pytest.raises(ManifestError, match=error):
        said(folder, text, "inf.yml")


def test_inf_yml_needs_its_reader(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ManifestError, match=r"pip install 'warmd\[inferencesh\]'"):
        said(folder, "name: demo", "inf.yml")
