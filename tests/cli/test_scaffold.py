"""`warmd app new`: what it makes works as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import warmd
from warmd.cli import main
from warmd.cli.scaffold import NAME, _better
from warmd.daemon import manifest
from warmd.protocol.gpus import GpuAsk

FILES = ["app.py", "app.toml", "test_app.py", "README.md", ".gitignore"]
STRICT = ("-W", "error", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_app_and_what_to_do_with_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "new", "hello"]) == 0
    out, err = capsys.readouterr()
    assert out == f"made ./hello with {', '.join(FILES)}\n"
    assert sorted(os.listdir(here / "hello")) == sorted(FILES)
    for command in ("warmd run ./hello text='to be or not to be' --session new", "warmd app test ./hello"):
        assert f"  {command} " in err


@pytest.mark.parametrize("flags", [[], ["--stream"]])
def test_its_own_tests_pass(here: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "new", "hello", *flags, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["folder"], told["files"]) == ("hello", f"{here}/hello", FILES)
    command = [sys.executable, "-B", "-m", "pytest", "-q", *STRICT, "./hello"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_the_first_command_that_is_named_works(capsys: pytest.CaptureFixture[str]) -> None:
    main(["app", "new", "hello"])
    with warmd.testing.daemon() as client:
        capsys.readouterr()
        words = ["run", "./hello", "text=to be or not to be", "--session", "new"]
        assert main(["--host", client.address, *words]) == 0
    assert json.loads(capsys.readouterr().out) == {"to": 2, "be": 2, "or": 1}


def test_the_manifest_is_one_also_with_all_that_it_proposes(here: Path) -> None:
    main(["app", "new", "hello"])
    text = (here / "hello" / "app.toml").read_text()
    assert tomllib.loads(text) == {"entry": "app:App", "reload": True}
    lines = text.splitlines()[1:]
    alternatives = [line.removeprefix("# ") for line in lines if " = " in line or line.startswith("# [")]
    (here / "hello" / "app.toml").write_text("\n".join(alternatives))
    (here / "hello" / "src").mkdir()
    python = here / "hello" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    found = manifest.read(str(here / "hello"))
    assert found.env == {"HF_HOME": "/data/models"}
    assert (found.requirements, found.asks.memory_bytes) == ("numpy\n", 2 * 2**30)
    assert (found.asks.gpu, found.asks.park) == (GpuAsk(bytes=20 * 10**9), False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my app", "such as 'my-app'"),
        ("3d", "such as 'app-3d'"),
        (".hidden", "such as 'hidden'"),
        ("größe", "such as 'gr-e'"),
        ("a:B", "such as 'a-B'"),
        ("", "such as 'my-app'"),
        ("x" * 65, "at most 63 letters"),
        ("apps/mine", "`warmd app new mine --in apps` makes it there"),
        ("/mine/", "`warmd app new mine --in /` makes it there"),
    ],
)
def test_names_that_would_be_a_nuisance(
    here: Path, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["app", "new", name]) == 2
    assert said in capsys.readouterr().err
    assert os.listdir(here) == []


@pytest.mark.parametrize("name", ["-", "---", "_", "9" * 100, "a b" * 40, "\n", "é"])
def test_the_better_name_is_a_good_one(name: str) -> None:
    assert NAME.fullmatch(_better(name))


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_there_stays_as_it_is(here: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = here / "hello"
    {"folder": place.mkdir, "file": place.touch, "link": lambda: place.symlink_to("nowhere")}[kind]()
    assert main(["app", "new", "hello"]) == 2
    assert "./hello is there already; nothing in it was changed" in capsys.readouterr().err
    assert not place.is_dir() or os.listdir(place) == []


def test_in_another_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "new", "hello", "--in", "apps"]) == 2
    assert "there is no folder apps: make it" in capsys.readouterr().err
    (here / "apps").mkdir()
    assert main(["app", "new", "hello", "--in", "apps"]) == 0
    assert (here / "apps" / "hello" / "app.py").is_file()
    assert capsys.readouterr().out.startswith("made ./apps/hello with ")


def test_a_place_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "new", "hello", "--in", "/proc"]) == 78
    assert capsys.readouterr().err.startswith("warmd: cannot make /proc/hello: ")
