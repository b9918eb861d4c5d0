"""No descriptors, no processes, and a wall clock that jumps: refused with the reason, served again after."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import warmd
from tests.daemon.rawclient import RawClient
from tests.faults.daemons import serving
from tests.faults.test_clients import VISITS
from tests.faults.watch import begun, error_of, until, within, zoo
from warmd.protocol.messages import Failure

FLOODS = f"{Path(__file__).parents[1] / 'zoo_outputs.py'}:Floods"
DESCRIPTORS, MORE_DESCRIPTORS = 96, 160
PROCESSES = 24
IDLE_SECONDS = 1.0
PIDS_CONTROLLERS = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")]

JUMPING_CLOCK = """
import time
_real, _calls = time.time, 0
def jumping():
    global _calls
    _calls += 1
    return _real() + (86400.0 if _calls % 2 else -86400.0)
time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
"""


def open_until_refused(client: warmd.Client, most: int = 200) -> tuple[list[warmd.Session], warmd.WarmdError]:
    sessions: list[warmd.Session] = []
    while len(sessions) < most:
        try:
            sessions.append(client.session(zoo("Good"), timeout=20))
        except warmd.WarmdError as error:
            return sessions, error
    raise AssertionError(f"{most} sessions were not too many")


def at_most(descriptors: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def test_without_descriptors_new_sessions_are_refused_and_the_others_served(tmp_path: Path) -> None:
    with serving(tmp_path / "run", before_exec=at_most(DESCRIPTORS)) as (daemon, client):
        sessions, error = open_until_refused(client)
        assert len(sessions) >= 5
        assert (error.outcome, error.ran) in {("start_failed", "no"), ("rejected", "no")}
        assert "Too many open files" in str(error) and "ulimit -n" in str(error)
        for session in sessions:
            assert session.call("run").output["n"] == 1
        used = psutil.Process(daemon.process.pid).cpu_times()
        time.sleep(IDLE_SECONDS)
        after = psutil.Process(daemon.process.pid).cpu_times()
        assert after.user + after.system - used.user - used.system < IDLE_SECONDS / 4, "it spins"
        for session in sessions:
            session.end()
        again, _ = open_until_refused(client)
        assert abs(len(again) - len(sessions)) <= 1, "places come back"


def test_sessions_leave_the_descriptors_that_connections_take_which_are_on_their_way(tmp_path: Path) -> None:
    with serving(tmp_path / "run", before_exec=at_most(MORE_DESCRIPTORS)) as (daemon, client):
        sessions, _ = open_until_refused(client)
        burst = [socket.socket(socket.AF_UNIX) for _ in range(MORE_DESCRIPTORS // 8)]
        for one in burst:
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                one.connect(daemon.address)
        for session in sessions:
            assert session.call("run").output["n"] == 1
        for one in burst:
            one.close()
        assert daemon.process.poll() is None


def test_starts_at_one_time_leave_them_too(tmp_path: Path) -> None:
    """Each is looked at when it is ordered, not only when its turn at the starter has come."""
    with serving(tmp_path / "run", before_exec=at_most(DESCRIPTORS)) as (daemon, client):
        good = {"app": zoo("Good"), "session": "new", "timeout": 20}
        opening = [client.submit(good) for _ in range(DESCRIPTORS)]
        most = 0
        while not all(one.done() for one in opening):
            most = max(most, len(os.listdir(f"/proc/{daemon.process.pid}/fd")))
        assert most <= DESCRIPTORS * 7 // 8, "the backlog has no room"
        errors = [error_of(one.result) for one in opening if one.status().code]
        assert errors and all("ulimit -n" in str(error) for error in errors)


def test_streams_of_logs_take_no_descriptors(tmp_path: Path) -> None:
    with serving(tmp_path / "run", before_exec=at_most(DESCRIPTORS)) as (daemon, client):
        with client.session(FLOODS) as session:
            session.call("flood", {"megabytes": 1})
        with RawClient(daemon.run_dir) as raw, client.session(zoo("Good")) as other:
            for _ in range(DESCRIPTORS * 4):
                raw.request("logs", 0, session=session.id)
            refused = [message for message in raw.told() if type(message) is Failure]
            assert {message.code for message in refused} == {"QUEUE_FULL"}
            assert "this client has 256 streams of logs" in refused[0].message
            assert other.call("run").output["n"] == 1
            with warmd.Client(daemon.address) as late:
                assert late.status().clients == 3


@pytest.fixture
def few_processes() -> Iterator[Path]:
    """A cgroup in which only so many processes and threads can be."""
    for mount in PIDS_CONTROLLERS:
        path = mount / f"warmd-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            path.mkdir()
            (path / "pids.max").write_text(str(PROCESSES))
            break
        with contextlib.suppress(OSError):
            path.rmdir()
    else:
        pytest.skip("no cgroup with the pids controller can be made here")
    yield path
    until(lambda: not (path / "cgroup.procs").read_text())
    path.rmdir()


def test_without_processes_new_sessions_are_refused_and_the_others_served(
    tmp_path: Path, few_processes: Path
) -> None:
    def join() -> None:
        (few_processes / "cgroup.procs").write_text(str(os.getpid()))

    with serving(tmp_path / "run", before_exec=join) as (_, client):
        sessions, error = open_until_refused(client)
        assert len(sessions) >= 3
        assert (error.outcome, error.ran) == ("start_failed", "no")
        assert "pids.max" in str(error), "a fork or a thread was refused"
        for session in sessions:
            assert session.call("run").output["n"] == 1
        assert client.status().sessions == len(sessions), "what failed holds no place"
        for session in sessions:
            session.end()
        with client.session(zoo("Good")) as session:
            assert session.call("run").output["n"] == 1


def test_a_wall_clock_that_jumps_moves_nothing(tmp_path: Path) -> None:
    """Each look at it is a day before or after the last: in the daemon and in the workers."""
    folder = tmp_path / "jumps"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(JUMPING_CLOCK)
    environ = {"PYTHONPATH": str(folder)}
    flags = ("--detached-keep=2s", "--max-lifetime=60s")
    with serving(tmp_path / "run", *flags, environ=environ) as (_, client):
        kept = client.submit(app=VISITS, function="enter", input="kept", detach=True)
        assert client.calls.result(kept.call_id).output == "kept"
        busy, idle = client.session(VISITS, session_timeout=1), client.session(VISITS, session_timeout=1.5)
        began = time.monotonic()
        running = busy.submit("stay", {"name": "busy", "seconds": 1.6})
        with within(2.0):
            late = begun(client.session(VISITS).submit("stay", {"name": "late", "seconds": 60}, timeout=1))
            assert error_of(late.result).code == "TIMEOUT"
        assert client.sessions.get(idle.id).state == "idle"
        until(lambda: client.sessions.get(idle.id).state == "expired", 3.0)
        assert 1.4 < time.monotonic() - began < 2.6
        assert running.result(5).output == "busy", "busy is never idle"
        until(lambda: gone(client, kept.call_id), 3.0)
        assert time.monotonic() - began > 1.5
        shown = client.sessions.get(busy.id)
        assert abs(shown.created - time.time()) < 2 * 86400, "only what is shown may be wrong"


def gone(client: warmd.Client, call: str) -> bool:
    with contextlib.suppress(warmd.CallGone):
        client.calls.get(call)
        return False
    return True
