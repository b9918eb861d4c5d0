"""Apps with an interpreter of their own, which knows nothing of warmd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import warmd
from tests.wheels import make_wheel

APP = """
import multiprocessing
import os
import sys

from warmd import context
from warmd.apps.actions import Actions

def told(queue):
    import warmd
    queue.put(warmd.__file__)

class App(Actions):
    def where(self):
        return {"python": sys.executable, "session": context.session_id, "level": os.environ.get("LEVEL")}

    def in_child(self):
        spawn = multiprocessing.get_context("spawn")
        queue = spawn.Queue()
        child = spawn.Process(target=told, args=(queue,))
        child.start()
        found = queue.get(timeout=30)
        child.join(30)
        return found

    def colour(self):
        import blue
        return blue.COLOUR
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An environment without any package."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=50)
    return folder / "bin" / "python"


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with warmd.local() as client:
        yield client


def test_an_interpreter_that_has_never_heard_of_warmd(client, app, bare):
    (app / "app.toml").write_text(f'python = "{bare}"\nenv = {{LEVEL = "3"}}\n')
    with client.session(str(app)) as session:
        assert session.call("where").output == {"python": str(bare), "session": session.id, "level": "3"}
        assert session.call("in_child").output == warmd.__file__
        assert session.info()["origin"] == "fork"
    with client.session(str(app), env={"LEVEL": "4"}) as session:
        assert session.call("where").output["level"] == "4"


def test_an_interpreter_that_is_too_old_is_told_so(client, app, tmp_path):
    old = tmp_path / "old"
    # Stands for Python 3.9: the same file is read by it, with another version.
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import runpy, sys; sys.version_info = (3, 9, 1); "
        'sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")\' "$@"\n'
    )
    old.chmod(0o755)
    (app / "app.toml").write_text(f'python = "{old}"')
    with pytest.raises(warmd.StartFailed, match=r"must be Python 3\.11 or newer: .* is 3\.9"):
        client.run(app=str(app), function="where")


def test_requirements_become_an_environment(client, app, tmp_path):
    make_wheel(app, "blue", "COLOUR = 'blue'\n")
    (app / "app.toml").write_text('requirements = ["./blue-1.0-py3-none-any.whl"]')
    with client.session(str(app)) as session:
        assert session.call("colour").output == "blue"
        python = Path(session.call("where").output["python"])
        assert python.is_relative_to(tmp_path / "cache" / "warmd" / "environments")
        assert session.info()["origin"] == "fork"


def test_requirements_that_cannot_be_had_are_named(client, app):
    (app / "app.toml").write_text('requirements = ["./nowhere-1.0-py3-none-any.whl"]')
    with pytest.raises(warmd.StartFailed, match=r"environment could not be made: .*(?s:.*)nowhere") as failed:
        client.run(app=str(app), function="where")
    assert failed.value.ran == "no"


def test_one_that_takes_too_long_is_given_up(client, app, tmp_path):
    """A pip that hangs: the start's own time counts, and nothing is left of it."""
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 600\n")
    slow.chmod(0o755)
    (app / "app.toml").write_text(
        f'python = "{slow}"\nrequirements = ["blue"]\nstart_timeout = 2\nenv = {{PATH = "/usr/bin:/bin"}}\n'
    )
    with pytest.raises(warmd.CallTimeout, match=r"longer than start_timeout \(2 s\)"):
        client.run(app=str(app), function="where")
    assert not os.path.exists(tmp_path / "cache" / "warmd" / "environments" / "complete")
