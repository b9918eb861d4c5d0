"""What only shows with workers that came by loky and with a daemon's own timers."""

from __future__ import annotations

import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd

ZOO = Path(__file__).parents[1] / "zoo.py"


def zoo(name: str) -> str:
    return f"{ZOO}:{name}"


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local() as client:
        client.status()  # connects now: the leak check of each test must not count it
        yield client


@pytest.mark.parametrize("function", ["spawn", "multiprocessing", "default_pool"])
def test_an_app_may_use_multiprocessing(client, function):
    """Once, each spawned child died of loky's start method, and the pool replaced it for ever."""
    with client.session(zoo("Forks")) as session:
        assert session.call(function, timeout=20).output == [1, 2, 3]


@pytest.mark.parametrize("app", ["Hangs", "Async"])
def test_a_stream_that_hangs_when_its_reader_leaves_frees_the_session(client, app, tmp_path):
    """Once, the session was blocked until the call's own deadline: an hour."""
    told = tmp_path / "told"
    with client.session(zoo(app)) as session:
        with session.stream("stuck_stream", {"path": str(told)}) as stream:
            assert next(stream) == 0
        session.call("echo", 1, timeout=8)
        assert told.read_text() == "closed\n"


def test_the_place_is_named_also_when_the_signal_for_the_stack_ended_the_hang(client):
    with client.session(zoo("Hangs")) as session:
        with pytest.raises(warmd.CallTimeout, match=r"zoo_hangs\.py:\d+ in c_sleep"):
            session.call("c_sleep", timeout=0.2)
        assert session.call("alive").output == 1


def test_an_interpreter_without_warmd_is_lent_it(client, tmp_path, monkeypatch):
    """That of a client with an environment of its own, say."""
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False, symlinks=True)
    (tmp_path / "app.py").write_text(
        "import sys\nimport warmd\nclass App:\n    def run(self): return sys.executable, warmd.__file__\n"
    )
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    with client.session(str(tmp_path)) as session:
        assert session.call("run").output == (str(bare / "bin" / "python"), warmd.__file__)
