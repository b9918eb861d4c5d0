"""What clients do to calls under way: take parts, cancel, leave; and what their deadlines do."""

from __future__ import annotations

from warmd.daemon.core import ahead, ladder, parking, policy, readers, starting
from warmd.daemon.core import effects as fx
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import (
    CancelArrived,
    ClientGone,
    ClientInside,
    CreditArrived,
    StopArrived,
    WatchArrived,
)
from warmd.daemon.core.session import Job, Withdrawal
from warmd.daemon.core.views import calls_before, runs
from warmd.protocol.errors import Problem
from warmd.protocol.messages import Result
from warmd.protocol.work import MoreCredit, WorkerId

CANCELLED = "the call was cancelled by its caller"
MOST_COUNTED = 2**63 - 1
"""Credit is a client's own number: a sum beyond what msgpack can say would spoil `status` for all."""


def credit_arrived(book: Book, event: CreditArrived) -> None:
    """Room for more parts; more than `max_stream_window` at once would only flood the worker's link."""
    if event.parts <= 0:
        return
    if book.watchers.owns(event.client, event.call):
        book.watchers.credit(event.client, event.call, event.parts)
        return
    job = _own_job(book, event)
    if job is None or job.kept is not None:
        book.keep.credit(event.client, event.call, event.parts)
        return
    if job.window is None:
        return
    room = book.limits.max_stream_window - (job.window - job.parts)
    parts = min(event.parts, room)
    book.credits_dropped = min(book.credits_dropped + event.parts - parts, MOST_COUNTED)
    job.window += parts
    if job.ordinal and event.client in book.behind:
        job.withheld += parts
    elif job.ordinal and parts:
        book.emit(fx.Tell(_worker(job), MoreCredit(job.ordinal, parts)))


def cancel_arrived(book: Book, event: CancelArrived) -> None:
    book.watchers.leave(event.client, event.call)
    job = _own_job(book, event)
    if job is None or (job.kept is not None and event.how == "abandon"):
        book.keep.detach(event.client, event.call)
    elif event.how == "cancel" or not runs(job):
        _stop(book, job)
    else:
        _abandon(book, job)


def watch_arrived(book: Book, event: WatchArrived) -> None:
    """A reader for the progress of a call; where that has ended there is none, and nothing is wrong."""
    client, id = event.client, event.request
    job, kept = book.jobs.get(event.call), book.keep.calls.get(event.call)
    problem: Problem | None = None
    if id in book.jobs or book.watchers.owns(client, id) or book.keep.reader(client, id) is not None:
        problem = Problem("INVALID", "the id is in use: choose 16 random bytes")
    elif job is not None:
        problem = book.watchers.begin(client, id, job, event.window)
    elif kept is not None:
        book.send(client, Result(id, kept.session))
    else:
        problem = book.keep.missing(event.call, book.now)
    if problem is not None:
        book.refuse(client, id, None, problem)


def stop_arrived(book: Book, event: StopArrived) -> None:
    job = book.jobs.get(event.call)
    if job is not None:
        _stop(book, job)


def _stop(book: Book, job: Job) -> None:
    if runs(job):
        ladder.climb(book, job, "CANCELLED", CANCELLED)
    else:
        _withdraw(book, job, Withdrawal("CANCELLED", "the call was cancelled before it ran", CANCELLED))


def client_inside(book: Book, event: ClientInside) -> None:
    if event.session in book.sessions:
        book.inside[event.client] = event.session


def client_gone(book: Book, event: ClientGone) -> None:
    """Its waiting calls are dropped, its running ones finish; its streams are closed.

    Its detached calls go on as if nothing had happened.
    """
    book.inside.pop(event.client, None)
    book.keep.leave(event.client)
    book.watchers.client_gone(event.client)
    readers.client_gone(book, event.client)
    parking.client_gone(book, event.client)
    for job in list(book.jobs_of.get(event.client, {}).values()):
        job.orphan = True
        if job.kept is not None:
            continue
        _listen_again(book, job)
        if not runs(job):
            _withdraw(book, job, Withdrawal("CANCELLED", "the client is gone", "the client is gone"))
        elif job.window is not None:
            _abandon(book, job)


def call_overdue(book: Book, job: Job) -> None:
    """The caller's patience is over: a waiting call is withdrawn, a running one stopped."""
    late = f"{job.function!r} ran past its deadline (timeout {job.timeout_seconds:g} s)"
    if runs(job):
        ladder.climb(book, job, "TIMEOUT", late, hurry=True)
        return
    waited = f"the call waited {job.timeout_seconds:g} s for {_awaited(job)}, and never ran"
    _withdraw(book, job, Withdrawal("TIMEOUT", waited, late))


def _awaited(job: Job) -> str:
    before = calls_before(job)
    if job.session is None:
        return f"a worker of the shared pool (waiting before it: {before})"
    if job.session.waits_for_room:
        return "GPU memory for its session"
    if not job.session.ready_at:
        return "the start of its session"
    return f"its turn (calls before it: {before + (job.session.running is not None)})"


def _withdraw(book: Book, job: Job, withdrawal: Withdrawal) -> None:
    if job.ordinal:
        ahead.withdraw(book, job, withdrawal)
        return
    job.queue.remove(job)
    book.fail(job, withdrawal.code, withdrawal.waited)
    waits_no_more(book, job)


def waits_no_more(book: Book, job: Job) -> None:
    """`job` has left its queue unserved: what was started for it alone is given up."""
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
        _listen_again(book, job)
        book.deadlines.set(("left", job.id), book.now + policy.ABANDONED_SECONDS)


def abandoned_too_long(book: Book, job: Job) -> None:
    """It does not come to its next part: interrupt it, but never kill a session for its reader's leaving."""
    if job.ladder is None:
        book.emit(fx.Interrupt(_worker(job), job.ordinal))
        book.deadlines.set(("left", job.id), book.now + policy.ABANDONED_AGAIN_SECONDS)


def _listen_again(book: Book, job: Job) -> None:
    if job.session is not None and job.session.paused:
        readers.settle(book, job.session)


def _own_job(book: Book, event: CreditArrived | CancelArrived) -> Job | None:
    job = book.jobs.get(event.call)
    own = job is not None and (job.client == event.client or job.kept is not None)
    return job if own else None


def _worker(job: Job) -> WorkerId:
    assert job.session is not None, "only a call that was sent has a worker"
    return ahead.worker_of(job.session)
