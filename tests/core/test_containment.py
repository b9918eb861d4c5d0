"""A rule that fails costs the session that it dealt with, and no call its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.core.stage import EVERYTHING
from tests.core.world import World, client
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.errors import Problem
from warmd.protocol.messages import CallId

WHEN = pytest.mark.parametrize("when", ["early", "late"])


def returns(world: World) -> None:
    world.returns(worker=2)


def yields(world: World) -> None:
    world.says(work.Yielded(world.running(2).ordinal, 0, b"part"), 2)


def exits(world: World) -> None:
    world.exits(2, signal="SIGSEGV")


def loses_link(world: World) -> None:
    world.loses_link(2)


def times_out(world: World) -> None:
    world.wait_for_deadline()


@WHEN
@pytest.mark.parametrize("act", [returns, yields, exits, loses_link, times_out])
def test_all_calls_of_the_session_are_answered_and_no_others(act: Callable[[World], None], when):
    if act is times_out:
        when = "early"  # a timer that has done all its work has not failed
    world = World()
    other, session = world.session(), world.session()
    bystander = world.call(other)
    running = world.call(session, timeout_seconds=5, window=1)
    waiting = [world.call(session) for _ in range(2)]
    world.sabotage = when
    act(world)
    assert running.final is not None
    if running.code == "INTERNAL":
        assert running.final.ran == "maybe" and "the book is on fire" in running.final.message
    assert [(call.code, call.final.ran) for call in waiting] in (
        [("INTERNAL", "no")] * 2,
        [("INTERNAL", "maybe"), ("INTERNAL", "no")],  # the rule had dispatched the next
        [("SESSION_DIED", "no")] * 2,  # or had done all that was to do
    )
    assert world.state(session) == "died"
    assert world.call(session).code == "SESSION_DIED"
    world.returns(worker=1)
    assert bystander.code == "ok" and world.call(other, "").code == "ok"


@WHEN
def test_a_call_whose_arrival_fails_is_answered_alone(when):
    world = World()
    session = world.session()
    world.call(session)
    world.sabotage = when
    waiting = world.call(session)
    assert (waiting.code, waiting.final.ran) == ("INTERNAL", "no")
    world.returns()
    assert world.call(session, "").code == "ok"


@WHEN
@pytest.mark.parametrize("step", ["found", "missing", "spawned", "spawn_fails", "ready"])
def test_a_start_that_fails_in_the_daemon_is_told_and_its_place_comes_free(step, when):
    world = World(holds=EVERYTHING)
    call = world.call("new")
    if step not in ("found", "missing"):
        world.found()
    if step == "ready":
        world.spawned()
    world.sabotage = when
    getattr(world, step)(*[Problem("APP_NOT_FOUND", "there is no app")] * (step == "missing"))
    assert call.final is not None
    world.oblige()
    world.wait(100)
    world.assert_over()
    assert not world.broker.views()


@WHEN
def test_a_tree_that_is_gone_frees_its_place_whatever_the_rule_says(when):
    world = World(holds=EVERYTHING)
    world.call("new")
    world.found()
    world.spawned()
    world.exits(code=1)
    world.sabotage = when
    world.tree_ends()
    assert not world.broker.views()


@WHEN
def test_requests_are_answered_once(when):
    world = World()
    session = world.session()
    world.sabotage = when
    world.keepalive(session)
    world.sabotage = when
    request = world.end(session)
    assert world.requests[request] is not None


@WHEN
def test_a_drain_that_fails_stops_the_daemon_at_once(when):
    world = World()
    world.session()
    world.sabotage = when
    world.drain()
    assert world.stopped


@WHEN
@pytest.mark.parametrize("act", ["leave", "cancel", "credit"])
def test_what_a_client_does_to_its_call_may_cost_the_session(act, when):
    world = World()
    session = world.session()
    call = world.call(session, window=1)
    world.sabotage = when
    {"leave": lambda: world.leave("ann"), "cancel": lambda: world.cancel(call),
     "credit": lambda: world.credit(call, 1)}[act]()  # fmt: skip
    if act != "leave":
        assert (call.code, call.final.ran) == ("INTERNAL", "maybe")
        assert world.state(session) == "died"


def test_a_drain_timer_that_fails_stops_the_daemon():
    world = World()
    world.call(world.session())
    world.drain(5)
    world.sabotage = "early"
    world.wait_for_deadline()
    assert world.stopped


@WHEN
def test_one_who_attaches_is_answered_once(when):
    world = World()
    call = world.call(world.session(), detach=True)
    world.sabotage = when
    reading = world.attach(call)
    assert reading.code in ("INTERNAL", "CANCELLED")
    world.returns()
    assert call.code == "ok"


def test_a_caller_hears_that_its_detached_call_was_given_up_when_the_cancel_fails():
    world = World(holds=EVERYTHING)
    call = world.call("new", detach=True)
    world.sabotage = "early"
    world.cancel(call)
    assert (call.code, call.final.ran) == ("INTERNAL", "no")


@WHEN
def test_streams_of_one_whose_reading_is_misjudged_are_given_up(when):
    world = World()
    session = world.session()
    stream = world.call(session, window=1)
    plain = world.call(world.session())
    world.sabotage = when
    world.falls_behind("ann")
    assert (stream.code, stream.final.ran) == ("INTERNAL", "maybe")
    assert plain.open


@WHEN
def test_a_client_inside_an_app_is_taken_for_one_outside(when):
    world = World()
    session = world.session()
    world.sabotage = when
    world.tell(ev.ClientInside(client("inner"), session))
    world.call(session)
    assert world.call(session, by="inner").open


@pytest.mark.parametrize("timer", ["start", "idle", "finish", "drain"])
def test_a_timer_of_a_session_that_fails_costs_the_session(timer):
    world = World(holds=EVERYTHING if timer in ("start", "finish") else [])
    if timer == "start":
        world.call("new", timeout_seconds=3000.0)
        world.found()
        world.spawned()
    else:
        world.holds = frozenset()
        session = world.session()
        world.holds = frozenset(EVERYTHING) if timer == "finish" else frozenset()
        if timer == "finish":
            world.end(session)
        elif timer == "drain":
            world.call(session)
            world.drain(5.0)
    world.sabotage = "early"
    world.wait_for_deadline()
    world.oblige()
    assert not world.broker.views()


@WHEN
def test_what_is_stopped_by_another_client_and_fails_is_answered(when):
    world = World()
    call = world.call(world.session(), detach=True)
    world.sabotage = when
    world.stop_call(call)
    assert call.code == "INTERNAL"


def test_a_detached_call_whose_arrival_fails_is_not_kept_open():
    world = World()
    session = world.session()
    world.sabotage = "late"
    assert world.call(session, detach=True).code == "INTERNAL"
    world.sabotage = "early"
    assert world.call(session, detach=True).final is not None


@WHEN
def test_a_client_that_leaves_while_the_rule_fails_leaves_nothing_waiting(when):
    world = World()
    session = world.session()
    world.call(session)
    waiting = world.call(session, by="bob")
    world.sabotage = when
    world.leave("bob")
    assert waiting.deaf
    world.returns()
    assert world.call(session, "").code == "ok", "what waited was dropped"
    assert world.worker().invoked == 1


@WHEN
def test_word_of_a_stack_or_a_withdrawal_that_fails_costs_the_session(when):
    world = World(holds=[fx.CaptureStack])
    session = world.session()
    call = world.call(session, timeout_seconds=5.0)
    world.wait(5.0)
    world.sabotage = when
    world.stack()
    assert call.final is not None or world.state(session) != "died"
    assert call.code in ("", "INTERNAL")
    world.oblige()
    world.wait(100.0)
    assert call.code in ("INTERNAL", "TIMEOUT")


def test_a_detached_call_that_was_kept_but_never_registered_ends():
    world = World()
    heard = world.call(world.session(), function="", detach=True)
    book = world.broker._book
    kept = book.keep.open(CallId(b"k" * 16), "run")
    call = replace(heard.call, id=kept.id)
    world.broker.contain(ev.CallArrived(heard.client, call, ""), RuntimeError("early"))
    assert kept.final is not None and kept.final.ran == "no"


@WHEN
def test_a_kept_call_goes_when_its_time_is_over_though_the_rule_fails(when):
    world = World(Limits(detached_keep_seconds=20.0))
    call = world.call(world.session(), detach=True)
    world.returns()
    world.sabotage = when
    assert world.wait_for_deadline() == 20.0
    assert world.broker.call_view(call.call.id.hex()) is None


def test_a_client_that_is_behind_for_too_long_holds_no_session_though_the_rule_fails():
    world = World()
    session = world.session()
    call = world.call(session)
    world.falls_behind("ann")
    world.sabotage = "early"
    world.wait_for_deadline()
    assert (call.code, world.state(session)) == ("INTERNAL", "died")
    world.catches_up("ann")
    assert world.session()


@WHEN
def test_a_worker_that_was_paused_for_a_client_that_is_gone_is_listened_to_again(when: str) -> None:
    world = World()
    session = world.session()
    world.call(session, "count", by="bob", window=5)
    world.falls_behind("bob")
    assert world.worker().paused
    world.sabotage = when
    world.leave("bob")
    assert not world.worker().paused
    world.returns()
    assert world.state(session) == "idle"
