"""Workers that die: at any moment, in any way, with anything under way."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

import warmd
from tests.faults.watch import (
    AT_ONCE_SECONDS,
    await_gone,
    await_tree_gone,
    begun,
    carriers,
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

HOW = {"kill": "SIGKILL", "segfault": "SIGSEGV", "abort": "SIGABRT", "exit_0": 0, "exit_7": 7}
QUEUED = 20


class Mortal:
    """A session of the zoo's Mortal, and the pipe by which it is told to die."""

    def __init__(self, client: LocalClient, folder: Path, how: str) -> None:
        self.client, self.how = client, how
        self.go = folder / f"go-{how}"
        self.ran = folder / f"ran-{how}"
        os.mkfifo(self.go)
        self.session = client.session(zoo("Mortal"))
        self.pid = self.session.call("pid").output
        self.token = token_of(self.pid)
        self.told = {"how": how, "when": str(self.go)}

    def strike(self) -> None:
        """Returns when the process was told; it dies within microseconds."""
        self.go.write_text("die")

    def check_error(self, error: warmd.WarmdError) -> None:
        """The error of the call that was running, with what the process wrote last."""
        assert (error.code, error.outcome, error.ran) == ("WORKER_DIED", "worker_died", "maybe")
        assert error.session == self.session.id and error.call
        assert error.details["log_tail"] in str(error)
        self.check_cause(error)

    def check_cause(self, error: warmd.WarmdError) -> None:
        """How it died is in the text and the details."""
        how = HOW[self.how]
        text = f"killed by {how}" if isinstance(how, str) else f"exited with code {how}"
        assert text in str(error)
        assert error.details["signal" if isinstance(how, str) else "exit_code"] == how
        assert f"about to {self.how}" in error.details["log_tail"]
        if self.how in ("segfault", "abort"):
            assert "Fatal Python error" in error.details["log_tail"]
            assert "in _die" in error.details["log_tail"]

    def check_buried(self) -> None:
        """A later use says that it died and of what; nothing of it is left, not even its place."""
        error = error_of(lambda: self.session.call("pid"))
        assert (error.code, error.outcome, error.ran) == ("SESSION_DIED", "no_session", "no")
        cause = HOW[self.how]
        assert str(cause) in error.details["reason"] and error.details["reason"] in str(error)
        await_gone([self.pid])
        until(lambda: self.session.info().state == "died")
        assert self.session.id not in [one.id for one in self.client.sessions.list()]
        log = b"".join(self.client.logs(self.session.id)).decode()
        assert ("Fatal Python error" in log) == (self.how in ("segfault", "abort"))


def test_a_death_in_a_call_is_told_at_once_with_its_cause(client: LocalClient, tmp_path: Path) -> None:
    def one(how: str) -> None:
        mortal = Mortal(client, tmp_path, how)
        call = begun(mortal.session.submit("die", mortal.told))
        mortal.strike()
        with within(AT_ONCE_SECONDS):
            error = error_of(call.result)
        mortal.check_error(error)
        mortal.check_buried()

    with undisturbed(client.address):
        together(one, HOW)


def test_a_death_while_idle_is_seen_at_once(client: LocalClient, tmp_path: Path) -> None:
    def one(how: str) -> None:
        mortal = Mortal(client, tmp_path, how)
        mortal.session.call("die_later", mortal.told)
        mortal.strike()
        until(lambda: mortal.session.info().state == "died", AT_ONCE_SECONDS)
        mortal.check_buried()

    together(one, HOW)


def test_a_death_with_a_queue_is_told_to_all_and_none_of_them_runs(
    client: LocalClient, tmp_path: Path
) -> None:
    def one(how: str) -> None:
        mortal = Mortal(client, tmp_path, how)
        call = begun(mortal.session.submit("die", mortal.told))
        queued = [mortal.session.submit("note", {"path": str(mortal.ran)}) for _ in range(QUEUED)]
        assert queued[-1].status().state == "queued"
        mortal.strike()
        with within(AT_ONCE_SECONDS):
            mortal.check_error(error_of(call.result))
            errors = [error_of(one.result) for one in queued]
        assert {(error.code, error.ran) for error in errors} == {("SESSION_DIED", "no")}
        mortal.check_cause(errors[-1])
        mortal.check_buried()
        assert not mortal.ran.exists()

    together(one, HOW)


@pytest.mark.parametrize("function", ["die_in_stream", "die_between_parts"])
def test_a_death_in_a_stream_breaks_it_after_its_whole_parts(
    client: LocalClient, tmp_path: Path, function: str
) -> None:
    def one(how: str) -> None:
        mortal = Mortal(client, tmp_path, how)
        stream = mortal.session.stream(function, mortal.told)
        assert [next(stream), next(stream)] == [0, 1]
        mortal.strike()
        with within(AT_ONCE_SECONDS):
            mortal.check_error(error_of(lambda: list(stream)))
        mortal.check_buried()

    together(one, HOW)


def test_twenty_deaths_at_once_are_each_told_at_once(client: LocalClient) -> None:
    sessions = [client.session(zoo("Mortal")) for _ in range(20)]
    pids = [session.call("pid").output for session in sessions]
    calls = [begun(session.submit("wait")) for session in sessions]
    with undisturbed(client.address):
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        with within(AT_ONCE_SECONDS):
            errors = [error_of(call.result) for call in calls]
    assert {(e.code, e.ran, e.details["signal"]) for e in errors} == {("WORKER_DIED", "maybe", "SIGKILL")}
    await_gone(pids)


