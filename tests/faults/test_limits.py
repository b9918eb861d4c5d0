"""Floods: of calls, bytes, credits and connections.  Each is refused with its limit, and the daemon lives."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import warmd
from tests.daemon.rawclient import RawClient
from tests.faults.test_slow_clients import GROWTH_BYTES, MB, POURS, Peak
from tests.faults.watch import AT_ONCE_SECONDS, begun, error_of, open_all, undisturbed, until, within
from warmd.protocol import messages as msg
from warmd.protocol.messages import CallId

pytestmark = pytest.mark.alone

if TYPE_CHECKING:
    from warmd.owndaemon import LocalClient

LIMITS = {
    "max_message_bytes": "2MB",
    "max_client_queued_bytes": "5MB",
    "max_queued_bytes": "8MB",
    "max_stream_window": 100,
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon(**LIMITS) as client:
        open_all(client)
        yield client


def test_bytes_that_wait_are_bounded_for_each_client_and_in_all(daemon: LocalClient) -> None:
    with warmd.Client(daemon.address) as other, daemon.session(POURS) as session:
        running = begun(session.submit("sleep", 60))
        mine = [session.submit("take", bytes(MB)) for _ in range(6)]
        error = error_of(lambda: mine[-1].result(5))
        assert (error.code, error.ran) == ("QUEUE_FULL", "no")
        assert re.search(r"max_client_queued_bytes: 5000000", str(error))
        same = other.session(id=session.id)
        theirs = [same.submit("take", bytes(MB)) for _ in range(5)]
        error = error_of(lambda: theirs[-1].result(5))
        assert "max_queued_bytes: 8000000" in str(error)
        assert 6 * MB < daemon.status().queued_bytes <= 8 * MB
        assert session.submit("take", b"small").done() is False, "what fits is taken"
        running.cancel()
        outputs = [call.result(20).output for call in (*mine[:-2], *theirs[:-2])]
        assert set(outputs) == {MB}
    until(lambda: daemon.status().queued_bytes == 0)


def test_a_flood_of_calls_is_refused_at_once(daemon: LocalClient) -> None:
    with daemon.session(POURS) as session, Peak(daemon) as peak:
        running = begun(session.submit("sleep", 60))
        with undisturbed(daemon.address):
            calls = [session.submit("take", bytes(MB)) for _ in range(300)]
            codes = [error_of(lambda call=call: call.result(10)).code for call in calls[5:]]  # type: ignore[misc]
        assert set(codes) == {"QUEUE_FULL"}
        assert peak.growth < GROWTH_BYTES
        running.cancel()


def test_a_flood_of_credit_for_a_worker_that_does_not_read_is_bounded(daemon: LocalClient) -> None:
    with RawClient(Path(daemon.status().run_dir)) as raw:
        session = raw.run(POURS, "ready").session
        worker = psutil.Process(daemon.sessions.get(session).pid)
        id = CallId(os.urandom(16))
        raw.send(msg.Call(id, session, None, "sleep", window=0, input=b"\x18"))
        until(lambda: daemon.sessions.get(session).progress == "in")
        worker.suspend()
        dropped = daemon.status().credits_dropped
        with Peak(daemon) as peak:
            for _ in range(20_000):
                raw.send(msg.Credit(id, 1))
            until(lambda: daemon.status().credits_dropped - dropped == 20_000 - 100)
        worker.resume()
        assert peak.growth < 16 * MB
        daemon.sessions.end(session)


def test_a_window_over_the_limit_is_refused(daemon: LocalClient) -> None:
    with RawClient(Path(daemon.status().run_dir)) as raw:
        id = CallId(os.urandom(16))
        raw.send(msg.Call(id, "new", msg.AppRef("counter"), "get", window=101))
        failure = raw.answer(id)
        assert failure.code == "INVALID" and "100 parts (max_stream_window)" in failure.message


def test_what_is_too_large_is_refused_on_both_ways_and_costs_nothing_else(daemon: LocalClient) -> None:
    with daemon.session(POURS) as session:
        error = error_of(lambda: session.call("take", bytes(3 * MB)))
        assert (error.code, error.ran) == ("TOO_LARGE", "no") and "max_message_bytes" in str(error)
        error = error_of(lambda: session.call("give", 3 * MB))
        assert (error.code, error.ran) == ("APP_ERROR", "yes") and "max_message_bytes" in str(error)
        error = error_of(lambda: list(session.stream("pour", {"n": 1, "size": 3 * MB, "path": os.devnull})))
        assert error.code == "APP_ERROR" and "max_message_bytes" in str(error)
        assert session.call("take", bytes(MB)).output == MB


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"setup": bytes(3 * MB)}, "max_message_bytes"),
        ({"labels": {"large": "x" * 70_000}}, "limit is 65536"),
        ({"env": {"LARGE": "x" * 70_000}}, "limit is 65536"),
        ({"name": "n" * 200}, "1 to 128 characters"),
        ({"function": "f" * 300}, "limit is 256"),
    ],
    ids=lambda given: next(iter(given), "") if isinstance(given, dict) else "",
)
def test_options_that_are_too_large_name_their_limit(
    daemon: LocalClient, options: dict[str, object], says: str
) -> None:
    error = error_of(lambda: daemon.run(app=POURS, session="new", **{"function": "ready", **options}))
    assert isinstance(error, warmd.Rejected) and error.ran == "no"
    assert says in str(error)
    assert daemon.run(app=POURS, function="ready").output == "ready"


DAEMON = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
from warmd.daemon import config, main
sys.exit(main.serve(config.load({"run_dir": sys.argv[1]}, {}, []), 1, None, True))
"""


