"""The line for GPU memory: who waits for what, who goes first, and how a wait ends that is too long."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.test_gpus import GEMMA, GIB, LLAMA, QWEN, moved, opened, starts, text_of, world
from tests.core.test_placement import residents
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import YIELD_AFTER_SECONDS
from warmd.protocol import gpus
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import AppRef
from warmd.protocol.work import Asks


def parked(world: World) -> list[str]:
    """The sessions that are on host memory, or on their way there."""
    return [view.id for view in world.broker.views() if view.state in ("parked", "parking")]


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


def test_a_busy_session_is_not_parked_and_the_start_waits_for_its_call() -> None:
    w = world()
    first = opened(w)
    running = w.call(first)
    start = starts(w)
    assert start.accepted and w.state(start.session) == "placing"
    w.wait(5.0)
    assert start.open
    w.returns(worker=1)
    assert running.code == start.code == "ok" and w.state(first) == "parked"


def test_the_next_in_line_gets_what_comes_free_in_the_order_of_their_arrival() -> None:
    w = world()
    first = opened(w)
    w.call(first)
    second, third = starts(w, GEMMA), starts(w, QWEN)
    w.wait(0.5)
    w.returns(worker=1)
    assert (second.code, third.code) == ("ok", "")
    w.wait(0.2)
    assert third.code == "ok" and len(parked(w)) == 2


def test_a_small_one_does_not_overtake_on_a_gpu_that_is_waited_for() -> None:
    w = world()
    w.call(opened(w))
    large, small = starts(w, GEMMA), starts(w, QWEN, bytes=39)
    assert large.open and small.open, "though it would fit beside the first"
    w.wait(0.5)
    w.returns(worker=1)
    assert large.code == small.code == "ok"


def test_but_it_may_use_another_gpu() -> None:
    w = world(cards=2)
    for app in (LLAMA, GEMMA):
        w.call(opened(w, app))
    large, small = starts(w, QWEN), starts(w, AppRef("phi"), bytes=40)
    assert large.open and small.code == "ok"


def test_who_can_only_wait_for_an_end_does_not_hold_up_those_who_fit() -> None:
    w = world()
    w.asks = Asks(gpu=GpuAsk(bytes=60), park=False)
    forever = w.session(app=LLAMA)
    large, small = starts(w, GEMMA, bytes=50), starts(w, QWEN, bytes=40)
    assert large.open and small.code == "ok"
    w.wait(1.0)
    w.end(forever)
    assert large.code == "ok" and w.state(small.session) == "idle", "there is room for both now"


def test_unless_they_would_stay_in_its_way() -> None:
    w = world()
    w.asks = Asks(gpu=GpuAsk(bytes=60), park=False)
    forever = w.session(app=LLAMA)
    large = starts(w, GEMMA, bytes=70)
    w.asks = Asks(gpu=GpuAsk(bytes=40), park=False)
    stays = w.call("new", "", app=QWEN)
    assert large.open and stays.open, "or it would be one more that is never parked"
    w.end(forever)
    assert large.code == "ok" and stays.open
    w.wait(0.2)
    assert stays.code == "ok" and w.state(large.session) == "parked"


def test_a_wait_that_is_too_long_is_refused_with_what_is_in_the_way() -> None:
    w = world(size=80 * GIB, gpu_wait_seconds=30.0)
    w.asks = Asks(gpu=GpuAsk(bytes=50 * GIB), park=False)
    first = w.session(app=LLAMA)
    w.strangers["card0"] = 5 * GIB
    w.wait(2.0)
    start = starts(w, GEMMA, share=0.5)
    w.wait(29.9)
    assert start.open
    w.wait(0.2)
    assert start.code == "NO_ROOM"
    assert text_of(start) == (
        "app 'gemma' did not start: there was no room for 50% of a GPU within 30s (gpu_wait): GPU 0 "
        f"(a card, 80.0 GiB) has 25.0 GiB free beside {first} of app llama with 50.0 GiB (idle; not parked: "
        'its app says so (park = "never")), other programs with 5.0 GiB. '
        "End one of these, ask for less, or wait longer"
    )


def test_where_only_other_programs_are_in_the_way_that_is_said() -> None:
    w = world(bytes=60, gpu_wait_seconds=30.0)
    w.strangers["card0"] = 50
    start = starts(w)
    w.wait(30.1)
    assert start.code == "NO_ROOM"
    assert "End other programs that use the GPU (`nvidia-smi` shows them)" in text_of(start)


def test_where_host_memory_is_in_the_way_that_is_said() -> None:
    w = world(size=80 * GIB, park_bytes=100 * GIB, gpu_wait_seconds=30.0)
    first, second = residents(w, 60 * GIB, 60 * GIB)
    start = starts(w, bytes=60 * GIB)
    w.wait(30.1)
    assert (start.code, w.state(first), w.state(second)) == ("NO_ROOM", "parked", "idle")
    assert "(idle; not parked: that would be over park_memory, 100.0 GiB)" in text_of(start)
    assert "End one of these or a parked session, raise park_memory, ask for less" in text_of(start)


def test_the_calls_of_a_parked_session_are_refused_likewise_and_it_rests_on() -> None:
    w = world(size=80 * GIB, bytes=50 * GIB, gpu_wait_seconds=30.0)
    first = opened(w)
    w.park(first)
    w.call(opened(w, GEMMA))
    call, behind = w.call(first), w.call(first)
    w.wait(30.1)
    assert (call.code, call.final.ran) == ("NO_ROOM", "no")
    assert "no room for 50.0 GiB within 30s" in text_of(call) and "with 50.0 GiB (busy)" in text_of(call)
    assert behind.code == "NO_ROOM" and w.state(first) == "parked"
    w.returns(worker=2)
    w.wait(1.0)
    assert w.call(first, "").code == "ok"


def test_at_most_five_are_named() -> None:
    w = world(size=100 * GIB, bytes=12 * GIB, gpu_wait_seconds=3.0)
    w.asks = w.asks._replace(park=False)
    for number in range(7):
        w.session(app=AppRef(f"app{number}"))
    start = starts(w, bytes=50 * GIB)
    w.wait(3.1)
    assert text_of(start).count("of app app") == 5 and "2 more. End one" in text_of(start)


def test_nobody_is_named_where_nobody_is() -> None:
    w = world(cards=2, gpu_wait_seconds=3.0)
    w.asks = Asks(gpu=GpuAsk(bytes=60), park=False)
    w.session(app=LLAMA)
    start = starts(w, whole=2)
    w.wait(3.1)
    assert "no room for 2 GPUs" in text_of(start)
    assert "GPU 1 (a card, 0.0 GiB) has 0.0 GiB free beside nobody" in text_of(start)


def test_a_call_that_waits_no_longer_says_what_it_waited_for() -> None:
    w = world()
    w.call(opened(w))
    w.asks = Asks(gpu=GpuAsk(bytes=60))
    start = w.call("new", app=GEMMA, timeout_seconds=4.0)
    w.wait(4.1)
    assert start.code == "TIMEOUT"
    assert text_of(start) == "the call waited 4 s for GPU memory for its session, and never ran"
    assert w.state(start.session) == "ended", "and nobody waits for that start"


# Those who run give way after a while


def called_on_and_on(world: World, worker: int, session: str, seconds: float, each: float = 0.3) -> None:
    """Calls that take so long, one after another, with one that waits at any time."""
    until = world.now + seconds
    world.call(session)
    world.call(session)
    while world.now < until:
        world.wait(each)
        if world.worker(worker).running is not None:
            world.call(session)
            world.returns(worker=worker)


def test_who_has_waited_long_enough_is_let_in_though_others_call_without_a_pause() -> None:
    w = world()
    first = opened(w)
    start = starts(w)
    began = w.now
    called_on_and_on(w, 1, first, 5.0)
    assert start.code == "ok"
    assert YIELD_AFTER_SECONDS <= start.answered_at - began <= YIELD_AFTER_SECONDS + 0.3 + 0.01


def test_and_so_it_is_when_two_must_give_way_that_never_rest_together() -> None:
    w = world(bytes=40)
    busy = {1: opened(w), 2: opened(w, GEMMA)}
    for session in busy.values():
        for _ in range(3):
            w.call(session)
    start = starts(w, QWEN, whole=1)
    began = w.now
    for turn in range(20):
        w.wait(0.2)
        number = 1 + turn % 2
        if w.worker(number).running is not None:
            w.call(busy[number])
            w.returns(worker=number)
    assert start.code == "ok"
    assert start.answered_at - began <= YIELD_AFTER_SECONDS + 2 * 0.2 + 0.01


def test_nobody_gives_way_before_that() -> None:
    w = world()
    first = opened(w)
    w.call(first)
    w.call(first)
    start = starts(w)
    w.wait(YIELD_AFTER_SECONDS - 0.1)
    w.returns(worker=1)
    assert w.state(first) == "busy" and start.open
    w.wait(0.2)
    w.returns(worker=1)
    assert start.code == "ok"


def test_who_has_given_way_waits_at_the_end_of_the_line() -> None:
    w = world()
    first = opened(w)
    w.call(first)
    waits = w.call(first)
    starts(w, GEMMA)
    third = starts(w, QWEN)
    w.wait(YIELD_AFTER_SECONDS)
    w.returns(worker=1)
    assert w.state(first) == "parked" and waits.open and third.open
    w.wait(0.3)
    assert third.code == "ok" and waits.worker == 1, "each in its turn"
    assert w.state(first) == "busy"


def test_calls_go_on_where_nobody_needs_the_memory_any_more() -> None:
    w = world()
    first = opened(w)
    w.call(first)
    waits = w.call(first)
    start = starts(w)
    w.wait(YIELD_AFTER_SECONDS)
    w.cancel(start)
    w.returns(worker=1)
    assert waits.worker == 1 and not w.ordered(gpus.Park)


def test_one_that_has_just_come_back_stays_for_as_long_as_its_moves_took() -> None:
    w = world()
    first = opened(w)
    w.wait(1.0)
    second = opened(w, GEMMA)
    w.wait(1.0)
    w.holds = frozenset({gpus.Park, gpus.Unpark})
    w.call(first)
    w.wait(2.0)
    moved(w, 2)
    w.wait(0.5)
    moved(w, 1)
    assert w.broker.view(first).gpu.unpark_seconds == 0.5
    w.returns(worker=1)
    back = w.now
    w.call(second)
    w.wait(0.49)
    assert w.state(first) == "idle"
    w.wait(0.02)
    assert w.state(first) == "parking" and w.now - back > 0.5


def test_and_for_a_moment_where_moves_take_no_time() -> None:
    w = world()
    first = opened(w)
    start = starts(w)
    assert start.open and w.state(first) == "idle"
    w.wait(0.1)
    assert start.code == "ok"


# Looks


def test_waiting_for_other_programs_is_over_when_a_look_shows_them_gone() -> None:
    w = world()
    w.strangers["card0"] = 70
    start = starts(w)
    w.strangers["card0"] = 0
    w.wait(0.11)
    assert start.code == "ok"


def test_what_happens_meanwhile_puts_no_look_off() -> None:
    w = world(cards=2)
    w.strangers["card0"] = w.strangers["card1"] = 30
    w.wait(0.1)
    calls = opened(w)
    start = starts(w, bytes=90)
    assert start.open
    looks = len(w.ordered(fx.Look))
    for _ in range(50):
        w.call(calls)
        w.wait(0.02)
        w.returns(worker=1)
    assert len(w.ordered(fx.Look)) - looks >= 9, "ten in a second while somebody waits"


def test_one_look_at_a_time() -> None:
    w = world()
    w.call(opened(w))
    w.holds = frozenset({fx.Look})
    starts(w)
    w.wait(1.0)
    assert len(w.looks) == 1


def test_nobody_looks_while_there_is_nobody_and_the_first_to_come_does_not_trust_the_past() -> None:
    w = world()
    w.end(opened(w))
    w.wait(1.0)
    looks = len(w.ordered(fx.Look))
    w.wait(200.0)
    assert len(w.ordered(fx.Look)) == looks and w.broker.deadline() is None
    w.strangers["card0"] = 50
    assert starts(w).open, "what was seen then is long past"


def test_a_driver_that_is_lost_is_looked_for_now_and_then() -> None:
    w = world()
    opened(w)
    cards, w.cards = w.cards, {}
    w.wait(2.0)
    looks = len(w.ordered(fx.Look))
    w.wait(50.0)
    assert len(w.ordered(fx.Look)) - looks == 10
    start: Any = starts(w)
    w.cards = cards
    w.wait(5.0)
    assert start.code == "ok"
