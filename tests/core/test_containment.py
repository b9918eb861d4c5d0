"""A rule that fails costs the session that it dealt with, and no call its outcome."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.world import EVERYTHING, World
from warmd.protocol import work
from warmd.protocol.errors import Problem

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
