"""How a running call is stopped, step by step, so that its session survives where it can.

    STACK      where the call is, for the error's text                 at most 0.15 s
    GRACE      `context.cancelled` is set and `on_cancel` is told;
               the call may end by itself                              see below
    INTERRUPT  `Interrupted` is raised in it, every 0.1 s              at most 1 s
    (kill)     the worker and its tree; the session has died

The grace is `cancel_grace_seconds` for an app that has an `on_cancel`, else nothing; for a call at
its deadline it is at most 0.3 s, so that the whole ladder takes less than 1.5 s.  The call ends as
CANCELLED or TIMEOUT whatever step it ends at, even when its function returns in the meantime.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from warmd.daemon.core import effects as fx
from warmd.daemon.core import policy, readers, stopping
from warmd.daemon.core.ahead import worker_of
from warmd.daemon.core.book import Book
from warmd.daemon.core.session import Job, Ladder, LadderStep, Session
from warmd.protocol.work import Ordinal

Cause = Literal["CANCELLED", "TIMEOUT"]
LIBRARIES = ("/lib/python", "/site-packages/", "<frozen ")
"""Parts of paths that are not the app's own."""
_STOPPED_BECAUSE: Mapping[Cause, str] = {"CANCELLED": "was cancelled", "TIMEOUT": "ran past its deadline"}


def climb(book: Book, job: Job, cause: Cause, why: str, *, hurry: bool = False) -> None:
    """Begin to stop `job`, which runs; one that is being stopped already is only hurried."""
    session = _session_of(job)
    if job.ladder is not None:
        if hurry:
            _hurry(book, job, job.ladder)
        return
    job.ladder = Ladder(cause, why, hurry)
    readers.settle(book, session)
    book.emit(fx.CaptureStack(worker_of(session), job.ordinal))
    book.deadlines.set(("ladder", job.id), book.now + policy.STACK_SECONDS)


def stack_captured(book: Book, session: Session, ordinal: Ordinal, stack: str) -> None:
    job = session.running
    if job is None or job.ladder is None or job.ordinal != ordinal:
        return
    job.ladder.stack = stack
    if job.ladder.step is LadderStep.STACK:
        _ask(book, job, job.ladder)


def step_due(book: Book, job: Job) -> None:
    """The time of the present step is over."""
    ladder = job.ladder
    assert ladder is not None, "a ladder's timer outlived it"
    if ladder.step is LadderStep.STACK:
        _ask(book, job, ladder)
    elif ladder.step is LadderStep.GRACE:
        _interrupt(book, job, ladder)
    elif book.now < ladder.kill_at:
        _interrupt_again(book, job, ladder)
    else:
        _kill(book, job, ladder)


def end_of(ladder: Ladder, more: str = "") -> tuple[str, str, dict[str, object]]:
    """Code, message and details of the error that a stopped call ends with."""
    where = place_of(ladder.stack)
    message = ladder.why + (f"; it was at {where}" if where else "") + more
    return ladder.cause, message, {"stack": ladder.stack} if ladder.stack else {}


def place_of(stack: str) -> str:
    """The innermost line of the app's own; what it waits in, if that is another, in brackets."""
    lines = [line.strip() for line in stack.splitlines() if line.strip()]
    own = next((line for line in lines if not any(mark in line for mark in LIBRARIES)), None)
    if own is None or own == lines[0]:
        return lines[0] if lines else ""
    return f"{own} (in {lines[0]})"


def _ask(book: Book, job: Job, ladder: Ladder) -> None:
    session = _session_of(job)
    book.emit(fx.RequestCancel(worker_of(session), job.ordinal, signal=session.on_cancel))
    grace = book.limits.cancel_grace_seconds if session.on_cancel else 0.0
    if ladder.hurry:
        grace = min(grace, policy.GRACE_AT_DEADLINE_SECONDS)
    if grace > 0:
        ladder.step = LadderStep.GRACE
        book.deadlines.set(("ladder", job.id), book.now + grace)
    else:
        _interrupt(book, job, ladder)


def _interrupt(book: Book, job: Job, ladder: Ladder) -> None:
    ladder.step = LadderStep.INTERRUPT
    ladder.kill_at = book.now + policy.INTERRUPT_FOR_SECONDS
    _interrupt_again(book, job, ladder)


def _interrupt_again(book: Book, job: Job, ladder: Ladder) -> None:
    """The last one before the kill gets the whole rest of the time; the kill is never late."""
    book.emit(fx.Interrupt(worker_of(_session_of(job)), job.ordinal))
    again = book.now + policy.INTERRUPT_EVERY_SECONDS
    last = ladder.kill_at - again < policy.INTERRUPT_EVERY_SECONDS / 2
    book.deadlines.set(("ladder", job.id), ladder.kill_at if last else again)


def _kill(book: Book, job: Job, ladder: Ladder) -> None:
    session = _session_of(job)
    code, message, details = end_of(
        ladder, f"; it could not be interrupted, so session {session.id} was ended with its process"
    )
    where = place_of(ladder.stack)
    reason = (
        f"a call to {job.function!r} {_STOPPED_BECAUSE[ladder.cause]} and could not be interrupted"
        + (f" at {where}" if where else "")
        + ", so its process was killed"
    )
    stopping.die(book, session, reason, code, message, **details)


def _hurry(book: Book, job: Job, ladder: Ladder) -> None:
    ladder.hurry = True
    soonest = book.now + policy.GRACE_AT_DEADLINE_SECONDS
    due = book.deadlines.time_of(("ladder", job.id))
    if ladder.step is LadderStep.GRACE and (due is None or due > soonest):
        book.deadlines.set(("ladder", job.id), soonest)


def _session_of(job: Job) -> Session:
    assert job.session is not None, "only a running call can be stopped in steps"
    return job.session
