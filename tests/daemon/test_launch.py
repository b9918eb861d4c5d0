"""Starting processes: what they are given, how their end is seen, and who ends with whom."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.daemon.turning import turn_until
from warmd.daemon import launch
from warmd.daemon.launch import TOKEN_VARIABLE, Launch, Launcher, new_token, worker_environment
from warmd.daemon.loop import Loop
from warmd.daemon.processes import exit_of, signal_name
from warmd.protocol.stream import Inbox
from warmd.protocol.wire import FROM_WORKER
from warmd.protocol.work import Arrived, WorkerId

ONE = WorkerId(1)
PATIENCE_SECONDS = 20


class Yard:
    """A launcher, a door that is only a listener, and what was started."""

    def __init__(self, folder: Path) -> None:
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(str(folder / "d"))
        self.door.listen()
        self.door.settimeout(PATIENCE_SECONDS)
        self.path = str(folder / "d")
        self.loop = Loop()
        self.started: list[tuple[WorkerId, int, int]] = []
        self.failed: list[tuple[WorkerId, str]] = []
        self.links: list[socket.socket] = []
        self.launcher = Launcher(
            lambda *facts: self.loop.post(lambda: self.started.append(facts)),
            lambda *facts: self.loop.post(lambda: self.failed.append(facts)),
        )

    def start(self, **env: str) -> tuple[int, int]:
        """A started process that has come to the door: its pid and pidfd."""
        environment = worker_environment(env, new_token(), "sess_x", "app", "/run/x")
        self.launcher.start(Launch(ONE, "warmd-test", self.path, environment, None, os.devnull))
        before = len(self.started)
        turn_until(self.loop, lambda: len(self.started) > before, PATIENCE_SECONDS)
        self.links.append(self.door.accept()[0])
        return self.started[-1][1:]

    def arrived(self) -> Any:
        inbox = Inbox(0)
        self.links[-1].settimeout(PATIENCE_SECONDS)
        while True:
            if messages := inbox.received(self.links[-1].recv_into(inbox.buffer())):
                return FROM_WORKER.unpack(messages[0])

    def close(self) -> None:
        self.launcher.close()
        for link in self.links:
            link.close()
        for _, pid, pidfd in self.started:
            assert select.select([pidfd], [], [], PATIENCE_SECONDS)[0], "it outlived the starter thread"
            self.launcher.reap(pid, pidfd)
            os.close(pidfd)
        self.door.close()
        self.loop.close()


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(tmp_path)
    yield yard
    yard.close()


def test_a_process_comes_to_the_door_with_its_token(yard: Yard) -> None:
    pid, _ = yard.start(MINE="1", WARMD_SESSION_ID="forged")
    arrived = yard.arrived()
    environment = psutil.Process(pid).environ()
    assert isinstance(arrived, Arrived)
    assert (arrived.pid, arrived.token) == (pid, environment[TOKEN_VARIABLE])
    assert environment["MINE"] == "1"
    assert environment["WARMD_SESSION_ID"] == "sess_x"
    assert environment["WARMD_RUN_DIR"] == "/run/x"
    assert environment["WARMD_DAEMON_PID"] == str(os.getpid())
    assert environment["WARMD_DAEMON_SESSION"] == str(os.getsid(0))
    assert pid in yard.launcher.known


def test_an_exit_is_seen_with_its_signal_and_the_process_stays_until_it_is_reaped(yard: Yard) -> None:
    pid, pidfd = yard.start()
    assert exit_of(pidfd) is None
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], PATIENCE_SECONDS)[0]
    for _ in range(2):
        found = exit_of(pidfd)
        assert found is not None
        assert (found.exit_code, found.signal) == (None, "SIGKILL")
    assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    yard.launcher.reap(pid, pidfd)
    assert not psutil.pid_exists(pid)
    assert pid not in yard.launcher.known


def test_an_exit_code_is_seen(yard: Yard) -> None:
    _, pidfd = yard.start()
    yard.arrived()
    yard.links[-1].close()
    assert select.select([pidfd], [], [], PATIENCE_SECONDS)[0]
    found = exit_of(pidfd)
    assert found is not None
    assert found.signal is None
    assert found.exit_code


def test_the_workers_end_with_the_starter_thread(yard: Yard) -> None:
    _, pidfd = yard.start()
    yard.arrived()
    yard.launcher.close()
    assert select.select([pidfd], [], [], PATIENCE_SECONDS)[0]
    found = exit_of(pidfd)
    assert found is not None
    assert found.signal == "SIGKILL"


@pytest.mark.parametrize("env", [{"A": "nul\0byte"}, {"A\0": ""}, {"A": "x" * 2**22}])
def test_a_process_that_cannot_be_started_is_told(yard: Yard, env: dict[str, str]) -> None:
    yard.launcher.start(Launch(ONE, "warmd-test", yard.path, env, None, os.devnull))
    turn_until(yard.loop, lambda: yard.failed or yard.started, PATIENCE_SECONDS)
    if yard.started:  # exec itself refused: the process ends at once, with a code
        _, _, pidfd = yard.started[0]
        assert select.select([pidfd], [], [], PATIENCE_SECONDS)[0]
        found = exit_of(pidfd)
        assert found is not None
        assert found.exit_code
    else:
        assert yard.failed[0][0] == ONE
        assert "environment variable" in yard.failed[0][1]
    yard.start()


def test_a_process_that_cannot_be_held_is_ended(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []
    fork = launch._fork

    def noted(order: Launch) -> int:
        pids.append(fork(order))
        return pids[0]

    def refuse(_pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(launch, "_fork", noted)
    with monkeypatch.context() as without:
        without.setattr(os, "pidfd_open", refuse)
        yard.launcher.start(Launch(ONE, "warmd-test", yard.path, dict(os.environ), None, os.devnull))
        turn_until(yard.loop, lambda: yard.failed, PATIENCE_SECONDS)
    assert "ulimit -n" in yard.failed[0][1]
    assert not psutil.pid_exists(pids[0])
    assert not yard.launcher.known


def test_signals_have_names() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(40) == "SIG40"
