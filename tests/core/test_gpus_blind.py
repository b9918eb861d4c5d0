"""A driver that does not say who has how much, as in a container: who has a place is taken for full."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.test_gpus import GEMMA, LLAMA, QWEN, moved, opened, starts, world
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.events import GpuId
from warmd.daemon.core.views import SessionView
from warmd.protocol import gpus
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import SessionId
from warmd.protocol.work import Asks

CARD = GpuId("card0")


def blind(**more: Any) -> World:
    made = world(**more)
    made.blind = True
    made.tell(made.seen_cards(0))
    return made


def view(w: World, session: SessionId) -> SessionView:
    found = w.broker.view(session)
    assert found is not None and found.gpu is not None
    return found


def is_parked(w: World, session: SessionId) -> bool:
    return w.state(session) == "parked" and not view(w, session).gpu.never  # type: ignore[union-attr]


def test_two_in_turn() -> None:
    w = blind()
    first = opened(w, LLAMA)
    w.wait(2.0)
    second = opened(w, GEMMA)
    for session in (first, second, first):
        call = w.call(session)
        w.wait(2.0)
        assert call.worker is not None and w.state(session) == "busy"
        w.returns(worker=call.worker)
        w.wait(2.0)


@pytest.mark.parametrize("ask", [{"bytes": 80}, {"whole": 1}])
def test_who_has_taken_less_than_is_reserved_leaves_nothing_behind(ask: dict[str, Any]) -> None:
    w = blind(gpu_wait_seconds=20.0)
    session = opened(w, LLAMA, **ask)
    w.hosted[w.broker._book.sessions[session].worker].bytes[CARD] = 20
    w.wait(2.0)
    assert starts(w, GEMMA, bytes=60).code == "ok"
    assert is_parked(w, session)
    w.wait(2.0)
    assert starts(w, QWEN, whole=1).code == "ok", "a whole GPU is not what is left of one"


def test_who_comes_back_does_not_hide_other_programs() -> None:
    w = blind(gpu_wait_seconds=20.0)
    session = opened(w, LLAMA, bytes=60)
    w.wait(1.0)
    w.park(session)
    w.strangers[CARD] = 30
    w.wait(2.0)
    w.holds = frozenset({gpus.Unpark})
    w.call(session)
    assert w.state(session) == "unparking"
    assert starts(w, GEMMA, bytes=40).open, "60 of the one and 30 of the others are taken"


def test_nor_does_who_starts_on_a_gpu_of_its_own() -> None:
    w = blind(gpu_wait_seconds=20.0)
    w.strangers[CARD] = 8
    w.holds = frozenset({fx.Spawn})
    starts(w, LLAMA, whole=1)
    assert starts(w, GEMMA, bytes=8).open


def test_a_park_beside_a_start_is_seen_for_what_it_is() -> None:
    w = blind()
    session = opened(w, LLAMA, bytes=40)
    w.wait(2.0)
    w.holds = frozenset({fx.Spawn})
    starts(w, GEMMA, bytes=40)
    w.wait(1.0)
    w.holds = frozenset({fx.Spawn, gpus.Park})
    starts(w, QWEN, bytes=50)
    assert w.state(session) == "parking"
    w.holds = frozenset({gpus.Park})
    w.spawned()
    w.ready()
    moved(w, 1)
    assert is_parked(w, session)


def test_what_a_lost_look_has_not_shown_a_later_one_does() -> None:
    w = blind(gpu_wait_seconds=20.0)
    session = opened(w, LLAMA, bytes=60)
    w.wait(2.0)
    w.holds = frozenset({fx.Look})
    start = starts(w, GEMMA, bytes=60)
    w.tell(ev.GpusSeen(w.looks.pop(), (), "no answer"))
    assert w.state(session) == "parked" and start.open
    w.holds = frozenset()
    w.oblige_cards()
    w.wait(2.0)
    assert start.code == "ok"


def test_the_dead_count_once() -> None:
    w = blind()
    first, second, third = (opened(w, app, bytes=30) for app in (LLAMA, GEMMA, QWEN))
    w.wait(2.0)
    w.holds = frozenset({fx.Look})
    w.end(first)
    w.asks = Asks(gpu=GpuAsk(bytes=35))
    start = w.call("new", "", app=LLAMA)
    assert {w.state(session) for session in (second, third)} == {"idle"}, "10 are free, and 30 on their way"
    w.holds = frozenset()
    w.oblige_cards()
    assert start.code == "ok"


def test_a_spare_waits_for_what_is_on_its_way_back() -> None:
    w = blind()
    session = opened(w, LLAMA, bytes=60)
    w.wait(2.0)
    w.holds = frozenset({fx.Look})
    w.end(session)
    spare = w.call("new", "", app=GEMMA, spare=True)
    assert spare.open
    w.holds = frozenset()
    w.oblige_cards()
    assert spare.code == "ok"
