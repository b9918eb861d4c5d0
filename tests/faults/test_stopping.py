"""A daemon is told to stop: what runs may finish, nothing new begins, everybody is told, nothing is left."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd
from tests.faults.daemons import Daemon, answers, serving
from tests.faults.test_clients import VISITS
from tests.faults.watch import (
    AT_ONCE_SECONDS,
    PATIENCE_SECONDS,
    TREE_SECONDS,
    await_gone,
    begun,
    error_of,
    until,
    within,
    zoo,
)

DRAIN_SECONDS = 1.5
MANY = 1100


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as two processes with `MANY` need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * MANY:
        pytest.skip("there are not enough descriptors (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * MANY), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def stay(seconds: float) -> dict[str, object]:
    return {"name": "guest", "seconds": seconds}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_may_finish_and_the_rest_is_told(tmp_path: Path, how: signal.Signals) -> None:
    with serving(tmp_path / "run", f"--drain-timeout={DRAIN_SECONDS}") as (daemon, client):
        short, long, streams, forks = (
            client.session(app) for app in (VISITS, VISITS, VISITS, zoo("Forks"))
        )
        pids = [int(session.info().pid) for session in (short, long, streams, forks)]
        pids += forks.call("everything").output.values()
        finishes = begun(short.submit("stay", stay(0.8)))
        waits = short.submit("enter", "waits")
        outlasts = begun(long.submit("stay", stay(60)))
        stream = streams.stream("stream", {"path": str(tmp_path / "told")})
        next(stream)
        daemon.signal(how)
        refuses(client)
        began = time.monotonic()
        assert finishes.result(5).output == "guest"
        error = error_of(lambda: waits.result(5))
        assert (error.outcome, error.ran) in {("cancelled", "no"), ("rejected", "no"), ("no_session", "no")}
        error = error_of(lambda: outlasts.result(10))
        assert (error.code, error.ran) == ("CANCELLED", "maybe")
        assert DRAIN_SECONDS - 0.5 < time.monotonic() - began < DRAIN_SECONDS + 2.0
        with pytest.raises(warmd.WarmdError):
            for _ in stream:
                pass
        assert daemon.wait() == 0
        await_gone(pids, TREE_SECONDS)
        assert (tmp_path / "told").read_text() != ""


def refuses(client: warmd.Client) -> None:
    """The daemon takes no more."""
    until(lambda: client.status().draining, AT_ONCE_SECONDS)
    error = error_of(lambda: client.run(app=zoo("Good"), session="new", function="run"))
    assert (error.code, error.ran) == ("DRAINING", "no")


def test_a_second_signal_lets_nothing_finish(tmp_path: Path) -> None:
    with serving(tmp_path / "run") as (daemon, client):
        call = begun(client.session(VISITS).submit("stay", stay(60)))
        daemon.signal(signal.SIGTERM)
        refuses(client)
        with within(AT_ONCE_SECONDS + 2.0):
            daemon.signal(signal.SIGTERM)
            assert error_of(lambda: call.result(10)).code == "CANCELLED"
            assert daemon.wait() == 0


NO_SWEEP = """
import sys
from warmd.daemon import config, main, tree
tree.Sweeper.sweep = lambda *_: None
sys.exit(main.serve(config.load({"run_dir": sys.argv[1]}, {}, [])))
"""


@pytest.mark.usefixtures("many_descriptors")
def test_a_daemon_of_ones_own_ends_also_where_descriptors_have_high_numbers() -> None:
    with contextlib.ExitStack() as held:
        for _ in range(MANY):
            held.enter_context(open(os.devnull))
        client = warmd.local()
        client.close()
        assert client._daemon.process.returncode == 0
        assert not client.run_dir.exists()


BROKEN_END = """
import sys
from warmd.daemon import config, fleet, main
def planted(self):
    raise ValueError("planted")
fleet.Fleet.close = planted
sys.exit(main.serve(config.load({"run_dir": sys.argv[1]}, {}, [])))
"""


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("visitors", [0, MANY])
def test_a_third_signal_waits_for_nothing(tmp_path: Path, visitors: int) -> None:
    """Not even for processes that cannot be killed: here nobody ever hears that they are gone.

    With many connections the descriptors of workers have numbers that `select` does not take.
    """
    path = tmp_path / "run" / "warmd.sock"
    command = [sys.executable, "-c", NO_SWEEP, str(path.parent)]
    with (
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon,
        warmd.Client(str(path)) as client,
        contextlib.ExitStack() as crowd,
    ):
        try:
            until(lambda: answers(client))
            for _ in range(visitors):
                crowd.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
            until(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) > visitors)
            pid = int(client.session(zoo("Good")).info().pid)
            for _ in range(2):
                daemon.send_signal(signal.SIGTERM)
                until(lambda: client.status().draining)
            with pytest.raises(subprocess.TimeoutExpired):
                daemon.wait(AT_ONCE_SECONDS)
            daemon.send_signal(signal.SIGTERM)
            with within(AT_ONCE_SECONDS + 1.0):
                assert daemon.wait(PATIENCE_SECONDS) == 0
                await_gone([pid], AT_ONCE_SECONDS)
        finally:
            daemon.kill()


def test_what_lost_its_token_goes_also_where_the_daemons_own_end_fails(tmp_path: Path) -> None:
    path = tmp_path / "run" / "warmd.sock"
    command = [sys.executable, "-c", BROKEN_END, str(path.parent)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon, warmd.Client(str(path)) as client:
        try:
            until(lambda: answers(client))
            stray = client.session(zoo("Forks")).call("lose_token").output
            for _ in range(3):
                daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE_SECONDS) == 70
            await_gone([stray])
        finally:
            daemon.kill()


def test_a_signal_while_it_starts_is_a_stop_too(tmp_path: Path) -> None:
    for delay in (0.02, 0.1, 0.2, 0.3):
        daemon = Daemon(tmp_path / "run")
        time.sleep(delay)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() in (0, -signal.SIGTERM)
    with serving(tmp_path / "run") as (_, client):
        assert client.status().sessions == 0
