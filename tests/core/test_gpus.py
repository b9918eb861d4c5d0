"""GPU memory: who gets a place, who waits, who is parked and comes back, and what is said of that."""

from __future__ import annotations

import pytest

from tests.core.world import World
from warmd.daemon.core.policy import Limits
from warmd.protocol import gpus
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import AppRef, SessionId
from warmd.protocol.work import Asks

LLAMA, GEMMA = AppRef("llama"), AppRef("gemma")
GIB = 2**30


def world(bytes: int = 60, way: str = "app", **limits: float) -> World:
    """A machine with one GPU of 100 bytes, and apps that ask for so many of them."""
    made = World(Limits(session_timeout_seconds=1000.0, **limits))  # type: ignore[arg-type]
    made.asks = Asks(gpu=GpuAsk(bytes=bytes))
    made.way = way  # type: ignore[assignment]
    made.insert_cards(one=100)
    return made


def opened(world: World, app: AppRef = LLAMA) -> SessionId:
    return world.session(app=app)


@pytest.mark.parametrize("way", ["app", "driver"])
def test_an_idle_session_makes_room_for_a_new_one_and_comes_back_when_it_is_called(way: str) -> None:
    w = world(way=way)
    first = opened(w)
    w.wait(1.0)
    second = opened(w, GEMMA)
    assert (w.state(first), w.state(second)) == ("parked", "idle")
    w.wait(1.0)
    call = w.call(first)
    assert (w.state(first), w.state(second)) == ("busy", "parked")
    w.returns(worker=1)
    assert call.code == "ok"


def test_two_that_fit_are_both_there() -> None:
    w = world(bytes=50)
    assert [w.state(session) for session in (opened(w), opened(w, GEMMA))] == ["idle", "idle"]
    assert not w.ordered(gpus.Park)


def test_a_busy_session_is_not_parked_and_the_start_waits_for_its_call() -> None:
    w = world()
    first = opened(w)
    running = w.call(first)
    start = w.call("new", "", app=GEMMA)
    assert start.accepted and w.state(start.session or "") == "placing"
    w.wait(5.0)
    assert start.open
    w.returns(worker=1)
    assert running.code == start.code == "ok" and w.state(first) == "parked"
