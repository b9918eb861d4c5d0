"""How long sessions live: holds, the greatest age, and both beside the idle clock."""

from __future__ import annotations

import pytest

from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import Limits
from warmd.protocol import work


def test_a_hold_puts_the_expiry_off_and_no_longer():
    world = World()
    session = world.session(idle_seconds=10.0)
    world.wait(4.0)
    assert isinstance(world.hold(session, 60.0), fx.Answer)
    world.wait(59.9)
    assert world.state(session) == "idle"
    world.wait(0.1)
    assert world.state(session) == "expired"
    assert "until its hold was over" in world.call(session).final.message


def test_a_short_hold_does_not_shorten_the_idle_time():
    world = World()
    session = world.session(idle_seconds=10.0)
    world.hold(session, 2.0)
    world.wait(9.9)
    assert world.state(session) == "idle"
    world.wait(0.1)
    assert world.state(session) == "expired"
    assert "hold" not in world.call(session).final.message


def test_a_hold_of_a_busy_session_counts_from_its_arrival():
    world = World()
    session = world.session(idle_seconds=1.0)
    world.call(session)
    world.hold(session, 10.0)
    world.wait(4.0)
    world.returns()
    world.wait(5.9)
    assert world.state(session) == "idle"
    world.wait(0.1)
    assert world.state(session) == "expired"


def test_a_released_session_expires_by_its_idle_clock_which_never_stopped():
    world = World()
    session = world.session(idle_seconds=10.0)
    world.hold(session, 600.0)
    world.wait(30.0)
    world.hold(session, None)
    world.wait(0.0)
    assert world.state(session) == "expired"


def test_a_hold_over_the_limit_names_it():
    world = World(Limits(max_hold_seconds=60.0))
    refused = world.hold(world.session(), 61.0)
    assert refused.code == "INVALID"
    assert "61 s" in refused.message and "60 s (max_hold)" in refused.message


def test_a_session_that_is_gone_cannot_be_held():
    world = World()
    session = world.session()
    world.end(session)
    assert world.hold(session, 5.0).code == "SESSION_ENDED"
    assert world.hold("sess_none", 5.0).code == "SESSION_NOT_FOUND"


def test_an_idle_session_expires_at_its_greatest_age_held_or_not():
    world = World()
    session = world.session(idle_seconds=3600.0, lifetime_seconds=30.0)
    world.hold(session, 600.0)
    world.wait(29.9)
    assert world.call(session, "").code == "ok"
    world.wait(0.1)
    refused = world.call(session).final
    assert (refused.code, refused.ran) == ("SESSION_EXPIRED", "no")
    assert "30 s" in refused.message and "max_lifetime" in refused.message


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_session_that_is_too_old_finishes_its_call_and_no_other(ahead):
    world = World(Limits(dispatch_ahead=ahead, max_lifetime_seconds=30.0))
    session = world.session()
    world.wait(29.0)
    running, *waiting = [world.call(session) for _ in range(4)]
    world.wait(1.0)
    assert [(call.code, call.final.ran) for call in waiting] == [("SESSION_EXPIRED", "no")] * 3
    assert "max_lifetime" in waiting[0].final.message
    assert not running.code
    world.returns()
    assert running.code == "ok"
    assert world.worker().finish == "expired"
    assert world.state(session) == "expired"


def test_a_call_that_was_entered_before_it_could_be_taken_back_may_end_too():
    world = World(Limits(dispatch_ahead=2, max_lifetime_seconds=30.0), holds=[fx.Withdraw])
    session = world.session()
    world.wait(29.0)
    first, second = world.call(session), world.call(session)
    world.lags = True
    world.returns()
    world.worker().turn()
    world.wait(1.0)
    world.reads()
    world.settles()
    world.returns()
    world.reads()
    assert (first.code, second.code) == ("ok", "ok")
    assert world.worker().finish == "expired"


def test_a_start_that_takes_longer_than_its_session_may_live_is_given_up():
    world = World(holds=EVERYTHING)
    call = world.call("new", lifetime_seconds=5.0)
    world.found()
    world.spawned()
    world.wait(5.0)
    assert (call.code, call.final.ran) == ("SESSION_EXPIRED", "no")
    assert world.worker().kills == 1


def test_pool_workers_that_are_too_old_are_replaced():
    world = World(Limits(max_lifetime_seconds=30.0, max_pool_workers=1))
    first = world.call(None)
    world.wait(29.0)
    second = world.call(None)
    world.wait(2.0)
    assert not second.code
    world.returns(worker=1)
    world.returns(worker=2)
    assert (first.code, second.code) == ("ok", "ok")
    assert world.worker(1).finish == "expired"


def test_a_session_may_ask_for_less_than_the_daemons_limit_and_not_for_more():
    world = World(Limits(max_lifetime_seconds=30.0))
    refused = world.call("new", lifetime_seconds=31.0)
    assert refused.code == "INVALID" and "max_lifetime is 31 s" in refused.final.message
    session = world.session(lifetime_seconds=10.0)
    assert world.broker.view(session).lifetime_seconds == 10.0
    assert world.broker.view(world.session()).lifetime_seconds == 30.0


def test_a_name_is_joined_only_with_the_same_lifetime():
    world = World()
    world.session(name="mine", lifetime_seconds=30.0)
    assert world.call("new", "", name="mine", lifetime_seconds=30.0).code == "ok"
    assert "max_lifetime" in world.call("new", "", name="mine", lifetime_seconds=20.0).final.message


def test_a_drain_is_not_told_as_expiry():
    world = World(Limits(max_lifetime_seconds=30.0), holds=[work.Finish])
    world.session()
    world.drain(100.0)
    world.wait(31.0)
    assert world.worker().finish == "stopped"
