"""What the daemon's log tells of sessions, and that it costs no more the more of them there are."""

from __future__ import annotations

import logging

import pytest

from tests.core.imports import LIMITS, importing
from tests.core.stage import EVERYTHING
from tests.daemon.told import Told
from warmd.daemon.diary import SHOWN_DIGITS


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "warmd.sessions")
    return caplog


def lines(told: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Of each line the session and the text."""
    return [(vars(record)["session"], record.message.partition(":")[0]) for record in told.records]


def test_a_start_is_told_of_without_a_look_at_all_sessions(
    told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Told()
    world.session()
    told.clear()
    monkeypatch.setattr(world.broker, "views", None)
    id = world.session()[:SHOWN_DIGITS]
    assert lines(told) == [(id, "starting"), (id, "ready")]


def test_an_import_is_told_of_by_the_first_who_waits_for_it(told: pytest.LogCaptureFixture) -> None:
    world = Told(LIMITS, holds=EVERYTHING)
    first = world.call("new")
    world.found()
    importing(world)
    assert lines(told) == [(str(first.session)[:SHOWN_DIGITS], "its app is being imported")]


def test_what_is_known_of_detached_calls_whose_clients_left_does_not_gather() -> None:
    world = Told()
    session = world.session()
    for number in range(20):
        world.call(session, by=f"client {number}", detach=True)
        world.leave(f"client {number}")
        assert len(world.broker.story.left) == 1, "the one that runs"
        world.returns()
    world.call(session, by="ann")
    world.leave("ann")
    assert not world.broker.story.left
