"""Calls that are sent to a worker before their turn, so that it need not wait for the daemon.

With one call at a time each end costs a round trip through the daemon before the next can begin:
most of a warm call.  So while one runs, a few of those that wait lie in the worker's socket
already.  They still only wait: they can be withdrawn, and have not run if the worker dies.  Which
was first, the worker that enters a call or the daemon that takes it back, shows on the control page:

    worker    writes `entered` = n, then looks whether n is withdrawn, and skips it if so
    daemon    writes n as withdrawn, waits 2 ms, then looks whether `entered` has reached n

A store is seen by all cores long before 2 ms are over.  So if `entered` has not reached n, the
worker will find n withdrawn whenever it gets there: the call never runs.  If it has, the call runs,
or the worker says at once that it skipped it.

Sent ahead are only calls that nothing but their turn holds back: of a session, not of the pool
(another worker may be free sooner), no streams (their credits would come out of turn), and none of a
session with GPU memory (which may have to yield to another after the running call).
"""

from __future__ import annotations

from warmd.daemon.core import effects as fx
from warmd.daemon.core import policy
from warmd.daemon.core.book import Book
from warmd.daemon.core.session import Job, Session, Withdrawal
from warmd.protocol import work
from warmd.protocol.messages import NOTHING, WINDOW_BYTES
from warmd.protocol.work import Ordinal, WorkerId


def invoke(book: Book, session: Session, job: Job) -> None:
    """Put the call into the worker's socket."""
    session.last_ordinal += 1
    job.session = session
    job.ordinal = Ordinal(session.last_ordinal)
    window_bytes = WINDOW_BYTES if job.kept is None else None
    message = work.Invoke(
        job.ordinal,
        job.id,
        job.function,
        job.window,
        job.input,
        window_bytes=window_bytes,
        request_id=job.request_id,
    )
    if job.held:
        book.let_go(job)
    job.input = NOTHING
    book.effects.append(fx.Tell(worker_of(session), message))


def refill(book: Book, session: Session) -> None:
    """Send what may go ahead; not one by one, but when half of the last has been used up."""
    limit = book.limits.dispatch_ahead
    ahead, queue, running = session.ahead, session.queue, session.running
    if not queue or len(ahead) > limit // 2 or session.pool is not None or session.tenancy is not None:
        return
    if running is None or running.window is not None or running.ladder is not None:
        return
    while queue and len(ahead) < limit and _may_go(session, queue[0]):
        job = queue.popleft()
        invoke(book, session, job)
        ahead.append(job)


def withdraw(book: Book, job: Job, withdrawal: Withdrawal) -> None:
    """Take back a call that was sent ahead; what comes of it is settled a moment later."""
    if job.withdrawal is None:
        assert job.session is not None
        job.withdrawal = withdrawal
        book.emit(fx.Withdraw(worker_of(job.session), job.ordinal))


def find_withdrawn(session: Session, ordinal: Ordinal) -> Job | None:
    """The call of that ordinal, if it is to be withdrawn and not answered yet."""
    jobs = [session.running, *session.ahead]
    return next((job for job in jobs if job and job.ordinal == ordinal and job.withdrawal), None)


def worker_of(session: Session) -> WorkerId:
    assert session.worker is not None, "a session that runs a call has a worker"
    return session.worker


def _may_go(session: Session, job: Job) -> bool:
    known = job.function in session.functions or (session.reloads and job.function != "")
    return known and job.window is None and len(job.input) <= policy.AHEAD_INPUT_BYTES
