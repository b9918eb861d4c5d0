"""Sessions that end, and callers that go, while GPU memory is on its way or waited for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.test_gpus import GEMMA, LLAMA, opened, starts, text_of, world
from tests.core.test_parking import HELD, WAYS, in_phase
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.protocol import gpus
from warmd.protocol.work import Finish

MOVING = pytest.mark.parametrize("phase", ["parking", "parked", "unparking"])
FORGOTTEN = 110.0
"""Then no timer is left."""


def over(world: World) -> None:
    """From here on all goes well, and everything ends."""
    world.oblige()
    world.wait(FORGOTTEN)
    world.assert_over()


def finish_of(world: World) -> Finish:
    (told,) = [tell.message for tell in world.ordered(fx.Tell) if isinstance(tell.message, Finish)]
    return told


ENDS: dict[str, Callable[[World, str], object]] = {
    "end": lambda w, session: w.end(session),
    "drain": lambda w, _: w.drain(),
    "expiry": lambda w, _: w.wait(20.0),
}


@MOVING
@WAYS
@pytest.mark.parametrize("end", ENDS)
def test_a_worker_is_told_whether_its_memory_is_the_drivers_when_it_is_to_finish(
    end: str, phase: str, way: str
) -> None:
    w = world(way=way)
    session = w.session(app=LLAMA, lifetime_seconds=15.0)
    w.wait(1.0)
    if phase != "parking":
        w.park(session)
    w.holds = HELD - {fx.Look}
    if phase == "parking":
        w.park(session)
    if way == "driver" and phase == "parking":
        w.says(gpus.Checkpointable(w.broker._book.gpus.last_move), 1)
    if phase == "unparking":
        w.unpark(session)
    ENDS[end](w, session)
    assert finish_of(w).parked == (way == "driver")
    over(w)


def test_before_its_hooks_have_answered_it_is_not_the_drivers() -> None:
    w, session, _ = in_phase("parking", "driver")
    w.end(session)
    assert not finish_of(w).parked
    over(w)


@MOVING
@pytest.mark.parametrize("end", ["end", "drain"])
def test_calls_and_requests_that_waited_are_told(end: str, phase: str) -> None:
    w, session, _ = in_phase(phase)
    call = w.call(session)
    back = w.unpark(session)
    assert back is None
    ENDS[end](w, session)
    assert call.code == "CANCELLED"
    assert "SESSION_ENDED" in [getattr(answer, "code", "") for answer in w.requests.values()]
    over(w)


def test_calls_that_waited_for_one_that_expires_are_told_so() -> None:
    w = world()
    session = w.session(app=LLAMA, lifetime_seconds=15.0)
    w.park(session)
    w.call(opened(w, GEMMA))
    call = w.call(session)
    w.wait(15.1)
    assert call.code == "SESSION_EXPIRED"
    w.returns(worker=2)
    over(w)


@pytest.mark.parametrize("end", ["end", "drain"])
def test_a_start_that_waits_for_its_place_is_simply_not_started(end: str) -> None:
    w = world()
    first = opened(w)
    w.call(first)
    start = starts(w)
    ENDS[end](w, start.session)
    assert start.code == "CANCELLED" and len(w.ordered(fx.Spawn)) == 1
    w.returns(worker=1)
    over(w)


def test_it_may_grow_too_old_in_the_line() -> None:
    w = world()
    w.call(opened(w))
    start = w.call("new", "", app=GEMMA, lifetime_seconds=15.0)
    w.wait(15.1)
    assert start.code == "SESSION_EXPIRED"
    w.returns()
    over(w)


LEAVES: dict[str, Callable[[World], object]] = {
    "client gone": lambda w: w.leave("bob"),
    "cancel": lambda w: w.cancel(w.history[-1]),
    "timeout": lambda w: w.wait(6.0),
}


@pytest.mark.parametrize("leave", LEAVES)
def test_a_start_that_nobody_waits_for_leaves_the_line(leave: str) -> None:
    w = world()
    first = opened(w)
    w.call(first)
    start = w.call("new", app=GEMMA, by="bob", timeout_seconds=5.0)
    LEAVES[leave](w)
    assert w.state(start.session) == "ended" and not w.broker._book.gpus.line
    w.returns(worker=1)
    assert w.state(first) == "idle" and not w.ordered(gpus.Park)
    over(w)


@pytest.mark.parametrize("leave", LEAVES)
def test_a_parked_session_rests_on_when_the_call_that_waited_for_it_is_gone(leave: str) -> None:
    w = world()
    first = opened(w)
    w.park(first)
    w.call(opened(w, GEMMA))
    call = w.call(first, by="bob", timeout_seconds=5.0)
    LEAVES[leave](w)
    assert not call.open and not w.broker._book.gpus.line
    w.returns(worker=2)
    w.wait(1.0)
    assert w.state(first) == "parked"
    over(w)


@MOVING
@pytest.mark.parametrize("leave", LEAVES)
def test_a_move_goes_on_when_the_call_that_waited_is_gone(leave: str, phase: str) -> None:
    w, session, _ = in_phase(phase)
    w.call(session, by="bob", timeout_seconds=5.0)
    before = w.state(session)
    LEAVES[leave](w)
    assert w.state(session) == before
    w.holds = frozenset()
    w.oblige_cards()
    assert w.state(session) in ("idle", "parked")
    assert w.call(session, "").code == "ok"
    over(w)


@MOVING
@pytest.mark.parametrize("how", ["exits", "loses_link"])
def test_a_worker_that_dies_meanwhile_is_one_that_has_died(how: str, phase: str) -> None:
    w, session, _ = in_phase(phase)
    call = w.call(session)
    if how == "exits":
        w.exits(1, signal="SIGSEGV")
    else:
        w.loses_link(1)
    assert call.code == "SESSION_DIED" and w.state(session) == "died"
    assert ("SIGSEGV" if how == "exits" else "closed its link") in text_of(call)
    over(w)


def test_what_died_frees_its_place_and_what_it_had_in_host_memory() -> None:
    w = world(park_bytes=60)
    first = opened(w)
    w.park(first)
    w.exits(1, signal="SIGKILL")
    second = opened(w, GEMMA)
    assert isinstance(w.park(second), fx.Answer)
    assert w.broker._book.gpus.parked_bytes() == 60 - 1
    over(w)


def test_no_calls_are_sent_ahead_to_those_who_may_have_to_give_way() -> None:
    w = world(dispatch_ahead=4)
    first = opened(w)
    for _ in range(3):
        w.call(first)
    assert len(w.worker().given) == 1
    for _ in range(3):
        w.returns()
    over(w)


def test_nor_to_those_of_which_that_becomes_known() -> None:
    w = world(dispatch_ahead=2)
    w.asks = w.asks._replace(gpu=None)
    first = opened(w)
    for _ in range(6):
        w.call(first)
    assert len(w.worker().given) == 3
    w.takes_memory(w.worker().spawn.worker, {"card0": 60})  # type: ignore[dict-item]
    w.wait(1.1)
    for left in (2, 1, 1, 1, 1):
        w.returns()
        assert len(w.worker().given) == left
    w.returns()
    over(w)
