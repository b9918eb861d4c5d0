from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.worker.daemon import FakeDaemon
from warmd.protocol.work import Ready


@pytest.fixture
def forks(daemon: FakeDaemon) -> FakeDaemon:
    assert isinstance(daemon.start("Forks"), Ready)
    return daemon


def test_a_child_that_returns_does_not_answer(forks: FakeDaemon, tmp_path: Path) -> None:
    for _ in range(3):
        assert forks.value("return_in_child", str(tmp_path / "note")) == forks.pid
    children = [int(line.split()[1]) for line in (tmp_path / "note").read_text().splitlines()]
    assert len(set(children)) == 3
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_child_that_yields_does_not_answer(forks: FakeDaemon) -> None:
    forks.invoke("yield_in_child", window=9)
    assert forks.parts(2) == [(0, 1), (1, 2)]
    assert forks.next().parts == 2
    assert forks.is_silent()


def test_exit_codes_of_children_are_pythons(forks: FakeDaemon) -> None:
    assert forks.value("exit_in_child", {"code": 4}) == 4
    assert forks.value("raise_in_child") == 1
    assert "ValueError: in the child" in forks.log_text()


@pytest.mark.parametrize("function", ["multiprocessing", "spawn"])
def test_multiprocessing_works(forks: FakeDaemon, function: str) -> None:
    assert forks.value(function) == [1, 2, 3]


@pytest.mark.parametrize("function", ["hold_fds", "daemonize", "popen"])
def test_children_do_not_hold_the_link(forks: FakeDaemon, function: str) -> None:
    child = forks.value(function)
    try:
        assert forks.process is not None
        forks.process.kill()
        with pytest.raises((EOFError, ConnectionResetError)):
            forks.next()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_fork_at_import(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(
        "import os\nif os.fork():\n    os.wait()\n"
        "class App:\n    def run(self):\n        return os.getpid()\n"
    )
    assert isinstance(daemon.start("forking:App", paths=(str(tmp_path),)), Ready)
    assert daemon.value("run") == daemon.pid
