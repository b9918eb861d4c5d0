"""How long real sessions live: held ones past their idle time, old ones not past their greatest age."""

from __future__ import annotations

import time

import pytest

import warmd
from tests.faults.watch import error_of, until, zoo

LATE_SECONDS = 1.0


def test_a_held_session_outlives_its_idle_time_and_a_released_one_does_not(client):
    with client.session(zoo("Good"), session_timeout=1) as session:
        assert session.hold("5m").held_for == pytest.approx(300, abs=2)
        session.call("run")
        time.sleep(1.5)  # a hold that does nothing would have ended by now
        assert session.call("run").output["n"] == 2
        assert "kept alive by a hold" in client.why(session.id).text
        begun = time.monotonic()
        assert session.release().held_for is None
        until(lambda: session.info().state == "expired")
        assert time.monotonic() - begun < 1 + LATE_SECONDS
    with pytest.raises(warmd.SessionExpired):
        session.hold(5)


def test_an_old_session_expires_however_busy_and_finishes_its_call(client):
    opened = time.monotonic()
    session = client.session(zoo("Hangs"), max_lifetime=2)
    assert 0 < session.info().lives_for <= 2
    running = session.submit("sleep", {"seconds": 2.5})
    waiting = [session.submit("alive") for _ in range(3)]
    for call in waiting:
        with pytest.raises(warmd.SessionExpired, match="max_lifetime") as caught:
            call.result(timeout=10)
        assert caught.value.ran == "no"
    assert 1.5 < time.monotonic() - opened < 2 + LATE_SECONDS
    assert running.result(timeout=10).output is None
    until(lambda: session.info().state == "expired")


FAR = "30d"
"""Farther away than the kernel can be told to wait: 2^31 ms."""


def test_times_that_are_weeks_away_end_nobody():
    times = dict.fromkeys(("call_timeout", "start_timeout", "drain_timeout", "detached_keep"), FAR)
    with warmd.testing.daemon(max_session_timeout="never", **times) as client:
        session = client.session(zoo("Good"), session_timeout=FAR, max_lifetime=FAR)
        call = client.session(zoo("Hangs"), session_timeout=FAR).submit("sleep", timeout="25d", detach=True)
        assert session.call("run", timeout=FAR).output["n"] == 1
        assert session.submit("run").result(timeout=FAR).output["n"] == 2
        time.sleep(0.2)  # whatever is nearer has passed, and only what is far is left to wait for
        assert call.status().state == "running"
        client.stop(FAR)
        assert error_of(lambda: session.call("run")).code == "DRAINING"
        call.cancel()
        assert client._daemon.process.wait(20) == 0
