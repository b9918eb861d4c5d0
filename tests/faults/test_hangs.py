"""Calls that do not end: each is answered by its deadline, and its session saved where that can be."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

import warmd
from tests.faults.watch import (
    AFTER_DEADLINE_SECONDS,
    AT_ONCE_SECONDS,
    await_gone,
    await_tree_gone,
    begun,
    error_of,
    together,
    token_of,
    undisturbed,
    until,
    within,
    zoo,
)
from warmd.owndaemon import LocalClient

pytestmark = pytest.mark.alone

DEADLINE_SECONDS = 0.5
WITH_A_PATH = ("clean_up", "leave_thread")

INTERRUPTIBLE = {
    "Hangs": (
        *("sleep", "loop", "lock", "regex", "c_sleep", "subprocess", "swallow_once", "own_handlers"),
        *("polite", "progress_loop", "clean_up", "leave_thread"),
    ),
    "Async": (
        *("sleep", "inner", "stream_that_waits", "gather", "task_group", "loop_in_task", "loop_in_coroutine"),
        *("loop_in_sync", "in_thread", "wait_for", "swallow_once", "shielded", "slow_clean_up"),
    ),
}
DEAF = {
    "Hangs": ("c_loop", "swallow", "ignore_signals", "all_handlers", "stop_self", "uninterruptible"),
    "Async": ("swallow",),
}


def overdue(session: warmd.Session, function: str, folder: Path) -> warmd.WarmdError:
    """The error of a call that hangs; it comes in time, and says where it hung."""
    given = {"path": str(folder / function)} if function in WITH_A_PATH else None
    with within(DEADLINE_SECONDS + AFTER_DEADLINE_SECONDS):
        error = error_of(lambda: session.call(function, given, timeout=DEADLINE_SECONDS))
    assert (error.code, error.outcome, error.ran) == ("TIMEOUT", "timeout", "maybe")
    assert isinstance(error, TimeoutError) and error.session == session.id
    return error


@pytest.mark.parametrize("app", INTERRUPTIBLE)
def test_a_hang_that_can_be_interrupted_costs_the_call_and_not_the_session(
    client: LocalClient, tmp_path: Path, app: str
) -> None:
    sessions = {function: client.session(zoo(app)) for function in INTERRUPTIBLE[app]}
    for session in sessions.values():
        assert session.call("alive").output == 1

    def one(function: str) -> None:
        session = sessions[function]
        error = overdue(session, function, tmp_path)
        assert "zoo" in error.details["stack"] and "it was at" in str(error)
        with within(AT_ONCE_SECONDS):
            assert session.call("alive").output == 2
        assert session.info().state == "idle"

    with undisturbed(client.address):
        together(one, sessions)
    if app == "Hangs":
        lines = len((tmp_path / "leave_thread").read_text())
        until(lambda: len((tmp_path / "leave_thread").read_text()) > lines)
        assert (tmp_path / "clean_up").read_text() == "cleaned up\n"


def test_a_hang_that_cannot_be_interrupted_costs_the_session_and_nobody_else(
    client: LocalClient, tmp_path: Path
) -> None:
    names = [(app, function) for app, functions in DEAF.items() for function in functions]
    sessions = {name: client.session(zoo(name[0])) for name in names}

    def one(name: tuple[str, str]) -> None:
        session, (_, function) = sessions[name], name
        pid = int(session.info().pid)
        token = token_of(pid)
        error = overdue(session, function, tmp_path)
        assert "could not be interrupted" in str(error)
        later = error_of(lambda: session.call("alive"))
        assert (later.code, later.ran) == ("SESSION_DIED", "no")
        assert repr(function) in later.details["reason"]
        await_gone([pid])
        await_tree_gone(token)

    with undisturbed(client.address):
        together(one, names)


def test_the_error_names_the_line_of_the_hang(client: LocalClient, tmp_path: Path) -> None:
    def one(function: str) -> None:
        session = client.session(zoo("Hangs"))
        error = overdue(session, function, tmp_path)
        assert re.search(rf"it was at /.*zoo_hangs\.py:\d+ in {function}\b", str(error))
        assert re.match(rf"/.*zoo_hangs\.py:\d+ in {function}\b", error.details["stack"])

    together(one, ["c_loop", "loop", "swallow"])


def test_a_stopped_worker_is_no_obstacle(client: LocalClient) -> None:
    """Stopped from outside in the midst of a call, with calls behind it."""
    session = client.session(zoo("Hangs"))
    pid = int(session.info().pid)
    call = begun(session.submit("sleep", timeout=DEADLINE_SECONDS))
    queued = [session.submit("alive") for _ in range(5)]
    os.kill(pid, signal.SIGSTOP)
    with undisturbed(client.address), within(DEADLINE_SECONDS + AFTER_DEADLINE_SECONDS):
        assert error_of(call.result).code == "TIMEOUT"
        assert {(e.code, e.ran) for e in (error_of(one.result) for one in queued)} == {("SESSION_DIED", "no")}
    await_gone([pid])


def test_a_worker_that_is_stopped_for_a_while_goes_on(client: LocalClient) -> None:
    """No heartbeat takes it for dead."""
    with client.session(zoo("Hangs")) as session:
        pid = int(session.info().pid)
        os.kill(pid, signal.SIGSTOP)
        call = session.submit("alive", timeout=20)
        with pytest.raises(TimeoutError):
            call.result(timeout=1.5)
        os.kill(pid, signal.SIGCONT)
        assert call.result().output == 1


def test_a_stopped_worker_can_be_ended(client: LocalClient) -> None:
    session = client.session(zoo("Hangs"))
    pid = int(session.info().pid)
    os.kill(pid, signal.SIGSTOP)
    assert session.end().state == "ended"
    assert not Path(f"/proc/{pid}").exists()


def test_the_late_reply_of_one_call_never_reaches_another(client: LocalClient) -> None:
    """The function returns at the very moment of the deadline; what follows gets its own answer."""
    dice, told = random.Random(), []

    def one(number: int) -> None:
        with client.session(zoo("Hangs")) as session:
            for round in range(25):
                mine = f"{number}-{round}"
                seconds = 0.05 + dice.uniform(-0.004, 0.012)
                try:
                    answer = session.call("echo_after", {"seconds": seconds, "value": mine}, timeout=0.05)
                    assert answer.output == mine
                    told.append("ok")
                except warmd.CallTimeout:
                    told.append("timeout")
                assert session.call("echo", {"next": mine}).output == {"next": mine}

    together(one, range(4))
    assert set(told) == {"ok", "timeout"}, Counter(told)


def test_calls_behind_a_hang_run_when_their_turn_comes(client: LocalClient) -> None:
    with client.session(zoo("Hangs")) as session:
        hanging = session.submit("loop", timeout=DEADLINE_SECONDS)
        waiting = [session.submit("alive") for _ in range(10)]
        impatient = session.submit("alive", timeout=0.1)
        began = time.monotonic()
        error = error_of(impatient.result)
        assert (error.code, error.ran) == ("TIMEOUT", "no")
        assert time.monotonic() - began < 0.1 + AFTER_DEADLINE_SECONDS
        assert error_of(hanging.result).code == "TIMEOUT"
        assert [one.result().output for one in waiting] == list(range(1, 11))
