"""Sessions that are started with the daemon: no more than leave room for others."""

from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace

import pytest

from warmd.daemon.prewarm import prewarm


def ordered(found: object, max_sessions: int) -> Counter[str]:
    """How many starts there are of each app."""
    events = []
    services = SimpleNamespace(
        settings=SimpleNamespace(max_sessions=max_sessions),
        catalog=SimpleNamespace(spares=None),
        submit=events.append,
        in_thread=lambda _work, done: done(found),
    )
    prewarm(services)
    assert all(event.call.new.spare for event in events)
    return Counter(event.call.app.name for event in events)


def test_as_many_as_they_ask_for() -> None:
    assert ordered({"a": 2, "b": 3}, 10) == {"a": 2, "b": 3}


def test_half_of_all_places_are_left(caplog: pytest.LogCaptureFixture) -> None:
    assert ordered({"a": 100, "b": 3}, 7) == {"a": 3}
    assert "a asks for 100 spares and gets 3: half of max_sessions (7) is for spares" in caplog.text
    assert "b asks for 3 spares and gets 0" in caplog.text


def test_apps_that_cannot_be_looked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert ordered(OSError("no such disk"), 7) == {}
    assert "no such disk" in caplog.text
