"""`check` finds a book that contradicts itself; a checker that finds nothing would prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core.book import Book, IllegalMoveError
from warmd.daemon.core.policy import Limits
from warmd.daemon.core.record import Grave, Kept, Reader
from warmd.daemon.core.session import LEGAL_MOVES, Phase, Session
from warmd.protocol.messages import CallId
from warmd.protocol.work import WorkerId


def scene() -> World:
    """Sessions that are busy (with a waiting call), idle, starting and ending, and a busy pool."""
    world = World()
    busy = world.session(name="busy")
    world.call(busy)
    world.call(busy, by="bob")
    world.session(name="idle")
    world.call(None)
    detached = world.session(name="detached")
    ended, running = world.call(detached, "count", detach=True), world.call(detached, "count", detach=True)
    for _ in range(2):
        world.yields()
    world.returns(b"")
    world.yields()
    world.attach(ended, window=1)
    world.attach(running, window=5)
    world.attach(running, window=None)
    world.holds = frozenset(EVERYTHING)
    world.call("new", name="starting")
    world.found()
    ending = world.call("new")
    world.found()
    world.spawned()
    world.cancel(ending)
    world.end(ending.session)
    world.broker.check()
    return world


def book_of(world: World) -> Book:
    return world.broker._book


def in_phase(book: Book, phase: Phase) -> Session:
    return next(s for s in book.sessions.values() if s.phase is phase and s.pool is None)


def forget_a_call(book: Book) -> None:
    del book.jobs[in_phase(book, Phase.BUSY).running.id]


def run_a_waiting_call_twice(book: Book) -> None:
    session = in_phase(book, Phase.BUSY)
    session.queue.append(session.queue[0])


def run_a_strangers_call(book: Book) -> None:
    in_phase(book, Phase.BUSY).running.session = in_phase(book, Phase.IDLE)


def end_in_silence(book: Book) -> None:
    session = in_phase(book, Phase.IDLE)
    book.deadlines.drop(("idle", session.id))
    session.phase = Phase.STOPPING


def keep_the_name_of_the_stopping(book: Book) -> None:
    session = in_phase(book, Phase.STOPPING)
    session.name = "x"
    book.names["x"] = session


def lose_a_pool_worker(book: Book) -> None:
    pool = next(iter(book.pools.values()))
    del book.sessions[next(iter(pool.members))]


def kept_of(book: Book, *, done: bool) -> Kept:
    return next(kept for kept in book.keep.calls.values() if (kept.final is not None) == done)


def reader_of(book: Book, *, done: bool) -> Reader:
    return next(reader for reader in kept_of(book, done=done).readers if reader.credit is not None)


def wait_for_an_end_that_was(book: Book) -> None:
    reader_of(book, done=True).credit = None


BREAKAGES: dict[str, Callable[[Book], None]] = {
    "an idle session without its timer": lambda b: b.deadlines.drop(("idle", in_phase(b, Phase.IDLE).id)),
    "a start without its timer": lambda b: b.deadlines.drop(("start", in_phase(b, Phase.STARTING).id)),
    "a busy session that would expire": lambda b: b.deadlines.set(("idle", in_phase(b, Phase.BUSY).id), 1.0),
    "a call without its deadline": lambda b: b.deadlines.drop(("call", next(iter(b.jobs)))),
    "a deadline of no call": lambda b: b.deadlines.set(("call", CallId(b"x" * 16)), 1.0),
    "a ladder of no call": lambda b: b.deadlines.set(("ladder", CallId(b"x" * 16)), 1.0),
    "a timer of no session": lambda b: b.deadlines.set(("idle", "sess_gone"), 1.0),
    "a timer of an unknown kind": lambda b: b.deadlines.set(("tea", None), 1.0),
    "a drain's timer without a drain": lambda b: b.deadlines.set(("drain", None), 1.0),
    "a busy session that runs nothing": lambda b: setattr(in_phase(b, Phase.BUSY), "running", None),
    "an idle session with a waiting call": lambda b: in_phase(b, Phase.IDLE).queue.append(
        in_phase(b, Phase.BUSY).queue[0]
    ),
    "a call that is not listed": forget_a_call,
    "a call in two queue places": run_a_waiting_call_twice,
    "a call of another session": run_a_strangers_call,
    "a session that will never end": end_in_silence,
    "a name of a stopping session": keep_the_name_of_the_stopping,
    "a name of another session": lambda b: b.names.update(mine=in_phase(b, Phase.IDLE)),
    "a gone session that is listed": lambda b: setattr(in_phase(b, Phase.IDLE), "phase", Phase.GONE),
    "a worker of no session": lambda b: b.workers.update({WorkerId(99): in_phase(b, Phase.IDLE)}),
    "a pool with a worker that is gone": lose_a_pool_worker,
    "a client without its calls": lambda b: b.jobs_of.clear(),
    "an end that waits for nothing": lambda b: in_phase(b, Phase.STOPPING).ends.clear(),
    "more bytes than are counted": lambda b: setattr(b.keep, "bytes", b.keep.bytes - 1),
    "more bytes than are allowed": lambda b: setattr(b, "limits", Limits(detached_max_bytes=10)),
    "a detached call that is not kept": lambda b: b.jobs.pop(kept_of(b, done=False).id) and None,
    "an ended call that is not listed as such": lambda b: b.keep.ended.clear(),
    "an ended call without its timer": lambda b: b.deadlines.drop(("kept", kept_of(b, done=True).id)),
    "a timer of a call that has not ended": lambda b: b.deadlines.set(
        ("kept", kept_of(b, done=False).id), 1.0
    ),
    "a call that is kept and forgotten": lambda b: b.keep.graves.update(
        {kept_of(b, done=True).id: Grave(None, 0.0, "time")}
    ),
    "a call that writes into another's record": lambda b: setattr(
        b.jobs[kept_of(b, done=False).id], "kept", kept_of(b, done=True)
    ),
    "a part that is lost": lambda b: kept_of(b, done=True).parts.drop(1),
    "a reader that is not listed": lambda b: b.keep.readers.clear(),
    "a reader that its call does not know": lambda b: kept_of(b, done=True).readers.__setitem__(
        0, reader_of(b, done=False)
    ),
    "a reader with room that is not served": lambda b: setattr(reader_of(b, done=True), "credit", 1),
    "a reader of parts that are gone": lambda b: setattr(reader_of(b, done=True), "at", -1),
    "a reader at the end who was not told": lambda b: setattr(reader_of(b, done=True), "at", 2),
    "a waiting reader who was not told": wait_for_an_end_that_was,
    "effects left over": lambda b: b.effects.append(None),
}


@pytest.mark.parametrize("breakage", sorted(BREAKAGES))
def test_check_finds(breakage: str) -> None:
    world = scene()
    BREAKAGES[breakage](book_of(world))
    with pytest.raises(AssertionError) as found:
        world.broker.check()
    assert str(found.value), "it says what is wrong"


def test_check_changes_nothing() -> None:
    world = scene()

    def seen() -> object:
        broker = world.broker
        return broker.views(include_dead=True), broker.totals(), broker.deadline()

    before = seen()
    world.broker.check()
    assert seen() == before


@pytest.mark.parametrize("phase", list(Phase))
def test_a_session_changes_phase_only_along_the_table(phase: Phase) -> None:
    for target in set(Phase) - LEGAL_MOVES[phase]:
        world = World()
        world.session()
        (session,) = book_of(world).sessions.values()
        session.phase = phase
        with pytest.raises(IllegalMoveError, match=f"{phase.value} -> {target.value}"):
            book_of(world).move(session, target)


def test_every_phase_leads_to_the_grave() -> None:
    reached = {Phase.GONE}
    for _ in Phase:
        reached |= {phase for phase in Phase if LEGAL_MOVES[phase] & reached}
    assert reached == set(Phase)


def test_the_same_events_at_the_same_times_give_the_same_effects() -> None:
    assert scene().effects == scene().effects
