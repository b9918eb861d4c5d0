"""How a session or a call that is under way stands, for `why`: more than listings need.

Copies, like those of `views`: made when somebody asks, and never read by a rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmd.daemon.core.book import Book
from warmd.daemon.core.session import Job, Phase, Session
from warmd.daemon.core.views import CallView, SessionView, call_view_of
from warmd.protocol.messages import CallId, SessionId
from warmd.protocol.work import Ordinal


@dataclass(frozen=True, slots=True)
class Standing:
    """A session with a process, or on its way to one.  Times are monotonic seconds of the daemon."""

    view: SessionView
    running_function: str | None
    ordinal: Ordinal | None
    """Of the running call."""
    start_since: float
    start_limit_seconds: float
    died: bool
    """Its processes are only being cleared away."""
    waiting: int
    """Calls that wait, also for a start."""


@dataclass(frozen=True, slots=True)
class CallStanding:
    view: CallView
    function: str
    arrived: float
    timeout_seconds: float
    app: str
    session: Standing | None
    """Where it waits or runs; None while it waits for any worker of the shared pool."""


def of_session(book: Book, id: SessionId) -> Standing | None:
    session = book.sessions.get(id)
    return None if session is None else _standing(book, session)


def of_call(book: Book, id: CallId) -> CallStanding | None:
    """A call that is under way."""
    job = book.jobs.get(id)
    if job is None:
        return None
    session = None if job.session is None else _standing(book, job.session)
    return CallStanding(
        call_view_of(job), job.function, job.arrived, job.timeout_seconds, _app_of(book, job), session
    )


def _standing(book: Book, session: Session) -> Standing:
    running = session.running
    looked_up = session.phase not in (Phase.LOOKING_UP, Phase.PLACING)
    return Standing(
        view=book.view(session),
        running_function=running.function if running else None,
        ordinal=running.ordinal if running else None,
        start_since=session.spawn_ordered if looked_up else session.created,
        start_limit_seconds=session.start_seconds,
        died=session.verdict is not None and session.verdict.state == "died",
        waiting=len(session.ahead) + len(session.queue),
    )


def _app_of(book: Book, job: Job) -> str:
    if job.session is not None:
        return job.session.app.name
    return next((pool.key[0].name for pool in book.pools.values() if pool.queue is job.queue), "")
