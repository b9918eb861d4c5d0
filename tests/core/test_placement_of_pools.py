"""Workers of the pool and spares on GPUs: nobody was promised that they stay."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.test_gpus import GEMMA, LLAMA, QWEN, opened, starts, text_of, world
from tests.core.test_placement import parked, residents
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.protocol import gpus
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.work import Asks


def never(world: World, kind: str) -> str:
    """A pool worker or spare of an app that is never parked."""
    world.asks = Asks(gpu=GpuAsk(bytes=60), park=False)
    if kind == "pool":
        world.call(None)
        world.returns()
    else:
        world.call("new", "", spare=True)
    world.wait(1.0)
    (view,) = world.broker.views()
    assert view.kind == kind
    return view.id


@pytest.mark.parametrize("kind", ["pool", "spare"])
def test_those_that_cannot_be_parked_are_ended(kind: str) -> None:
    w = world()
    resident = never(w, kind)
    start = starts(w, bytes=60)
    assert start.code == "ok"
    assert resident not in [view.id for view in w.broker.views()]
    told = [(gone.state, gone.reason) for gone in w.broker.gone()]  # workers of the pool are not remembered
    assert told == [("ended", "its GPU memory was needed, and nobody used it")] * (kind == "spare")
    assert not w.ordered(gpus.Park)


def test_a_worker_of_the_pool_is_parked_and_brought_back_for_the_next_call() -> None:
    w = world()
    w.call(None)
    w.returns()
    w.wait(1.0)
    other = opened(w, GEMMA)
    assert [view.state for view in w.broker.views()] == ["parked", "idle"]
    w.wait(1.0)
    call = w.call(None)
    w.returns(worker=1)
    assert call.code == "ok" and w.state(other) == "parked"


def test_what_waits_for_a_worker_that_gives_way_comes_back_with_it() -> None:
    w = world(max_pool_workers=1)
    w.call(None)
    waits = w.call(None)
    start = starts(w, QWEN)
    w.wait(1.0)
    w.returns(worker=1)
    assert start.code == "ok" and waits.open
    w.wait(0.2)
    assert waits.worker == 1
    w.returns(worker=1)
    assert waits.code == "ok"


def test_a_worker_that_would_come_too_late_starts_for_nobody() -> None:
    w = world()
    w.call(None)
    second = w.call(None)
    assert [view.state for view in w.broker.views()] == ["busy", "placing"]
    w.returns(worker=1)
    w.returns(worker=1)
    assert second.code == "ok"
    assert [view.state for view in w.broker.views()] == ["idle"]
    assert not w.ordered(gpus.Park)


def test_nor_comes_one_back_for_calls_that_others_have_taken() -> None:
    w = world(bytes=50)
    w.call(None)
    w.call(None)
    w.returns(worker=1)
    w.returns(worker=2)
    w.wait(1.0)
    opened(w, GEMMA, bytes=49)
    running = w.call(None)
    second = w.call(None)
    states = sorted(view.state for view in w.broker.views() if view.kind == "pool")
    assert states == ["busy", "parked"]
    w.returns(worker=running.worker)
    w.returns(worker=running.worker)
    assert second.code == "ok"
    assert sorted(view.state for view in w.broker.views() if view.kind == "pool") == ["idle", "parked"]


def test_calls_of_the_pool_are_refused_when_its_worker_finds_no_room() -> None:
    w = world(gpu_wait_seconds=30.0, max_pool_workers=1)
    w.call(None)
    w.returns()
    w.wait(1.0)
    w.call(opened(w, GEMMA))
    call = w.call(None)
    w.wait(30.1)
    assert call.code == "NO_ROOM" and "no room for 0.0 GiB within 30s" in text_of(call)
    assert w.broker.views()[0].state == "parked"


def test_but_wait_on_where_another_worker_serves_them() -> None:
    w = world(bytes=50, gpu_wait_seconds=30.0)
    w.call(None)
    w.call(None)
    w.returns(worker=1)
    w.returns(worker=2)
    w.wait(1.0)
    w.call(opened(w, GEMMA, bytes=49))
    running, second = w.call(None), w.call(None)
    w.wait(30.2)
    assert running.open and second.open
    w.returns(worker=running.worker)
    w.returns(worker=running.worker)
    assert running.code == second.code == "ok"


def test_a_start_of_the_pool_that_finds_no_room_is_told_to_all_who_wait_for_it() -> None:
    w = world(gpu_wait_seconds=30.0)
    w.call(opened(w, GEMMA))
    calls = [w.call(None), w.call(None)]
    w.wait(30.2)
    assert [call.code for call in calls] == ["NO_ROOM", "NO_ROOM"]
    assert len(w.broker.views()) == 1


# Spares


def spare(world: World, **ask: Any) -> Any:
    world.asks = Asks(gpu=GpuAsk(**ask))
    return world.call("new", "", app=QWEN, spare=True)


def test_a_spare_parks_nobody() -> None:
    w = world()
    sessions = residents(w, 60)
    refused = spare(w, bytes=50)
    assert refused.code == "NO_ROOM" and "a spare parks nobody, and GPU 0" in text_of(refused)
    assert parked(w, sessions) == []
    assert spare(w, bytes=40).code == "ok"


def test_it_waits_for_what_is_on_its_way_back() -> None:
    w = world()
    (session,) = residents(w, 60)
    w.holds = frozenset({fx.Look})
    w.end(session)
    waits = spare(w, bytes=60)
    assert waits.open and w.state(waits.session) == "placing"
    w.oblige_cards()
    assert waits.code == "ok"


@pytest.mark.parametrize("beside", [False, True])
def test_while_spares_wait_they_are_in_nobodys_way(beside: bool) -> None:
    """Neither in that of a session, nor in each other's."""
    w = world()
    (session,) = residents(w, 60)
    w.holds = frozenset({fx.Look})
    w.end(session)
    spares = [spare(w, bytes=50), spare(w, bytes=50)]
    if beside:
        assert starts(w, bytes=30).code == "ok", "40 are free"
    w.oblige_cards()
    assert [one.code for one in spares] == ["ok", "NO_ROOM" if beside else "ok"]


def test_nor_does_it_wait_for_a_gpu_that_others_wait_for() -> None:
    w = world()
    w.call(opened(w, LLAMA))
    starts(w, GEMMA)
    assert spare(w, bytes=10).code == "NO_ROOM"


def test_a_spare_is_parked_like_any_other_and_taken_if_there_is_none_that_is_not() -> None:
    w = world()
    made = spare(w, bytes=60)
    w.wait(1.0)
    opened(w, LLAMA)
    assert w.state(made.session) == "parked"
    w.wait(1.0)
    taken = w.call("new", "", app=QWEN)
    assert (taken.session, taken.code) == (made.session, "ok")
    assert w.state(made.session) == "idle"


def test_what_is_ended_takes_none() -> None:
    w = world(park_bytes=0)
    never(w, "spare")
    assert starts(w, bytes=60).code == "ok"
