"""What a killed daemon left is ended by the next one; what another still serves, and strangers, are not."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from warmd.daemon import leftovers
from warmd.daemon.launch import TOKEN_VARIABLE
from warmd.daemon.leftovers import in_service, kill_leftovers
from warmd.daemon.processes import Process, look_at

PATIENCE_SECONDS = 20
TOKEN = secrets.token_hex(32)
SESSION = """
import os, subprocess, sys
environments = eval(sys.argv[1].replace("LEADER", str(os.getpid())))
print(os.getpid(), *(subprocess.Popen(["sleep", "300"], env=env).pid for env in environments), flush=True)
if sys.argv[2] == "stays":
    sys.stdin.read()
"""
"""The leader of a session, with a child for each environment."""
LEADER = "LEADER"
"""In an environment: the leader's pid."""


def marks(run_dir: object, **others: object) -> dict[str, str]:
    """What a worker's environment says to the next daemon."""
    return {TOKEN_VARIABLE: TOKEN, "WARMD_RUN_DIR": str(run_dir), **{k: str(v) for k, v in others.items()}}


class Sleepers:
    """Processes that are gone when the test is over."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def start(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """A process in a session of its own."""
        process = subprocess.Popen(
            ["sleep", "300"], env={**os.environ, **environment}, start_new_session=True
        )
        self._stack.callback(process.wait, PATIENCE_SECONDS)
        self._stack.callback(process.kill)
        await_exec(process.pid)
        return process

    def session(self, *children: Mapping[str, str], leader: str = "stays") -> list[int]:
        """The pids of a session: of its leader without any mark, which stays or goes, and its children."""
        process = subprocess.Popen(
            [sys.executable, "-c", SESSION, repr(children), leader],
            start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin and process.stdout
        self._stack.callback(process.wait, PATIENCE_SECONDS)
        self._stack.callback(process.stdin.close)
        pids = [int(pid) for pid in process.stdout.readline().split()]
        self._stack.callback(end, pids[1:])
        for pid in pids[1:]:
            await_exec(pid)
        process.stdout.close()
        if leader != "stays":
            process.wait(PATIENCE_SECONDS)
        return pids

    def close(self) -> None:
        self._stack.close()


def await_exec(pid: int) -> None:
    """Within an exec a process shows neither its arguments nor its environment."""
    arguments = Path(f"/proc/{pid}/cmdline")
    until = time.monotonic() + PATIENCE_SECONDS
    while not arguments.read_bytes().startswith(b"sleep"):
        assert time.monotonic() < until, f"process {pid} does not come to sleep"


def end(pids: list[int]) -> None:
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        leftovers.await_exit(pidfd, PATIENCE_SECONDS)
        os.close(pidfd)


def alive(pids: list[int]) -> list[bool]:
    return [look_at(pid) is not None for pid in pids]


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    sleepers = Sleepers()
    yield sleepers
    sleepers.close()


def test_leftovers_of_an_earlier_daemon_are_ended(tmp_path: Path, sleepers: Sleepers) -> None:
    mine, other = sleepers.start(marks(tmp_path)), sleepers.start(marks(f"{tmp_path}2"))
    client = sleepers.start({"WARMD_RUN_DIR": str(tmp_path)})
    assert kill_leftovers(str(tmp_path)) == 1
    assert mine.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    assert (other.poll(), client.poll()) == (None, None)


def test_the_run_directory_may_have_had_another_name(tmp_path: Path, sleepers: Sleepers) -> None:
    (tmp_path / "real" / "run").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    names = [tmp_path / "real" / "run", tmp_path / "link" / "run"]
    for before, now in (names, reversed(names)):
        left = sleepers.start(marks(before))
        assert kill_leftovers(str(now)) == 1
        assert left.wait(PATIENCE_SECONDS) == -signal.SIGKILL


def test_strangers_in_the_session_of_a_carrier_are_spared(tmp_path: Path, sleepers: Sleepers) -> None:
    """A worker before its `setsid` is still in its daemon's session, with the shell of a terminal."""
    pids = sleepers.session({}, marks(tmp_path, WARMD_DAEMON_SESSION=LEADER))
    assert kill_leftovers(str(tmp_path)) == 1
    assert alive(pids) == [True, True, False]


def test_so_are_they_where_the_sessions_leader_has_ended(tmp_path: Path, sleepers: Sleepers) -> None:
    """As the shell that has started a daemon in the background."""
    pids = sleepers.session({}, marks(tmp_path, WARMD_DAEMON_SESSION=LEADER), leader="goes")
    assert kill_leftovers(str(tmp_path)) == 1
    assert alive(pids) == [False, True, False]


def test_what_lost_its_environment_goes_with_the_session_of_its_tree(
    tmp_path: Path, sleepers: Sleepers
) -> None:
    """Its leader, the worker, has ended with its daemon."""
    pids = sleepers.session({}, marks(tmp_path, WARMD_DAEMON_SESSION=1), leader="goes")
    assert kill_leftovers(str(tmp_path)) == 2
    assert alive(pids) == [False, False, False]


def test_what_a_living_daemon_serves_is_spared(tmp_path: Path, sleepers: Sleepers) -> None:
    environment = marks(tmp_path, WARMD_DAEMON_PID=LEADER)
    served, left = sleepers.session(environment), sleepers.session(environment, leader="goes")
    assert set(served[1:]) <= in_service() and left[1] not in in_service()
    assert kill_leftovers(str(tmp_path)) == 1
    assert (alive(served), alive(left)) == ([True, True], [False, False])


def test_a_pid_that_was_given_out_again_keeps_nothing_alive() -> None:
    def seen(pid: int, parent: int, daemon: int) -> Process:
        return Process(pid, parent, pid, 1, f"WARMD_DAEMON_PID={daemon}".encode())

    for processes in (
        [seen(11, 10, 10), seen(10, 1, 9)],  # so is one whose daemon lives
        [seen(11, 10, 10), seen(10, 1, 10)],  # it is one of the tree itself that has the number now
        [seen(11, os.getpid(), os.getpid()), seen(os.getpid(), 1, 9)],  # it is our own
        [
            seen(11, 12, 10),
            seen(12, 11, 10),
            seen(10, 1, 9),
        ],  # parents that changed meanwhile
    ):
        by_pid = {process.pid: process for process in processes}
        assert leftovers._is_served(processes[0], by_pid) is (processes[1] == seen(10, 1, 9))
