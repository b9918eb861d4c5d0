"""One call after another: how a ready worker gets its next call and what becomes of its words.

This is the path of every warm call, and the shortest in the book: an arriving call is dispatched
at once when its session is idle.  When one ends, the next is dispatched before the end is told:
the worker works while the answer is on its way.
"""

from __future__ import annotations

from difflib import get_close_matches

from warmd.daemon.core import ahead, detached, ladder, readers, stopping
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import YieldedMany
from warmd.daemon.core.record import PACKED_NONE
from warmd.daemon.core.session import Job, Phase, Session, Withdrawal
from warmd.protocol import work
from warmd.protocol.messages import Part, Parts, Result, Timing
from warmd.protocol.parcels import Value
from warmd.protocol.work import Ordinal

MAX_TYPE_CHARACTERS = 512
MAX_RAISED_BYTES = 62 * 1024
MAX_LISTED_FUNCTIONS = 50
"""An error fits into one header, whatever the app is like."""


def serve_next(book: Book, session: Session) -> None:
    """Give the worker, which runs nothing, its next call; idle it, or finish it, without one."""
    if session.paused:
        readers.settle(book, session)
    if session.ahead:
        _promote(book, session)
        return
    if session.phase is Phase.STOPPING:
        stopping.finish(book, session)
        return
    queue = session.queue
    if queue and session.tenancy is not None and session.tenancy.yields:
        book.become_idle(session)  # parked, or served, before this event is over (`rooms`)
        return
    while queue:
        job = queue.popleft()
        job.session = session
        job.cold = job.arrived < session.ready_at and (session.pool is None or not session.calls)
        if job.function in session.functions or (session.reloads and job.function):
            _dispatch(book, session, job)
            return
        if job.function:
            _refuse_unknown_function(book, session, job)
        else:
            _answer(book, session, job, 0.0, 0, PACKED_NONE)
    book.become_idle(session)


def _dispatch(book: Book, session: Session, job: Job) -> None:
    if session.phase is Phase.IDLE:
        book.deadlines.drop(("idle", session.id))
        book.move(session, Phase.BUSY)
    elif session.phase is not Phase.BUSY:  # it has just started, or come back
        book.move(session, Phase.IDLE)
        book.move(session, Phase.BUSY)
    ahead.invoke(book, session, job)
    _now_running(book, session, job)


def _promote(book: Book, session: Session) -> None:
    """The first of the calls that were sent ahead is the one that the worker has turned to."""
    job = session.ahead.popleft()
    job.cold = job.arrived < session.ready_at
    _now_running(book, session, job)
    if job.withdrawal is not None and job.entered:
        _stop_entered(book, job, job.withdrawal)


def _now_running(book: Book, session: Session, job: Job) -> None:
    session.running = job
    session.calls += 1
    session.last_call = job.dispatched = book.now
    if book.behind:
        readers.settle(book, session)
    ahead.refill(book, session)


def withdrawal_settled(book: Book, session: Session, ordinal: Ordinal, entered: bool) -> None:
    """The control page has told which was first, the withdrawal or the worker."""
    job = ahead.find_withdrawn(session, ordinal)
    if job is None or job.withdrawal is None:
        return
    running = job is session.running
    if entered:
        job.entered = True
        if running:
            _stop_entered(book, job, job.withdrawal)
        elif session.running is None:
            stopping.fail_entered(book, session)
        return
    if running:
        session.running = None
        serve_next(book, session)
    else:
        session.ahead.remove(job)
    book.fail(job, job.withdrawal.code, job.withdrawal.waited)


def _stop_entered(book: Book, job: Job, withdrawal: Withdrawal) -> None:
    """It came too late for a withdrawal: now it is a running call, to be stopped as such.

    One that was only withdrawn because its client is gone, or its session too old, may run to its end,
    or its deadline.
    """
    if withdrawal.code == "SESSION_EXPIRED" or (job.orphan and ("call", job.id) in book.deadlines):
        job.withdrawal = None
    else:
        ladder.climb(book, job, withdrawal.code, withdrawal.ran, hurry=withdrawal.code == "TIMEOUT")