@pytest.mark.parametrize("descriptors", [64, 128])
def test_a_flood_of_connections_does_not_end_the_daemon(tmp_path: Path, descriptors: int) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 512
    command = [sys.executable, "-c", DAEMON, str(tmp_path / "run"), str(descriptors)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            address = str(tmp_path / "run" / "warmd.sock")
            with warmd.Client(address) as client:
                client.status()
                for _ in range(5):
                    flood = connections(address, 300)
                    assert process.poll() is None, "the daemon is gone"
                    assert client.status().clients == 1, "a client that was there is served"
                    full = error_of(lambda: warmd.Client(address, autostart=False).status())
                    assert full.code == "DAEMON_UNAVAILABLE" and "max_connections" in str(full)
                    for one in flood:
                        one.close()
                    until(lambda: Path(address).exists())
        finally:
            process.terminate()
        assert process.wait(20) == 0


def connections(address: str, count: int) -> list[socket.socket]:
    """As many as the daemon lets in."""
    made: list[socket.socket] = []
    while Path(address).exists() and len(made) < count:
        one = socket.socket(socket.AF_UNIX)
        one.setblocking(False)
        made.append(one)
        with contextlib.suppress(BlockingIOError, FileNotFoundError):  # the queue is full, or all is full
            one.connect(address)
        time.sleep(0.001)  # libzmq accepts faster than the daemon's loop can count
    return made


def test_sessions_over_the_limit_are_refused_at_once_and_places_come_back() -> None:
    """After an end, a death and an expiry."""
    with warmd.testing.daemon(max_sessions=3) as client:
        ended, killed = client.session(POURS), client.session(POURS)
        idle = client.session(POURS, session_timeout=1)
        with within(AT_ONCE_SECONDS):
            error = error_of(lambda: client.session(POURS))
        assert (error.code, error.ran, error.details["limit"]) == ("NO_ROOM", "no", 3)
        assert "max_sessions" in str(error)
        until(lambda: client.sessions.get(idle.id).state == "expired")
        until(lambda: client.status().sessions == 2)
        ended.end()
        os.kill(int(killed.info().pid), signal.SIGKILL)
        until(lambda: client.status().sessions == 0)
        again = [client.session(POURS) for _ in range(3)]
        assert [session.call("ready").output for session in again] == ["ready"] * 3
