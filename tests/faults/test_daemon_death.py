"""The daemon is killed, or stopped for a while: who is told what, and what is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.faults.watch import (
    AT_ONCE_SECONDS,
    TREE_SECONDS,
    await_gone,
    begun,
    error_of,
    successor,
    together,
    until,
    within,
    zoo,
)

STOPPED_SECONDS = 3.0
NO_DAEMON_SECONDS = 3.0


def ending(act: Callable[[], Any]) -> tuple[float, warmd.WarmdError]:
    """When and how it ended."""
    try:
        found = act()
    except warmd.WarmdError as error:
        return time.monotonic(), error
    raise AssertionError(f"it gave {found!r}")


async def awaited(address: str, session: str) -> None:
    async with warmd.AsyncClient(address) as client:
        await client.run(function="sleep", session=session, timeout=60)


def test_a_killed_daemon_is_told_to_all_who_wait_and_leaves_no_worker() -> None:
    """Callers of every kind; workers that sleep, loop in C with the interpreter held, and are stopped."""
    with warmd.testing.daemon() as daemon:
        busy, deaf, stopped, streams, queued = (
            daemon.session(zoo(name)) for name in ("Hangs", "Hangs", "Good", "Hangs", "Hangs")
        )
        pids = [session.info().pid for session in (busy, deaf, stopped, streams, queued)]
        deaf_call = deaf.submit("c_loop")
        os.kill(pids[2], signal.SIGSTOP)
        behind = [queued.submit("sleep"), queued.submit("alive")]
        stream = streams.stream("stream")
        next(stream)
        waits: list[Callable[[], Any]] = [
            lambda: busy.call("sleep", timeout=60),
            lambda: asyncio.run(awaited(daemon.address, busy.id)),
            lambda: deaf_call.result(timeout=60),
            lambda: [call.result(timeout=60) for call in reversed(behind)],
            lambda: [next(stream) for _ in range(10**9)],
        ]
        ended: list[tuple[float, warmd.WarmdError]] = []

        def strike(act: Callable[[], Any] | None) -> None:
            if act is not None:
                ended.append(ending(act))
                return
            until(lambda: daemon.sessions.get(busy.id).queued == 1)
            killed.append(time.monotonic())
            os.kill(daemon.daemon_pid, signal.SIGKILL)

        killed: list[float] = []
        together(strike, [*waits, None])
        for at, error in ended:
            assert (error.code, error.ran) == ("DAEMON_LOST", "maybe")
            assert at - killed[0] < AT_ONCE_SECONDS
        await_gone(pids, killed[0] + TREE_SECONDS - time.monotonic())
        with pytest.raises(warmd.DaemonUnavailable) as caught:
            busy.call("alive")
        assert caught.value.ran == "no"


def test_a_daemon_that_is_stopped_for_a_while_takes_nothing_for_dead() -> None:
    """A stall is no death: calls end well, also one begun meanwhile; sessions keep their state."""
    with warmd.testing.daemon(session_timeout=60) as daemon:
        sessions = [daemon.session(zoo("Good")) for _ in range(3)]
        for session in sessions:
            session.call("run")
        slow = daemon.session(zoo("Hangs")).submit("sleep", {"seconds": 1.0})
        os.kill(daemon.daemon_pid, signal.SIGSTOP)
        meanwhile = sessions[0].submit("run")
        time.sleep(STOPPED_SECONDS)
        os.kill(daemon.daemon_pid, signal.SIGCONT)
        assert meanwhile.result(timeout=10).output["n"] == 2
        assert slow.result(timeout=10).output is None
        assert [session.call("run").output["n"] for session in sessions] == [3, 2, 2]


def test_after_a_restart_old_ids_are_unknown_and_nothing_queued_has_run(tmp_path: Path) -> None:
    with warmd.testing.daemon() as daemon:
        session = daemon.session(zoo("Mortal"))
        running = begun(session.submit("wait"))
        queued = [session.submit("note", {"path": str(tmp_path / "ran")}) for _ in range(10)]
        kept = daemon.submit(app=zoo("Good"), session="new", function="run", detach=True)
        kept.result(10)
        with warmd.Client(daemon.address) as other:
            boot = other.status().boot
            os.kill(daemon.daemon_pid, signal.SIGKILL)
            assert {error_of(call.result).code for call in (running, *queued)} == {"DAEMON_LOST"}
            with successor(daemon.run_dir):
                assert other.status().boot != boot, "the same client finds the next daemon"
                for use in (
                    lambda: other.session(id=session.id).call("run"),
                    lambda: other.sessions.get(session.id),
                    lambda: other.sessions.end(session.id),
                ):
                    error = error_of(use)
                    assert (error.code, error.ran) == ("SESSION_NOT_FOUND", "no")
                assert error_of(lambda: other.calls.result(kept.call_id)).code == "CALL_GONE"
                with other.session(zoo("Good")) as fresh:
                    assert fresh.call("run").output["n"] == 1
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("there", [True, False], ids=["a stale socket", "nothing"])
def test_without_a_daemon_a_call_fails_in_time_whatever_its_patience(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "warmd.sock"
    if there:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))

    async def awaited_call() -> None:
        async with warmd.AsyncClient(str(path)) as client:
            await client.run(app="counter", timeout=600)

    with warmd.Client(str(path)) as client:
        for act in (lambda: client.run(app="counter", timeout=600), lambda: asyncio.run(awaited_call())):
            with within(NO_DAEMON_SECONDS):
                error = error_of(act)
            assert (error.code, error.ran) == ("DAEMON_UNAVAILABLE", "no")
