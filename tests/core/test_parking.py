"""Moves of GPU memory: each word and event in each phase, and each way in which a move can fail."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.core.test_gpus import GEMMA, GIB, LLAMA, QWEN, moved, opened, starts, text_of, world
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import MOVE_SECONDS, TRY_AGAIN_SECONDS
from warmd.protocol import gpus
from warmd.protocol.messages import SessionId
from warmd.protocol.work import WorkerId

WORKER = WorkerId(1)
WAYS = pytest.mark.parametrize("way", ["app", "driver"])
HELD = frozenset({gpus.Park, gpus.Unpark, fx.Checkpoint, fx.Restore, fx.Look})


def in_phase(phase: str, way: str = "app", **limits: float) -> tuple[World, SessionId, int]:
    """A world with one session that is in this phase, and the number of its last move."""
    w = world(way=way, **limits)
    session = opened(w)
    w.wait(1.0)
    if phase == "busy":
        w.call(session)
    if phase in ("parked", "unparking"):
        w.park(session)
    w.holds = HELD
    if phase == "parking":
        w.park(session)
    if phase == "unparking":
        w.unpark(session)
    assert w.state(session) == phase
    return w, session, w.broker._book.gpus.last_move


def fails(world: World, **how: bool) -> None:
    """The driver could not."""
    move = world.broker._book.gpus.last_move
    world.hosted[WORKER].moving = ""
    world.tell(ev.MoveFailed(WORKER, move, "CUDA_ERROR_X", **how))


def keeps(world: World) -> None:
    world.hosted[WORKER].moving = ""
    world.says(gpus.KeepsMemory(world.broker._book.gpus.last_move, "its weights are shared"), WORKER)


def test_a_park_by_its_own_hooks_is_over_when_a_look_shows_it() -> None:
    w, session, move = in_phase("parking")
    assert [tell.message for tell in w.ordered(fx.Tell)] == [gpus.Park(move)]
    moved(w, WORKER)
    assert w.state(session) == "parking" and w.looks
    w.tell(w.seen_cards(w.looks[-1] - 1))
    assert w.state(session) == "parking", "that look was ordered before"
    w.tell(w.seen_cards(w.looks.pop()))
    assert w.state(session) == "parked" and not w.ordered(fx.Checkpoint)


def test_a_park_by_the_driver_is_ordered_when_the_worker_has_stopped_to_use_it() -> None:
    w, session, move = in_phase("parking", "driver")
    assert not w.ordered(fx.Checkpoint)
    w.says(gpus.Checkpointable(move), WORKER)
    assert w.ordered(fx.Checkpoint) == [fx.Checkpoint(WORKER, move, pytest.approx(MOVE_SECONDS))]
    moved(w, WORKER)
    w.tell(w.seen_cards(w.looks.pop()))
    assert w.state(session) == "parked"


@WAYS
def test_it_comes_back_by_the_way_that_it_went(way: str) -> None:
    w, session, move = in_phase("unparking", way)
    told = [tell.message for tell in w.ordered(fx.Tell) if isinstance(tell.message, gpus.Unpark)]
    assert told == ([gpus.Unpark(move)] if way == "app" else [])
    assert [order.move for order in w.ordered(fx.Restore)] == ([move] if way == "driver" else [])
    moved(w, WORKER)
    assert w.state(session) == "idle"


def test_large_moves_may_take_longer() -> None:
    w = world(bytes=8 * GIB, size=80 * GIB, way="driver")
    session = opened(w)
    w.wait(1.0)
    w.holds = frozenset({fx.Checkpoint})
    w.park(session)
    (order,) = w.ordered(fx.Checkpoint)
    assert order.seconds == MOVE_SECONDS + 16.0


WORDS: dict[str, Callable[[int], ev.Event]] = {
    "offloaded": lambda move: ev.WorkerSaid(WORKER, gpus.Offloaded(move)),
    "checkpointable": lambda move: ev.WorkerSaid(WORKER, gpus.Checkpointable(move)),
    "keeps": lambda move: ev.WorkerSaid(WORKER, gpus.KeepsMemory(move, "why")),
    "park failed": lambda move: ev.WorkerSaid(WORKER, gpus.ParkFailed(move, "why")),
    "unparked": lambda move: ev.WorkerSaid(WORKER, gpus.Unparked(move)),
    "checkpointed": lambda move: ev.Checkpointed(WORKER, move),
    "restored": lambda move: ev.Restored(WORKER, move),
    "failed": lambda move: ev.MoveFailed(WORKER, move, "why", harmed=True),
}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("phase", ["idle", "busy", "parking", "parked", "unparking"])
def test_what_is_said_of_a_move_that_is_over_means_nothing(word: str, phase: str) -> None:
    w, session, move = in_phase(phase)
    for late in {move - 1, move} if phase in ("idle", "busy", "parked") else {move - 1}:
        assert w.tell(WORDS[word](late)) == []
    assert w.state(session) == phase


@pytest.mark.parametrize("word", WORDS)
def test_nor_what_is_said_of_a_session_that_has_no_gpu_memory(word: str) -> None:
    w = World()
    session = w.session()
    assert w.tell(WORDS[word](0)) == []
    assert w.state(session) == "idle"


@pytest.mark.parametrize(
    ("phase", "word"),
    [
        ("parking", "unparked"),
        ("parking", "restored"),
        ("unparking", "offloaded"),
        ("unparking", "checkpointable"),
        ("unparking", "checkpointed"),
    ],
)
def test_nor_does_a_word_of_the_other_direction(phase: str, word: str) -> None:
    w, session, move = in_phase(phase)
    w.tell(WORDS[word](move))
    assert w.state(session) == phase and not w.ordered(fx.Checkpoint)


@pytest.mark.parametrize("second", ["offloaded", "checkpointable", "keeps"])
def test_the_first_word_about_a_move_counts(second: str) -> None:
    w, session, move = in_phase("parking")
    moved(w, WORKER)
    looks = len(w.looks)
    w.tell(WORDS[second](move))
    assert w.state(session) == "parking" and len(w.looks) == looks and not w.ordered(fx.Checkpoint)


# A park that fails


def test_who_keeps_its_memory_works_on_and_is_not_asked_again() -> None:
    w, session, _ = in_phase("parking")
    waits = w.call(session)
    keeps(w)
    assert waits.worker == WORKER
    w.returns()
    w.holds = frozenset()
    start = starts(w)
    w.wait(5.0)
    assert start.open and w.state(session) == "idle"
    assert w.broker.view(session).gpu.never == "its weights are shared"
    assert w.park(session).message == f"session {session} is not parked: its weights are shared"


@pytest.mark.parametrize("lasting", [False, True])
def test_the_driver_may_fail_without_harm(lasting: bool) -> None:
    w, session, move = in_phase("parking", "driver")
    w.says(gpus.Checkpointable(move), WORKER)
    fails(w, lasting=lasting)
    assert w.state(session) == "idle"
    assert w.broker.view(session).gpu.never == ("CUDA_ERROR_X" if lasting else "")


def test_one_that_could_not_be_parked_is_left_in_peace_longer_each_time() -> None:
    w = world(way="driver")
    session = opened(w)
    w.wait(1.0)
    w.holds = frozenset({fx.Checkpoint})
    start = starts(w)
    for seconds in (0.2, 0.4, 0.8, 1.6, 3.2, TRY_AGAIN_SECONDS, TRY_AGAIN_SECONDS):
        assert w.state(session) == "parking"
        fails(w)
        assert w.state(session) == "idle" and not w.broker.view(session).gpu.never
        w.wait(seconds - 0.01)
        assert w.state(session) == "idle"
        w.wait(0.02)
    assert w.state(session) == "parking" and start.open


def test_a_park_that_goes_well_forgives_those_that_did_not() -> None:
    w = world(way="driver")
    session = opened(w)
    for _ in range(3):
        for _ in range(5):
            w.holds = frozenset({fx.Checkpoint})
            w.park(session)
            fails(w)
        w.holds = frozenset()
        w.park(session)
        w.call(session, "")
    assert w.state(session) == "idle" and not w.broker.view(session).gpu.never


def test_a_park_that_has_freed_too_little_was_the_last() -> None:
    w, session, move = in_phase("parking")
    w.tell(ev.WorkerSaid(WORKER, gpus.Offloaded(move)))  # it says so, and has moved nothing
    w.hosted[WORKER].moving = ""
    w.tell(w.seen_cards(w.looks.pop()))
    assert w.state(session) == "parked"
    assert w.broker.view(session).gpu.never == "its park has freed 0.0 GiB of 0.0 GiB only"
    w.hosted[WORKER].where = "host"  # else the simulated world objects to the unpark
    w.holds = frozenset()
    assert w.call(session, "").code == "ok"
    start = starts(w)
    w.wait(5.0)
    assert start.open


def test_what_was_freed_counts_and_no_more() -> None:
    w, session, move = in_phase("parking")
    w.hosted[WORKER].bytes["card0"] = 20  # of which it frees all but this
    w.tell(ev.WorkerSaid(WORKER, gpus.Offloaded(move)))
    w.hosted[WORKER].moving = ""
    w.tell(w.seen_cards(w.looks.pop()))
    view = w.broker.view(session).gpu
    assert (view.measured, view.parked_bytes, view.never) == ({"card0": 20}, 40, "")
    w.holds = frozenset({fx.Look})
    assert starts(w, bytes=81).open
    assert starts(w, QWEN, bytes=80).code == "ok"


def test_where_no_look_shows_it_nothing_counts_as_freed_until_one_does() -> None:
    w, session, _ = in_phase("parking")
    moved(w, WORKER)
    w.tell(ev.GpusSeen(w.looks.pop(), (), "the driver does not answer"))
    assert w.state(session) == "parked" and not w.broker.view(session).gpu.never
    start = starts(w, bytes=50)
    assert start.open
    w.oblige_cards()
    w.holds = frozenset()
    w.wait(10.0)
    assert start.code == "ok"


def test_and_a_card_that_is_gone_has_freed_all() -> None:
    w, session, _ = in_phase("parking", gpu_wait_seconds=30.0)
    moved(w, WORKER)
    other = ev.GpuSeen("card9", 0, "a card", 100, 0, {})  # type: ignore[arg-type]
    w.tell(ev.GpusSeen(w.looks.pop(), (other,)))
    assert w.state(session) == "parked"
    call = w.call(session)
    w.wait(31.0)
    assert call.code == "NO_ROOM" and "its GPU card0 is not to be seen. Look at `nvidia-smi`" in text_of(call)


DEATHS: dict[str, Callable[[World], object]] = {
    "a hook raises": lambda w: w.says(gpus.ParkFailed(w.broker._book.gpus.last_move, "CUDA_ERROR_X"), WORKER),
    "the driver does harm": lambda w: fails(w, harmed=True),
    "it takes too long": lambda w: w.wait(MOVE_SECONDS + 1),
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize(("phase", "how"), [("parking", "handed back"), ("unparking", "brought back")])
def test_a_move_that_goes_wrong_ends_the_session_and_says_why(death: str, phase: str, how: str) -> None:
    w, session, _ = in_phase(phase)
    waits = w.call(session)
    DEATHS[death](w)
    why = "it took longer than 30 s" if death == "it takes too long" else "CUDA_ERROR_X"
    reason = f"its GPU memory could not be {how}: {why}"
    assert waits.code == "SESSION_DIED" and reason in text_of(waits)
    assert w.broker.view(session).state == "died" and w.broker.view(session).reason == reason
    w.oblige()
    assert all(answer is not None for answer in w.requests.values())


# A return that fails


@WAYS
def test_one_that_is_short_of_memory_is_tried_again_after_a_while(way: str) -> None:
    w, session, _ = in_phase("unparking", way)
    w.holds = frozenset({gpus.Unpark, fx.Restore})
    call = w.call(session)
    tries = []
    for _ in range(9):
        assert w.state(session) == "unparking"
        tries.append(w.now)
        if way == "app":
            keeps(w)
        else:
            fails(w)
        assert w.state(session) == "parked"
        w.wait(0.01 + (TRY_AGAIN_SECONDS if len(tries) > 5 else 0.1 * 2 ** len(tries)))
    gaps = [after - before for before, after in pairwise(tries)]
    assert gaps == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0], abs=0.011)
    w.holds = frozenset()
    w.oblige_cards()
    assert call.worker == WORKER


def test_others_have_the_place_while_it_waits_for_its_next_try() -> None:
    w, session, _ = in_phase("unparking", "driver")
    w.holds = frozenset({fx.Restore})
    w.call(session)
    fails(w)
    assert starts(w).open, "not those behind it"
    w.wait(0.2)
    assert w.state(session) == "unparking"


def test_what_has_harmed_nothing_is_tried_again_until_gpu_wait_and_the_session_stays() -> None:
    w, session, _ = in_phase("unparking", "driver")
    w.holds = frozenset({fx.Restore})
    call = w.call(session)
    while call.open:
        if w.state(session) == "unparking":
            fails(w)
        w.wait(0.1)
    assert call.code == "NO_ROOM" and "could not be brought back within 5m (gpu_wait)" in text_of(call)
    assert "CUDA_ERROR_X" in text_of(call) and w.state(session) == "parked"
    w.holds = frozenset()
    w.wait(TRY_AGAIN_SECONDS)
    again = w.call(session)
    w.returns(worker=WORKER)
    assert again.code == "ok"


def test_what_would_fail_again_is_not_tried_again() -> None:
    w, session, _ = in_phase("unparking", "driver")
    fails(w, lasting=True)
    assert w.state(session) == "died"


def test_a_start_that_is_in_the_way_is_not_asked_to_move() -> None:
    w = world()
    w.holds = frozenset({fx.Spawn})
    start = starts(w, LLAMA)
    other = starts(w, GEMMA)
    w.wait(5.0)
    assert w.state(start.session) == "starting" and other.open
    w.oblige()
    w.wait(0.2)
    assert other.code == "ok" and w.state(start.session) == "parked"
