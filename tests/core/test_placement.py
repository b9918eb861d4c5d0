"""Who is parked to make room: those of the least value, no more of them than needed, and where."""

from __future__ import annotations

import pytest

from tests.core.test_gpus import GEMMA, LLAMA, QWEN, opened, starts, world
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.events import GpuId
from warmd.daemon.core.placement import Kind, offer
from warmd.protocol import gpus
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import AppRef, SessionId
from warmd.protocol.work import Asks, WorkerId


def residents(world: World, *sizes: int) -> list[SessionId]:
    """Idle sessions of these sizes; the first has been idle for the longest time."""
    made = []
    for number, size in enumerate(sizes):
        made.append(opened(world, AppRef(f"app{number}"), bytes=size))
        world.wait(1.0)
    return made


def parked(world: World, sessions: list[SessionId]) -> list[int]:
    """Which of them."""
    return [at for at, session in enumerate(sessions) if world.state(session) == "parked"]


@pytest.mark.parametrize(
    ("sizes", "needed", "gone"),
    [
        ((30, 30, 30), 30, [0]),
        ((30, 30, 30), 60, [0, 1]),
        ((10, 60, 30), 60, [1]),  # with the second the first is not needed
        ((10, 30, 60), 50, [2]),
        ((20, 20, 20, 40), 40, [0, 1]),
    ],
)
def test_those_of_the_least_value_go_and_nobody_whose_bytes_are_not_needed(
    sizes: tuple[int, ...], needed: int, gone: list[int]
) -> None:
    w = world()
    sessions = residents(w, *sizes)
    assert starts(w, bytes=needed - len(gone)).code == "ok", "less what their contexts keep"
    assert parked(w, sessions) == gone


def test_who_takes_long_to_come_back_is_worth_more() -> None:
    w = world()
    slow, quick = residents(w, 40, 40)
    w.holds = frozenset({gpus.Unpark})
    w.park(slow)
    w.unpark(slow)
    w.wait(20.0)
    w.oblige_cards()
    w.call(quick, "")
    w.wait(30.0)
    starts(w, bytes=40)
    assert parked(w, [slow, quick]) == [1]


def test_of_two_gpus_the_one_where_it_costs_less() -> None:
    w = world(cards=2)
    sessions = residents(w, 90, 90)
    w.call(sessions[0], "")
    w.wait(1.0)
    starts(w, bytes=80)
    assert parked(w, sessions) == [1]


def test_a_gpu_that_is_free_is_better_than_one_to_be_cleared() -> None:
    w = world(cards=2)
    sessions = residents(w, 90)
    starts(w, bytes=80)
    assert parked(w, sessions) == []


def test_it_comes_back_to_the_gpu_that_it_was_on() -> None:
    w = world(cards=2)
    first, second = residents(w, 90, 90)
    w.park(first)
    third = opened(w, QWEN, bytes=80)
    w.wait(1.0)
    w.park(second)
    w.wait(1.0)
    w.call(first, "")
    assert w.state(first) == "idle" and w.state(third) == "parked", "though the other GPU is free"


def test_who_has_a_gpu_to_itself_gets_what_others_cannot_give_up() -> None:
    w = world()
    (first,) = residents(w, 40)
    w.strangers["card0"] = 10
    w.wait(1.0)
    whole = opened(w, QWEN, whole=1)
    assert w.state(first) == "parked"
    assert w.broker.view(whole).gpu.reserved == {"card0": 100 - 10 - 1}


def test_but_waits_for_memory_of_the_dead_and_of_large_programs() -> None:
    w = world()
    (first,) = residents(w, 40)
    w.memory_lingers = True
    w.end(first)
    w.wait(1.0)
    start = starts(w, whole=1)
    w.wait(5.0)
    assert start.open
    w.lingers.clear()
    w.wait(0.2)
    assert start.code == "ok"


def test_two_whole_gpus_are_cleared_together() -> None:
    w = world(cards=2)
    sessions = residents(w, 60, 60)
    start = starts(w, whole=2)
    assert start.code == "ok" and parked(w, sessions) == [0, 1]
    w.wait(1.0)
    w.call(sessions[0], "")
    assert w.state(start.session) == "parked" and w.state(sessions[0]) == "idle"
    w.wait(1.0)
    w.call(start.session, "")
    assert w.state(start.session) == "idle" and w.state(sessions[0]) == "parked"


def test_of_three_gpus_it_takes_the_two_that_cost_less() -> None:
    w = world(cards=3)
    sessions = residents(w, 60, 60, 60)
    w.call(sessions[1])
    assert starts(w, whole=2).code == "ok"
    assert parked(w, sessions) == [0, 2]


