"""Clients that do not read what they are sent, so that it gathers in the daemon.

    ClientBehind     more than `max_unread_bytes` lie unread: nothing more is read from the workers
                     that run the client's calls, and its streams get no more credit
    (1 s later)      its results are given up: a call that returns is answered without its value, so
                     that the session is free for others; new calls are refused
    ClientCaughtUp   all goes on

Its streams stay paused all that time, and lose nothing: their workers wait.  A call that is to end
(its deadline, a cancel, its reader's leaving) is listened to again.
"""

from __future__ import annotations

from warmd.daemon.core import ahead, policy
from warmd.daemon.core import effects as fx
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import ClientBehind, ClientCaughtUp
from warmd.daemon.core.session import Behind, Job, Session
from warmd.daemon.core.views import runs
from warmd.protocol.errors import Problem
from warmd.protocol.messages import ClientId
from warmd.protocol.parcels import Value
from warmd.protocol.work import MoreCredit


def client_behind(book: Book, event: ClientBehind) -> None:
    if event.client in book.behind:
        return
    book.behind[event.client] = Behind(event.unread)
    book.deadlines.set(("behind", event.client), book.now + policy.CATCH_UP_SECONDS)
    _settle_all(book, event.client)


def behind_too_long(book: Book, client: ClientId) -> None:
    book.behind[client].given_up = True
    _settle_all(book, client)


def client_caught_up(book: Book, event: ClientCaughtUp) -> None:
    if book.behind.pop(event.client, None) is None:
        return
    book.deadlines.drop(("behind", event.client))
    for job in book.jobs_of.get(event.client, {}).values():
        if job.withheld and job.session is not None:
            book.emit(fx.Tell(ahead.worker_of(job.session), MoreCredit(job.ordinal, job.withheld)))
            job.withheld = 0
    book.keep.serve(event.client)
    book.watchers.serve(event.client)
    _settle_all(book, event.client)


def client_gone(book: Book, client: ClientId) -> None:
    if book.behind.pop(client, None) is not None:
        book.deadlines.drop(("behind", client))


def settle(book: Book, session: Session) -> None:
    """Listen to the session's worker, or not, as the reader of its running call has it."""
    wanted = is_paused(book, session)
    if wanted is not session.paused:
        session.paused = wanted
        worker = ahead.worker_of(session)
        book.emit(fx.Pause(worker) if wanted else fx.Resume(worker))


def is_paused(book: Book, session: Session) -> bool:
    """Whether nobody takes what the running call says, and it is not to end."""
    job = session.running
    if (
        job is None
        or job.kept is not None
        or job.ladder is not None
        or job.abandoned
        or job.orphan
        or session.kill_wanted
    ):
        return False
    behind = book.behind.get(job.client)
    return behind is not None and (job.window is not None or not behind.given_up)


def refusal(book: Book, client: ClientId) -> Problem | None:
    """Why the client can have nothing more, or None when it reads what it is sent."""
    behind = book.behind.get(client)
    if behind is None or not behind.given_up:
        return None
    limit = book.limits.max_unread_bytes
    text = f"{_how_far(behind, limit)}: take the answers of earlier calls before asking for more"
    return Problem("SLOW_CONSUMER", text, details={"limit": limit, "bytes": behind.unread})


def loss(book: Book, job: Job, value: Value) -> str | None:
    """Why this result is not sent, or None when it is."""
    behind = book.behind.get(job.client)
    if job.kept is not None or behind is None or not behind.given_up:
        return None
    if len(value) <= policy.ALWAYS_SENT_BYTES:
        return None
    return (
        f"{job.function!r} returned, but its result of {len(value)} bytes was dropped: "
        f"{_how_far(behind, book.limits.max_unread_bytes)}: take answers as they come, or return less"
    )


def _how_far(behind: Behind, limit: int) -> str:
    return (
        f"this client has not read {behind.unread} bytes that it was sent, "
        f"the limit is {limit} (max_unread_bytes)"
    )


def _settle_all(book: Book, client: ClientId) -> None:
    for job in book.jobs_of.get(client, {}).values():
        if job.session is not None and runs(job):
            settle(book, job.session)
