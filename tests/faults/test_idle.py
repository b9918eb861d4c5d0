"""Idle sessions end: not before their time, at most a second after it, and never while they are busy."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import warmd
from tests.faults.watch import await_gone, error_of, together, until, zoo
from warmd.owndaemon import LocalClient

IDLE_SECONDS = 1
LATE_SECONDS = 1.0
"""At most so long after its time a session has ended."""
EARLY_SECONDS = 0.1


def opened(client: LocalClient) -> warmd.Session:
    return client.session(zoo("Hangs"), session_timeout=IDLE_SECONDS)


def gone_after(session: warmd.Session, since: float) -> float:
    """How long after `since` the session stopped taking calls, as its info tells."""
    until(lambda: session.info().state in ("stopping", "expired"))
    return time.monotonic() - since


def check_expired(session: warmd.Session, since: float) -> None:
    assert IDLE_SECONDS <= gone_after(session, since) <= IDLE_SECONDS + LATE_SECONDS
    error = error_of(lambda: session.call("alive"))
    assert (error.code, error.outcome, error.ran) == ("SESSION_EXPIRED", "no_session", "no")
    assert "session_timeout" in str(error)


def test_a_session_expires_in_time_and_says_so(client: LocalClient) -> None:
    def one(_: int) -> None:
        session = opened(client)
        pid = int(session.info().pid)
        since = time.monotonic()
        session.call("alive")
        check_expired(session, since)
        await_gone([pid])

    together(one, range(8))


def test_a_call_a_keepalive_and_a_stream_start_the_clock_anew(client: LocalClient) -> None:
    def one(how: str) -> None:
        session = opened(client)
        for _ in range(4):
            end = time.monotonic() + 0.6 * IDLE_SECONDS
            until(lambda end=end: time.monotonic() > end)  # type: ignore[misc]
            since = time.monotonic()
            if how == "call":
                session.call("alive")
            elif how == "keepalive":
                session.keepalive()
            else:
                with session.stream("stream") as stream:
                    next(stream)
        check_expired(session, since)

    together(one, ["call", "keepalive", "stream"])


def test_busy_is_never_idle(client: LocalClient) -> None:
    """Calls three times as long as the idle time, one after another, and a stream that is not read."""

    def one(how: str) -> None:
        session = opened(client)
        if how == "call":
            session.call("echo_after", {"seconds": 3 * IDLE_SECONDS, "value": 0})
        elif how == "queue":
            calls = [session.submit("echo_after", {"seconds": IDLE_SECONDS, "value": 0}) for _ in range(3)]
            assert [call.result().output for call in calls] == [0, 0, 0]
        else:
            stalled = session.submit("sleep", {"seconds": 0.1})
            with session.stream("stream") as stream:
                stalled.result()
                next(stream)
                end = time.monotonic() + 3 * IDLE_SECONDS
                until(lambda: time.monotonic() > end)
                next(stream)
        since = time.monotonic()
        assert session.call("alive").output == 1
        check_expired(session, since)

    together(one, ["call", "queue", "stream"])


def test_looking_at_a_session_does_not_keep_it(client: LocalClient) -> None:
    session = opened(client)
    since = time.monotonic()
    session.call("alive")

    def look() -> bool:
        client.sessions.list()
        client.status()
        b"".join(client.logs(session.id))
        return session.info().state != "idle"

    until(look, IDLE_SECONDS + 2 * LATE_SECONDS)
    check_expired(session, since)


def test_a_call_at_the_moment_of_expiry_runs_or_finds_no_session(client: LocalClient, tmp_path: Path) -> None:
    """Never anything between: ok with its one effect, or SESSION_EXPIRED with none.

    Some aim a little earlier than others, so that on a busy machine too there are both.
    """
    dice, told, threads = random.Random(), [], 24

    def one(number: int) -> None:
        path = tmp_path / str(number)
        session = client.session(zoo("Mortal"), session_timeout=IDLE_SECONDS)
        session.call("pid")
        for round in range(3):
            aim = IDLE_SECONDS - EARLY_SECONDS * number / threads
            at = time.monotonic() + aim + dice.uniform(-0.006, 0.006)
            until(lambda at=at: time.monotonic() >= at)  # type: ignore[misc]
            done, ran = round, "yes"
            try:
                session.call("note", {"path": str(path)}, timeout=10)
                done += 1
            except warmd.SessionExpired as error:
                ran = error.ran
            told.append(ran)
            assert (path.stat().st_size if path.exists() else 0) == done
            if ran != "yes":
                return

    together(one, range(threads))
    assert set(told) == {"yes", "no"}, Counter(told)
