"""How a session or a call that is under way stands, for `why`: more than listings need.

Copies, like those of `views`: made when somebody asks, and never read by a rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmd.daemon.core import placement, roomtexts
from warmd.daemon.core.book import Book
from warmd.daemon.core.gpus import NO_NUMBER
from warmd.daemon.core.session import Job, Phase, Session
from warmd.daemon.core.views import CallView, SessionView, call_view_of
from warmd.protocol.messages import CallId, SessionId
from warmd.protocol.work import Ordinal


@dataclass(frozen=True, slots=True)
class RoomStanding:
    """A session's memory on GPUs: what it waits for, and how its move goes.  Times as in `Standing`."""

    wanted: str
    """How much, in words."""
    waits_since: float | None
    refused_at: float | None
    in_the_way: str
    """Each GPU that would do, and who has it, in words; empty where it waits for nothing."""
    holders: tuple[SessionId, ...]
    """Those sessions; who has the most is the first."""
    moves_since: float | None
    moves_until: float | None
    """Then it is given up."""
    parked_since: float | None
    """None also where it is not known any more, after it could not come back."""


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
    room: RoomStanding | None
    """None where it has nothing to do with GPUs."""


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
        room=_room(book, session),
    )


def _room(book: Book, session: Session) -> RoomStanding | None:
    tenancy = session.tenancy
    if tenancy is None:
        return None
    waits, moves = tenancy.waits_since is not None, tenancy.move != NO_NUMBER
    is_parked = tenancy.where == "parked" and not moves and not tenancy.failures
    return RoomStanding(
        wanted=roomtexts.wanted(tenancy),
        waits_since=tenancy.waits_since,
        refused_at=book.deadlines.time_of(("room", session.id)),
        in_the_way=roomtexts.in_the_way(book, session) if waits else "",
        holders=_holders(book, session) if waits else (),
        moves_since=tenancy.began if moves else None,
        moves_until=book.deadlines.time_of(("move", session.id)),
        parked_since=tenancy.began + tenancy.park_seconds if is_parked else None,
    )


def _holders(book: Book, session: Session) -> tuple[SessionId, ...]:
    """Who has something where it could go."""
    gpus = placement.candidates(book, placement.tenancy_of(session))
    others = [one for one in book.gpus.tenants.values() if one is not session]
    has = {one.id: sum(book.gpus.held(one, gpu) for gpu in gpus) for one in others}
    return tuple(sorted((id for id in has if has[id]), key=lambda id: -has[id]))


def _app_of(book: Book, job: Job) -> str:
    if job.session is not None:
        return job.session.app.name
    return next((pool.key[0].name for pool in book.pools.values() if pool.queue is job.queue), "")
