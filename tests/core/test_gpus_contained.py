"""GPU rules that fail cost the session that they dealt with; `check` finds what contradicts itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.test_gpus import GEMMA, LLAMA, QWEN, moved, opened, starts, world
from tests.core.test_parking import WORKER, in_phase
from tests.core.world import World, client
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import GpuId
from warmd.daemon.core.gpus import Tenancy
from warmd.daemon.core.invariants import check
from warmd.daemon.core.policy import MOVE_SECONDS
from warmd.daemon.core.session import Phase, Session
from warmd.protocol import gpus
from warmd.protocol.messages import Failure

WHEN = pytest.mark.parametrize("when", ["early", "late"])


def oblige(world: World) -> None:
    world.oblige()
    world.wait(120.0)
    world.assert_over()


@WHEN
def test_a_look_that_is_lost_on_the_daemon_is_followed_by_the_next(when: str) -> None:
    w, session, _ = in_phase("parking")
    moved(w, WORKER)
    w.sabotage = when  # type: ignore[assignment]
    w.tell(w.seen_cards(w.looks.pop()))
    w.holds = frozenset()
    w.wait(2.0)
    assert w.state(session) == "parked"
    oblige(w)


@pytest.mark.parametrize("waits", [False, True])
def test_the_timer_of_looks_goes_on(waits: bool) -> None:
    w = world()
    w.call(opened(w))
    start = starts(w) if waits else None
    w.sabotage = "early"
    w.wait_for_deadline()
    w.wait(1.0)
    looks = len(w.ordered(fx.Look))
    w.wait(2.0)
    assert len(w.ordered(fx.Look)) > looks
    w.returns(worker=1)
    assert start is None or start.code == "ok"
    oblige(w)


@WHEN
@pytest.mark.parametrize("phase", ["parking", "unparking"])
def test_word_of_a_move_that_fails_in_the_daemon_ends_the_session(phase: str, when: str) -> None:
    w, session, _ = in_phase(phase)
    call = w.call(session)
    w.sabotage = when  # type: ignore[assignment]
    moved(w, WORKER)
    assert call.code == "INTERNAL" and w.state(session) == "died"
    oblige(w)


@pytest.mark.parametrize("timer", ["move", "room"])
def test_so_does_a_timer_of_its_own(timer: str) -> None:
    if timer == "move":
        w, session, _ = in_phase("parking")
        w.wait(MOVE_SECONDS)
        w.sabotage = "early"
        w.wait(0.001)
    else:
        w = world(gpu_wait_seconds=0.05)
        w.call(opened(w))
        session = starts(w).session
        w.sabotage = "early"
        w.wait(0.06)
    assert w.state(session) == "died"
    w.oblige()
    if timer == "room":
        w.returns(worker=1)
    oblige(w)


@WHEN
@pytest.mark.parametrize("back", [False, True])
def test_a_request_is_answered_once_and_the_session_goes_on(back: bool, when: str) -> None:
    w, session, _ = in_phase("parked" if back else "idle")
    w.sabotage = when  # type: ignore[assignment]
    answer = w.unpark(session) if back else w.park(session)
    assert isinstance(answer, Failure) and answer.code == "INTERNAL"
    oblige(w)


@WHEN
def test_a_start_whose_placing_fails_is_told(when: str) -> None:
    w = world()
    w.call(opened(w))
    w.holds = frozenset({fx.LookUp})
    start = starts(w)
    w.sabotage = when  # type: ignore[assignment]
    w.found()
    assert start.code == "INTERNAL"
    w.holds = frozenset()
    w.returns(worker=1)
    oblige(w)


# What must always hold


def scene() -> World:
    """Sessions that are parked, with and without a call that waits, in a move, busy, and without a place."""
    w = world(cards=3, bytes=70)
    rests, waits = opened(w, LLAMA), opened(w, GEMMA)
    idle = opened(w, QWEN)
    w.wait(1.0)
    for session in (rests, waits):
        w.park(session)
    blocks = opened(w, LLAMA), opened(w, LLAMA)
    for session in blocks:
        w.call(session)
    w.call(idle)
    w.call(waits)
    starts(w)
    w.holds = frozenset({gpus.Park, gpus.Unpark})
    w.returns(worker=3)
    w.broker.check()
    return w


def one(book: Book, phase: Phase, *, waits: bool = False) -> Session:
    return next(s for s in book.sessions.values() if s.phase is phase and s.waits_for_room == waits)


def of(book: Book, phase: Phase, *, waits: bool = False) -> Tenancy:
    tenancy = one(book, phase, waits=waits).tenancy
    assert tenancy is not None
    return tenancy


def leave_half_the_line(book: Book) -> None:
    del book.gpus.line[one(book, Phase.PARKED, waits=True).id]


def work_without_its_memory(book: Book) -> None:
    session = one(book, Phase.BUSY)
    assert session.tenancy is not None
    session.tenancy.where = "parked"


def keep_a_tenant_that_is_gone(book: Book) -> None:
    session = one(book, Phase.PARKED)
    gone = Session(session.id, session.app, 0.0, 1.0, 1.0, session.opener, tenancy=session.tenancy)
    book.gpus.tenants[session.id] = gone


def forget_a_tenancy(book: Book) -> None:
    session = one(book, Phase.PLACING, waits=True)
    del book.gpus.line[session.id]
    session.tenancy = None


def wait_with_a_place(book: Book) -> None:
    session = one(book, Phase.BUSY)
    book.gpus.line[session.id] = session


BREAKAGES: dict[str, Callable[[Book], object]] = {
    "nobody has gone through it": lambda b: setattr(b.gpus, "stirred", True),
    "nobody will look at the GPUs again": lambda b: b.deadlines.drop(("gpus", None)),
    "waits for a place and has one": wait_with_a_place,
    "waits by half": leave_half_the_line,
    "without a tenancy": forget_a_tenancy,
    "a tenant is gone": keep_a_tenant_that_is_gone,
    "is a tenant by half": lambda b: b.gpus.tenants.pop(one(b, Phase.BUSY).id),
    "works without its memory": work_without_its_memory,
    "is not parked": lambda b: setattr(of(b, Phase.PARKED), "way", ""),
    "more than park_memory": lambda b: setattr(of(b, Phase.PARKED), "host_bytes", 2**50),
    "is in no move": lambda b: setattr(of(b, Phase.PARKING), "move", 0),
    "wants it parked": lambda b: of(b, Phase.PARKED).parks_for.append((client("ann"), b"x")),  # type: ignore[arg-type]
    "waits for no room": lambda b: b.deadlines.drop(("room", one(b, Phase.PLACING, waits=True).id)),
    "moves for ever": lambda b: b.deadlines.drop(("move", one(b, Phase.PARKING).id)),
    "has timers": lambda b: b.deadlines.drop(("idle", one(b, Phase.PARKED).id)),
    "a move timer outlived its session": lambda b: b.deadlines.set(("move", "sess_gone"), 1.0),
    "looked at together": lambda b: b.deadlines.set(("gpus", "card0"), 1.0),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_each_breakage_is_found(what: str) -> None:
    book = scene().broker._book
    BREAKAGES[what](book)
    with pytest.raises(AssertionError, match=what):
        check(book)


def test_a_parked_session_with_a_call_must_wait_for_its_return() -> None:
    book = scene().broker._book
    session, rests = one(book, Phase.PARKED, waits=True), one(book, Phase.PARKED)
    rests.queue.append(session.queue[0])
    with pytest.raises(AssertionError, match="does not come back"):
        check(book)


def test_a_stopped_daemon_looks_no_more() -> None:
    w = world()
    opened(w)
    assert w.broker.deadline() is not None
    w.drain()
    assert w.stopped and w.broker.deadline() is None


def test_a_look_that_comes_after_its_orderer_is_gone_is_harmless() -> None:
    w = world()
    session = opened(w)
    w.holds = frozenset({fx.Look})
    w.end(session)
    w.tell(ev.GpusSeen(w.looks.pop(), (ev.GpuSeen(GpuId("card0"), 0, "a card", 100, 60, {WORKER: 60}),)))
    assert starts(w, QWEN).open, "what is still there after its end is somebody's"