def test_nobody_is_parked_for_two_gpus_where_one_cannot_be_cleared() -> None:
    w = world(cards=2)
    sessions = residents(w, 60)
    w.asks = Asks(gpu=GpuAsk(bytes=60), park=False)
    w.session(app=GEMMA)
    start = starts(w, whole=2)
    w.wait(5.0)
    assert start.open and parked(w, sessions) == []


def test_nor_before_those_are_who_run_on_the_other() -> None:
    w = world(cards=2)
    sessions = residents(w, 60, 60)
    w.call(sessions[1])
    w.call(sessions[1])
    start = starts(w, whole=2)
    assert parked(w, sessions) == []
    w.wait(1.0)
    assert parked(w, sessions) == [0]
    w.returns(worker=2)
    assert start.code == "ok"


def test_two_gpus_are_waited_for_by_one_at_a_time() -> None:
    w = world(cards=2)
    for session in residents(w, 60, 60):
        w.call(session)
    first = starts(w, QWEN, bytes=90)
    both, small = starts(w, whole=2), starts(w, GEMMA, bytes=10)
    assert both.open and small.open, "though there is room for that"
    for worker in (1, 2):
        w.returns(worker=worker)
    w.wait(0.5)
    assert first.answered_at <= both.answered_at <= small.answered_at < w.now


def test_the_session_itself_is_not_in_its_own_way() -> None:
    w = world()
    (first,) = residents(w, 90)
    w.park(first)
    session = w.broker._book.sessions[first]
    found = offer(w.broker._book, session)
    assert found is not None and found.kind is Kind.FITS


# What parked sessions take of host memory


def test_only_so_much_is_parked_at_one_time() -> None:
    w = world(park_bytes=100, gpu_wait_seconds=30.0)
    first, second = residents(w, 60, 60)
    assert w.state(first) == "parked"
    start = starts(w, bytes=60)
    assert start.open and w.state(second) == "idle"
    w.end(first)
    assert start.code == "ok" and w.state(second) == "parked"


def test_those_on_their_way_there_count() -> None:
    w = world(park_bytes=100, cards=2)
    sessions = residents(w, 60, 60)
    w.holds = frozenset({gpus.Park})
    starts(w, GEMMA, bytes=90)
    starts(w, QWEN, bytes=90)
    assert sorted(w.state(session) for session in sessions) == ["idle", "parking"]


def test_a_session_that_ends_after_its_call_is_not_waited_for_where_another_can_be_parked() -> None:
    w = world(bytes=50)
    first, second = residents(w, 50, 50)
    w.call(first)
    w.end(first, running="finish")
    assert starts(w, bytes=49).code == "ok" and w.state(second) == "parked"


# What ended processes had


def test_their_memory_is_not_given_away_before_a_look_that_was_ordered_after_their_end() -> None:
    w = world()
    first = opened(w)
    w.holds = frozenset({fx.Look})
    w.end(first)
    start = starts(w)
    (look,) = w.looks[-1:]
    assert start.open
    w.tell(w.seen_cards(look - 1))
    assert start.open, "that was ordered before"
    w.tell(w.seen_cards(look))
    assert start.code == "ok"


def test_and_what_the_driver_has_not_taken_back_by_then_is_waited_for() -> None:
    w = world()
    first = opened(w)
    w.memory_lingers = True
    w.end(first)
    start = starts(w)
    w.wait(1.0)
    assert start.open
    w.lingers.clear()
    w.wait(0.2)
    assert start.code == "ok"


def test_nobody_is_parked_for_what_is_coming_back_already() -> None:
    w = world()
    ending, idle = residents(w, 60, 40)
    w.wait(2.0)
    w.holds = frozenset({fx.Look})
    w.end(ending)
    start = starts(w, bytes=30)
    assert start.open and w.state(idle) == "idle"
    w.oblige_cards()
    assert start.code == "ok" and w.state(idle) == "idle"


def test_a_park_takes_host_memory_for_what_is_there_not_for_what_is_reserved() -> None:
    w = world(park_bytes=60)
    first = opened(w, LLAMA, whole=1)
    w.hosted[WorkerId(1)].bytes = {GpuId("card0"): 30}
    w.wait(1.5)
    opened(w, GEMMA, whole=1)
    gpu = w.broker.view(first).gpu
    assert w.state(first) == "parked" and gpu is not None and gpu.parked_bytes == 29
