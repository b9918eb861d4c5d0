"""What clients do to calls under way: take parts, cancel, leave; and what their deadlines do."""

from __future__ import annotations

from warmd.daemon.core import effects as fx
from warmd.daemon.core import ladder, starting
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import CancelArrived, ClientGone, CreditArrived
from warmd.daemon.core.session import Job
from warmd.protocol.errors import Ran
from warmd.protocol.work import MoreCredit, WorkerId


def credit_arrived(book: Book, event: CreditArrived) -> None:
    job = _own_job(book, event)
    if job is None or event.parts <= 0 or job.window is None:
        return
    if job.ordinal:
        book.emit(fx.Tell(_worker(job), MoreCredit(job.ordinal, event.parts)))
    else:
        job.window += event.parts


def cancel_arrived(book: Book, event: CancelArrived) -> None:
    job = _own_job(book, event)
    if job is None:
        return
    if not job.ordinal:
        _withdraw(book, job, "CANCELLED", "the call was cancelled before it ran")
    elif event.how == "cancel":
        ladder.climb(book, job, "CANCELLED", "the call was cancelled by its caller")
    else:
        _abandon(book, job)


def client_gone(book: Book, event: ClientGone) -> None:
    """Its waiting calls are dropped, its running ones finish; its streams are closed."""
    for job in list(book.jobs_of.get(event.client, {}).values()):
        job.orphan = True
        if not job.ordinal:
            _withdraw(book, job, "CANCELLED", "the client is gone")
        elif job.window is not None:
            _abandon(book, job)


def call_overdue(book: Book, job: Job) -> None:
    """The caller's patience is over: a waiting call is withdrawn, a running one stopped."""
    if job.ordinal:
        why = f"{job.function!r} ran past its deadline (timeout {job.timeout_seconds:g} s)"
        ladder.climb(book, job, "TIMEOUT", why, hurry=True)
        return
    waited = f"the call waited {job.timeout_seconds:g} s for {_awaited(job)}, and never ran"
    _withdraw(book, job, "TIMEOUT", waited)


def _awaited(job: Job) -> str:
    ahead = job.queue.index(job)
    if job.session is None:
        return f"a worker of the shared pool (waiting before it: {ahead})"
    if not job.session.ready_at:
        return "the start of its session"
    return f"its turn (calls before it: {ahead + (job.session.running is not None)})"


def _withdraw(book: Book, job: Job, code: str, message: str, ran: Ran = "no") -> None:
    job.queue.remove(job)
    book.fail(job, code, message, ran)
    if job.queue:
        return
    if job.session is not None:
        starting.give_up_unwanted(book, job.session)
        return
    for pool in list(book.pools.values()):
        if pool.queue is job.queue:
            for member in list(pool.members.values()):
                starting.give_up_unwanted(book, member)
            book.untended[pool.key] = pool


def _abandon(book: Book, job: Job) -> None:
    if not job.abandoned and job.ladder is None:
        job.abandoned = True
        book.emit(fx.RequestCancel(_worker(job), job.ordinal, signal=False))


def _own_job(book: Book, event: CreditArrived | CancelArrived) -> Job | None:
    job = book.jobs.get(event.call)
    return job if job is not None and job.client == event.client else None


def _worker(job: Job) -> WorkerId:
    assert job.session is not None
    assert job.session.worker is not None
    return job.session.worker
