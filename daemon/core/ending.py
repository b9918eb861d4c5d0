"""Sessions end: by request, by dying, or with the daemon (`lifetimes`: by themselves)."""

from __future__ import annotations

from typing import Literal

from warmd.daemon.core import ahead, ladder, starting, stopping, templates
from warmd.daemon.core import effects as fx
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import DrainArrived, EndArrived, WorkerExited
from warmd.daemon.core.exits import described
from warmd.daemon.core.session import NOT_STARTED, UP, EndRequest, Phase, Session, Verdict, Withdrawal
from warmd.protocol.messages import SessionId

STOPPING_TEXT = "the daemon was stopped"


def end_arrived(book: Book, event: EndArrived) -> None:
    """Answered when all that is to end has ended; at once for what had ended before."""
    if event.request in book.ends:
        return
    if event.session is not None:
        live = book.sessions.get(event.session)
        named_by_users = live.pool is None if live else event.session in book.dead
        if not named_by_users:
            book.refuse(event.client, event.request, None, book.unknown(event.session))
            return
        sessions = [live] if live else []
        named: tuple[SessionId, ...] = (event.session,)
    else:
        sessions = [s for s in book.sessions.values() if event.app in (None, s.app.name)]
        named = tuple(s.id for s in sessions if s.pool is None)
    # A tree that cannot be killed has been waited for already, in vain.
    sessions = [session for session in sessions if not session.tree_gone]
    waiting_for = {session.id for session in sessions}
    request = EndRequest(event.client, event.request, named, event.session is None, waiting_for)
    if not sessions:
        book.emit(fx.Answer(event.client, event.request, named, request.many))
        return
    book.ends[event.request] = request
    for session in sessions:
        session.ends.append(request)
        end(book, session, Verdict("ended", "it was ended on request"), event.running)


def end(book: Book, session: Session, verdict: Verdict, running: Literal["cancel", "finish"]) -> None:
    """Waiting calls are cancelled; the running one too, or awaited; then the worker finishes.

    Those that wait for a session that expires are told that instead.
    """
    expires = verdict.state == "expired"
    code: Literal["SESSION_EXPIRED", "CANCELLED"] = "SESSION_EXPIRED" if expires else "CANCELLED"
    text = f"session {session.id} {'has expired' if expires else 'is ending'}: {verdict.reason}"
    if session.phase is not Phase.STOPPING:
        starting_up = session.phase in NOT_STARTED
        stopping.begin(book, session, verdict)
        if session.pool is None:
            book.fail_queue(session.queue, code, text, reason=verdict.reason)
        for job in session.ahead:
            ahead.withdraw(book, job, Withdrawal(code, text, text))
        if starting_up:
            stopping.kill(book, session)
        elif session.running is None:
            stopping.finish(book, session)
    if session.running is not None and running == "cancel":
        ladder.climb(book, session.running, "CANCELLED", text)


def link_lost(book: Book, session: Session, message: str) -> None:
    """The exit that follows says more than the lost link, so the running call is told then.

    A worker that was told to finish closes its link by exiting: that is in order.
    """
    if session.lost_link is not None or session.exited or session.finish_told:
        return
    session.lost_link = message
    if session.phase in UP:
        stopping.begin(book, session, Verdict("died", f"its worker {message}"))
        stopping.fail_waiting(book, session, f"its worker {message}")
    stopping.kill(book, session)


def worker_exited(book: Book, session: Session, event: WorkerExited) -> None:
    """The one exit of a process: expected, in its start, or with work on its hands."""
    session.exited = True
    how, details = described(event, session.lost_link)
    verdict = session.verdict
    why = verdict.reason if verdict is not None and verdict.state == "died" else how
    if session.running is not None and event.entered is not None:
        stopping.put_back_unentered(session, session.running, event.entered)
    if session.phase is Phase.STARTING:
        starting.fail(book, session, "START_FAILED", how, **details)
    elif session.phase is not Phase.STOPPING or session.running is not None:
        stopping.die(book, session, how, **details)
    stopping.fail_ahead(book, session, why, event.entered, **details)
    if session.lost_link is not None:
        session.verdict = Verdict("died", how)
    stopping.kill(book, session)
    stopping.bury_if_over(book, session)


def tree_gone(book: Book, session: Session, stuck: tuple[int, ...]) -> None:
    session.tree_gone, session.stuck = True, stuck
    if stuck:
        reason = f"its worker cannot be killed (stuck in the kernel: pids {', '.join(map(str, stuck))})"
        before = session.verdict
        stopping.die(book, session, reason)
        stopping.fail_ahead(book, session, reason, None)
        session.verdict = Verdict("died", f"{before.reason}, but {reason}" if before else reason)
    stopping.bury_if_over(book, session)
    book.settle_ends(session)


def drain_arrived(book: Book, event: DrainArrived) -> None:
    """What waits is cancelled; what runs may finish until the drain's own deadline."""
    book.draining = True
    for pool in list(book.pools.values()):
        book.fail_queue(pool.queue, "CANCELLED", STOPPING_TEXT)
    for session in list(book.sessions.values()):
        end(book, session, Verdict("ended", STOPPING_TEXT), "finish")
    templates.retire_all(book)
    if event.drain_seconds > 0:
        at, before = book.now + event.drain_seconds, book.deadlines.time_of(("drain", None))
        book.deadlines.set(("drain", None), at if before is None else min(at, before))
    else:
        _stop_now(book)


def drain_over(book: Book) -> None:
    for session in list(book.sessions.values()):
        if session.running is not None:
            ladder.climb(book, session.running, "CANCELLED", STOPPING_TEXT, hurry=True)


def _stop_now(book: Book) -> None:
    book.deadlines.drop(("drain", None))
    for session in list(book.sessions.values()):
        stopping.die(book, session, STOPPING_TEXT, "CANCELLED")
