"""What an app leaves behind: gone soon after its session, however that ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

import warmd
from tests.faults.daemons import answers, serving
from tests.faults.watch import (
    TREE_SECONDS,
    await_gone,
    await_tree_gone,
    begun,
    environment,
    error_of,
    successor,
    token_of,
    undisturbed,
    until,
    within,
    zoo,
)
from warmd.owndaemon import LocalClient


def alive(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("how", ["end", "death", "expiry", "hang"])
def test_nothing_is_left_of_a_tree(client: LocalClient, how: str) -> None:
    seconds = 1 if how == "expiry" else None
    session = client.session(zoo("Forks"), session_timeout=seconds)
    pid = int(session.info().pid)
    token = token_of(pid)
    left = session.call("everything").output
    assert sorted(alive(left.values())) == sorted(left.values())
    if how == "end":
        session.end()
        assert not alive(left.values()), "the end was told too early"
    elif how == "death":
        os.kill(pid, signal.SIGKILL)
    elif how == "expiry":
        until(lambda: not Path(f"/proc/{pid}").exists(), 4)
    else:
        error_of(lambda: session.call("stubborn", timeout=0.2))
    await_gone([pid, *left.values()])
    await_tree_gone(token)


def test_zombies_are_reaped_with_their_parent(client: LocalClient) -> None:
    session = client.session(zoo("Forks"))
    zombies = [session.call("zombie").output for _ in range(5)]
    assert alive(zombies) == zombies
    session.end()
    await_gone(zombies)


@pytest.mark.alone
def test_a_child_that_forks_as_fast_as_it_can_does_not_get_away(client: LocalClient) -> None:
    session = client.session(zoo("Forks"))
    token = token_of(session.call("swarm").output)
    with undisturbed(client.address, 0.5), within(TREE_SECONDS):
        session.end()
        await_tree_gone(token)


def test_a_stopped_daemon_leaves_nothing_not_even_what_lost_its_token() -> None:
    with warmd.testing.daemon(drain_timeout=1, end_grace=1) as client:
        session = client.session(zoo("Forks"))
        pids = [int(session.info().pid), *session.call("everything").output.values()]
        pids.append(session.call("lose_token").output)
        begun(client.session(zoo("Hangs")).submit("sleep"))
        os.kill(client.daemon_pid, signal.SIGTERM)
        await_gone(pids, 1 + TREE_SECONDS)


def test_a_killed_daemon_and_its_successor_leave_nothing() -> None:
    with warmd.testing.daemon() as client:
        session = client.session(zoo("Forks"))
        token = token_of(int(session.info().pid))
        workers = [int(session.info().pid)]
        pids = list(session.call("everything").output.values())
        pids.append(session.call("swarm").output)
        deaf = client.session(zoo("Hangs"))
        workers.append(int(deaf.info().pid))
        begun(deaf.submit("c_loop"))
        os.kill(client.daemon_pid, signal.SIGKILL)
        await_gone(workers)
        with successor(client.run_dir) as next_daemon:
            assert next_daemon.status().sessions == 0
            await_gone(pids)
            await_tree_gone(token)


def test_so_does_one_that_knows_the_directory_by_another_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with serving(tmp_path / "real" / "run") as (daemon, client):
        pids = list(client.session(zoo("Forks")).call("everything").output.values())
        daemon.process.kill()
        with successor(tmp_path / "link" / "run"):
            await_gone(pids)


def test_a_successor_spares_strangers_in_the_session_of_the_killed_daemon(tmp_path: Path) -> None:
    """A worker that has not come to its `setsid` is still in there, with all that a terminal runs."""
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(300)")
    serve = f"sleep 300 & echo $!; exec {sys.executable} -m warmd serve --run-dir {tmp_path}/run 2>&1"
    terminal = subprocess.Popen(["/bin/sh", "-c", serve], stdout=subprocess.PIPE, start_new_session=True)
    assert terminal.stdout is not None
    stranger = psutil.Process(int(terminal.stdout.readline()))
    try:
        with warmd.Client(f"{tmp_path}/run/warmd.sock") as client:
            until(lambda: answers(client))
            client.submit(app=zoo("Good"), session="new", env={"PYTHONPATH": str(tmp_path)})
            (worker,) = until(lambda: before_setsid(terminal.pid))
            terminal.kill()
            terminal.wait(20)
            with successor(tmp_path / "run"):
                await_gone([worker])
                assert stranger.is_running()
    finally:
        terminal.kill()
        stranger.kill()
        terminal.communicate(timeout=20)


def before_setsid(daemon: int) -> list[int]:
    """The workers of the daemon that are still in its session."""
    children = [child.pid for child in psutil.Process(daemon).children()]
    return [pid for pid in children if os.getsid(pid) == daemon and b"WARMD_WORKER_TOKEN" in environment(pid)]