def _refuse_unknown_function(book: Book, session: Session, job: Job) -> None:
    near = get_close_matches(job.function, session.functions, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    more = len(session.functions) - MAX_LISTED_FUNCTIONS
    listed = session.functions[:MAX_LISTED_FUNCTIONS]
    known = (", ".join(listed) or "none") + (f" and {more} more" if more > 0 else "")
    text = f"app {session.app.name!r} has no function {job.function!r}{hint} (functions: {known})"
    book.fail(job, "FUNCTION_NOT_FOUND", text, functions=list(listed))


def miscounts(session: Session, said: work.Yielded | YieldedMany | work.Returned) -> bool:
    """Whether the worker left out a part of the running call, or made one up."""
    job = session.running
    if job is None or job.ordinal != said.ordinal:
        return False
    return job.parts != (said.parts if isinstance(said, work.Returned) else said.number)


def declines_too_late(session: Session, said: work.Declined) -> bool:
    """Whether parts of the call's stream came before, or the text is too long."""
    job = session.running
    too_late = job is not None and job.ordinal == said.ordinal and job.parts > 0
    return too_late or len(said.message.encode()) > MAX_RAISED_BYTES


def has_all_functions(session: Session, said: work.NoFunction) -> bool:
    """Whether the worker has none to look for, or has begun with the call that it disowns."""
    job = session.running
    begun = job is not None and job.ordinal == said.ordinal and job.parts > 0
    return not session.reloads or begun


def says_too_much(_session: Session | None, said: work.Raised | work.StartFailed) -> bool:
    """Whether the texts are longer than a worker makes them: the call's Failure would not fit in a header."""
    texts = (said.type, said.message, said.traceback)
    return len(said.type) > MAX_TYPE_CHARACTERS or sum(len(t.encode()) for t in texts) > MAX_RAISED_BYTES


def returned(book: Book, session: Session, said: work.Returned) -> None:
    job = _take_running(session, said.ordinal)
    if job is None:
        return
    serve_next(book, session)
    if job.ladder is not None or job.abandoned:
        _end_stopped(book, job)
    else:
        _answer(book, session, job, said.run_seconds, said.parts, said.value)


def raised(book: Book, session: Session, said: work.Raised) -> None:
    job = _take_failed(book, session, said.ordinal)
    if job is not None:
        text = f"{said.type}: {said.message}" if said.message else said.type
        book.fail(job, "APP_ERROR", text, "yes", type=said.type, traceback=said.traceback)


def reloaded(_book: Book, session: Session, said: work.Reloaded) -> None:
    session.functions = tuple(said.functions)
    session.on_cancel = said.on_cancel


def no_function(book: Book, session: Session, said: work.NoFunction) -> None:
    """The worker has looked for it, and knows better than `Session.functions` did."""
    job = _take_failed(book, session, said.ordinal)
    if job is not None:
        _refuse_unknown_function(book, session, job)


def interrupted(book: Book, session: Session, said: work.Interrupted) -> None:
    job = _take_running(session, said.ordinal)
    if job is not None:
        serve_next(book, session)
        _end_stopped(book, job)


def declined(book: Book, session: Session, said: work.Declined) -> None:
    job = _take_failed(book, session, said.ordinal)
    if job is not None:
        book.fail(job, "INVALID", said.message)


def yielded(book: Book, session: Session, said: work.Yielded) -> None:
    job = _read_by_somebody(session, said, 1)
    if job is None:
        return
    if job.kept is None:
        book.send(job.client, Part(job.id, said.number, said.value))
    else:
        detached.yielded(book, session, job, job.kept, said.value)


def yielded_many(book: Book, session: Session, said: YieldedMany) -> None:
    job = _read_by_somebody(session, said, len(said.values))
    if job is None:
        return
    if job.kept is None:
        sizes = [len(value) for value in said.values]
        book.send(job.client, Parts(job.id, said.number, sizes, b"".join(said.values)))
        return
    for value in said.values:
        detached.yielded(book, session, job, job.kept, value)


def _read_by_somebody(session: Session, said: work.Yielded | YieldedMany, count: int) -> Job | None:
    """The running call that gave these parts; None when nobody wants them any more."""
    job = session.running
    if job is None or job.ordinal != said.ordinal:
        return None
    job.parts = said.number + count
    return None if job.ladder is not None or job.abandoned else job


def progressed(book: Book, session: Session, said: work.Progressed) -> None:
    job = session.running
    if job is not None and job.ordinal == said.ordinal:
        job.progress = said.value
        book.watchers.news(job)


def _answer(book: Book, session: Session, job: Job, run_seconds: float, parts: int, value: Value) -> None:
    if book.behind and (text := readers.loss(book, job, value)) is not None:
        book.fail(job, "APP_ERROR", text, "yes", type="ResultDropped", bytes=len(value))
        return
    shown = None if session.pool else session.id
    book.answer(job, Result(job.id, shown, parts, _timing(book, session, job, run_seconds), value))


def _take_failed(book: Book, session: Session, ordinal: Ordinal) -> Job | None:
    """The running call, whose end brings no value; None where a stop has said how it ends."""
    job = _take_running(session, ordinal)
    if job is None:
        return None
    serve_next(book, session)
    if job.ladder is None:
        return job
    _end_stopped(book, job)
    return None


def _take_running(session: Session, ordinal: Ordinal) -> Job | None:
    """The call that the worker speaks of; None for the late word of one that was given up."""
    job = session.running
    if job is None or job.ordinal != ordinal:
        return None
    session.running = None
    return job


def _end_stopped(book: Book, job: Job) -> None:
    if job.ladder is None and job.withdrawal is not None:
        # Nothing else was asked of the worker, so it is the withdrawal that it obeyed.
        book.fail(job, job.withdrawal.code, job.withdrawal.waited)
    elif job.ladder is None:
        book.fail(job, "CANCELLED", "the call was left by its reader", "maybe")
    else:
        code, message, details = ladder.end_of(job.ladder)
        book.fail(job, code, message, "maybe", **details)


def _timing(book: Book, session: Session, job: Job, run_seconds: float) -> Timing:
    waited = (job.dispatched or book.now) - job.arrived
    if not job.cold:
        return Timing(False, waited, 0.0, 0.0, 0.0, run_seconds)
    start = session.spawn_seconds + session.imports_seconds + session.setup_seconds
    return Timing(
        True,
        max(0.0, waited - start),
        session.spawn_seconds,
        session.imports_seconds,
        session.setup_seconds,
        run_seconds,
    )
