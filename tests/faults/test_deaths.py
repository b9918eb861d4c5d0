"""Workers that die: at any moment, in any way, with anything under way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import warmd
from tests.faults.watch import (
    AT_ONCE_SECONDS,
    await_gone,
    begun,
    error_of,
    together,
    token_of,
    undisturbed,
    until,
    within,
    zoo,
)
from warmd.local import LocalClient

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