@pytest.mark.parametrize("function", ["close_and_return", "close_and_wait", "close_later"])
def test_closed_descriptors_are_a_death(client: LocalClient, function: str) -> None:
    session = client.session(zoo("Mortal"))
    pid = session.call("pid").output
    told = ("WORKER_DIED", "maybe")
    if function == "close_later":
        session.call(function)
        until(lambda: not os.listdir(f"/proc/{pid}/fd"))
        function, told = "pid", ("SESSION_DIED", "no")  # it could not take the call
    with undisturbed(client.address), within(AT_ONCE_SECONDS):
        error = error_of(lambda: session.call(function))
    assert (error.code, error.ran) == told
    assert {"signal", "exit_code"} & set(error.details)
    assert error_of(session.call).code == "SESSION_DIED"
    await_gone([pid])


@pytest.mark.parametrize("moment", ["in a call", "idle"])
def test_a_death_is_seen_though_a_forked_child_holds_every_descriptor(
    client: LocalClient, moment: str
) -> None:
    session = client.session(zoo("Forks"))
    child = session.call("hold_fds").output
    token = token_of(child)
    if moment == "idle":
        (pid,) = set(carriers(token)) - {child}
        os.kill(pid, signal.SIGKILL)
        until(lambda: session.info().reason, AT_ONCE_SECONDS)
    else:
        with within(AT_ONCE_SECONDS):
            error = error_of(lambda: session.call("hold_fds_and_die"))
        assert (error.code, error.details["signal"]) == ("WORKER_DIED", "SIGKILL")
    assert error_of(session.call).code == "SESSION_DIED"
    await_tree_gone(token)
    await_gone([child])


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("exit", "SystemExit"),
        ("keyboard", "KeyboardInterrupt"),
        ("base", "zoo.OwnBaseError"),
        ("generator_exit", "GeneratorExit"),
        ("stop_iteration", "StopIteration"),
        ("recurse", "RecursionError"),
        ("memory", "MemoryError"),
    ],
)
def test_what_a_function_raises_is_an_app_error_and_no_death(
    client: LocalClient, function: str, kind: str
) -> None:
    with client.session(zoo("Raises")) as session:
        assert session.call("alive").output == 1
        error = error_of(lambda: session.call(function))
        assert (error.code, error.outcome, error.ran) == ("APP_ERROR", "app_error", "yes")
        assert isinstance(error, warmd.AppError) and error.type == kind and error.traceback
        assert session.call("alive").output == 2


@pytest.mark.parametrize(
    ("function", "code"), [("exec", 11), ("exit_in_thread", 5), ("exit_in_stream", 8), ("hard_exit", 7)]
)
def test_every_way_out_of_the_process_is_a_death(client: LocalClient, function: str, code: int) -> None:
    session = client.session(zoo("Dies"))
    with within(AT_ONCE_SECONDS):
        error = error_of(lambda: session.call(function))
    assert (error.code, error.details["exit_code"]) == ("WORKER_DIED", code)


ROUNDS = 36
AT_A_TIME = 6
CALLS = 3


def test_a_kill_around_the_reply_leaves_no_doubt_that_is_not_told(
    client: LocalClient, tmp_path: Path
) -> None:
    """Calls are sent and their worker is killed within microseconds: each had at most its one effect,
    exactly one where the caller was told ok, and none where it was told that it had not run."""
    dice, told = random.Random(), []

    def one(number: int) -> None:
        session = client.session(zoo("Mortal"))
        paths = [tmp_path / f"{number}-{n}" for n in range(CALLS)]
        pidfd = os.pidfd_open(session.call("pid").output)
        began = time.perf_counter()
        session.call("pid")
        warm_seconds = time.perf_counter() - began
        calls = [session.submit("note", {"path": str(path)}) for path in paths]
        if number % 3 == 0:
            calls[0].result()
        strike_at = time.perf_counter() + dice.uniform(0, 3 * warm_seconds) * (number % 3 != 1)
        while time.perf_counter() < strike_at:
            pass
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        for call, path in zip(calls, paths, strict=True):
            outcome = "ok"
            try:
                call.result(timeout=AT_ONCE_SECONDS)
            except (warmd.WorkerDied, warmd.SessionDied) as error:
                outcome = error.ran
            possible = {"ok": {1}, "no": {0}, "maybe": {0, 1}}[outcome]
            effects = path.stat().st_size if path.exists() else 0
            assert effects in possible, f"{outcome}, but {effects} effects"
            told.append(outcome)

    for batch in range(0, ROUNDS, AT_A_TIME):
        together(one, range(batch, batch + AT_A_TIME))
    assert {"ok", "no"} <= set(told), f"the kills always came at the same moment: {Counter(told)}"


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_death_between_the_effect_and_the_reply_is_never_told_as_not_run(
    client: LocalClient, tmp_path: Path, before: int
) -> None:
    """Of calls that were sent in one go, the worker dies in the last moment of one."""
    functions = ["note"] * before + ["note_and_die"] + ["note"] * CALLS

    def one(number: int) -> None:
        session = client.session(zoo("Mortal"))
        session.call("pid")
        paths = [tmp_path / f"{number}-{n}" for n in range(len(functions))]
        calls = [
            session.submit(function, {"path": str(path)})
            for function, path in zip(functions, paths, strict=True)
        ]
        for call in calls[:before]:
            call.result()
        error = error_of(calls[before].result)
        assert (error.code, error.ran) == ("WORKER_DIED", "maybe")
        behind = [error_of(call.result) for call in calls[before + 1 :]]
        assert {(error.code, error.ran) for error in behind} == {("SESSION_DIED", "no")}
        effects = [path.stat().st_size if path.exists() else 0 for path in paths]
        assert effects == [1] * (before + 1) + [0] * CALLS

    together(one, range(AT_A_TIME))
