"""A daemon with `reload`: what is edited is in sessions that live, and in those to come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd

APP = """
class App:
    def setup(self):
        self.model = object()
    def run(self):
        return [1, id(self.model)]
"""


@pytest.fixture
def daemon() -> Iterator[warmd.Client]:
    with warmd.local(reload=True) as client:
        yield client


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "edited_app.py"
    path.write_text(APP)
    return path


def edit(path: Path, what: str, by: str) -> None:
    path.write_text(path.read_text().replace(what, by))


def test_sessions_that_live_and_those_to_come(daemon: warmd.Client, path: Path) -> None:
    app = f"{path}:App"
    session = daemon.session(app)
    number, model = session.run().output
    assert number == 1
    edit(path, "[1", "[2")
    assert session.run().output == [2, model]
    other = daemon.session(app)
    assert other.run().output[0] == 2
    edit(path, "[2", "[3")
    assert (session.run().output[0], other.run().output[0]) == (3, 3)
    log = b"".join(daemon.logs(session.id)).decode()
    assert log.count("warmd: reloaded edited_app.py: run") == 2


def test_functions_that_come_and_go(daemon: warmd.Client, path: Path) -> None:
    session = daemon.session(f"{path}:App")
    with pytest.raises(warmd.FunctionNotFound, match=r"has no function 'rum'; did you mean 'run'"):
        session.call("rum")
    edit(path, "def run", "def rum")
    assert session.call("rum").output[0] == 1
    with pytest.raises(warmd.FunctionNotFound, match=r"functions: rum\)") as raised:
        session.run()
    assert raised.value.ran == "no"


def test_a_setup_that_changed_is_told_of_and_a_new_session_has_it(daemon: warmd.Client, path: Path) -> None:
    session = daemon.session(f"{path}:App")
    before = session.run().output
    edit(path, "object()", "None")
    with pytest.raises(warmd.WarmdError, match=r"App\.setup has changed .*: open a new session"):
        session.run()
    assert daemon.session(f"{path}:App").run().output != before
    edit(path, "None", "object()")
    assert session.run().output == before


def test_workers_of_the_pool(daemon: warmd.Client, path: Path) -> None:
    app = f"{path}:App"
    assert daemon.run(app=app).output[0] == 1
    edit(path, "[1", "[2")
    assert daemon.run(app=app).output[0] == 2
    edit(path, "object()", "[]")
    with pytest.raises(warmd.WarmdError, match=r"end the app's shared workers \(warmd end --app "):
        daemon.run(app=app)
    daemon.sessions.end(app=app)
    assert daemon.run(app=app).output[0] == 2


def test_without_it_a_session_stays_what_it_was(path: Path) -> None:
    with warmd.local() as client:
        session = client.session(f"{path}:App")
        before = session.run().output
        edit(path, "[1", "[2")
        assert session.run().output == before
        assert client.session(f"{path}:App").run().output[0] == 2
