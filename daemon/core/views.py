"""What others may see of the rule book: frozen copies, made when somebody asks.

They are advisory: good for `ps` and metrics, never for a decision (that would be a second writer).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from warmd.daemon.core.gpus import GpuView
from warmd.daemon.core.record import Kept
from warmd.daemon.core.session import NOT_STARTED, Job, Phase, Session, Template
from warmd.protocol.messages import NOTHING, Body, Failure, SessionId
from warmd.protocol.work import WorkerId


@dataclass(frozen=True, slots=True)
class SessionView:
    """Times are monotonic seconds of the daemon."""

    id: SessionId
    kind: Literal["session", "pool", "spare"]
    app: str
    name: str | None
    labels: Mapping[str, str]
    state: str
    """A phase's value, or for a session that is gone, or cannot be killed: ended, expired, died."""
    worker: WorkerId | None
    """Or the template's whose import it waits for."""
    origin: str
    """`fork` of a template, or `spawn`, with the reason where one was to be expected."""
    pid: int | None
    stuck: tuple[int, ...]
    """Pids that cannot be killed: they keep its place."""
    created: float
    last_call: float | None
    calls: int
    queued: int
    running_call: str | None
    running_function: str | None
    running_since: float | None
    idle_seconds: float
    lifetime_seconds: float
    idle_since: float
    held_until: float
    """Not after `now` when there is no hold."""
    expires_at: float | None
    """None while it does not count: something runs or waits, or it never expires."""
    reason: str | None
    progress: Body
    gpu: GpuView | None = None


@dataclass(frozen=True, slots=True)
class TemplateView:
    app: str
    pid: int | None
    state: Literal["importing", "up", "ending"]
    memory_bytes: int
    """Its private memory, as it was when its import was done."""
    forks: int
    """How many workers it has become so far."""
    ordered: float
    used: float


@dataclass(frozen=True, slots=True)
class CallView:
    id: str
    state: Literal["queued", "starting", "running", "cancelling", "done"]
    session: SessionId | None
    function: str
    position: int | None
    """Calls ahead of it in its queue, the running one not counted; None when it is done."""
    since: float
    """When it came into this state, as far as it is known: its end or dispatch, else its arrival."""
    progress: Body
    detached: bool
    parts: int
    """How many it has given."""
    first_part: int
    """The number of the first that a reader can still have; of a call that is not detached, 0."""
    code: str | None = None
    ran: str | None = None
    """How a call that is done ended; `code` is None for a good end."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    sessions: int
    """Processes, dying ones and workers of the shared pool included."""
    running: int
    queued: int
    queued_bytes: int
    """Held of calls that wait, and of what starts may need."""
    slow_clients: int
    credits_dropped: int
    """Parts allowed beyond `max_stream_window`."""
    draining: bool


def view_of(session: Session, expires_at: float | None, gpu: GpuView | None = None) -> SessionView:
    """A copy of the session as it is now; `expires_at` and `gpu` are known to their owners only."""
    running, verdict = session.running, session.verdict
    gone = session.phase is Phase.GONE
    return SessionView(
        id=session.id,
        kind=session.kind,
        app=session.app.name,
        name=session.name,
        labels=session.labels,
        state=verdict.state if verdict and (gone or session.stuck) else session.phase.value,
        worker=session.worker if session.awaits is None else session.awaits.worker,
        origin=session.origin,
        pid=None if gone else session.pid,
        stuck=() if gone else session.stuck,
        created=session.created,
        last_call=session.last_call,
        calls=session.calls,
        queued=0 if session.pool else len(session.ahead) + len(session.queue),
        running_call=running.id.hex() if running else None,
        running_function=running.function if running else None,
        running_since=running.dispatched if running else None,
        idle_seconds=session.idle_seconds,
        lifetime_seconds=session.lifetime_seconds,
        idle_since=session.idle_since,
        held_until=session.held_until,
        expires_at=expires_at,
        reason=verdict.reason if verdict else None,
        progress=running.progress if running else NOTHING,
        gpu=gpu,
    )


def view_of_template(template: Template) -> TemplateView:
    return TemplateView(
        template.key[0].name,
        template.pid,
        "ending" if template.retired else "up" if template.up else "importing",
        template.memory_bytes,
        template.forks,
        template.ordered,
        template.used,
    )


def runs(job: Job) -> bool:
    """It is the call that its worker has turned to; else it waits, wherever it lies."""
    return job.session is not None and job.session.running is job


def calls_before(job: Job) -> int:
    """How many waiting calls have their turn before this one."""
    sent = job.session.ahead if job.session is not None else ()
    if job.ordinal:
        return sum(other.ordinal < job.ordinal for other in sent)
    return len(sent) + job.queue.index(job)


def call_view_of(job: Job) -> CallView:
    """A copy of the call as it is now."""
    session = job.session
    state: Literal["queued", "starting", "running", "cancelling"]
    running = runs(job)
    if running:
        state = "cancelling" if job.ladder or job.abandoned else "running"
    elif session and session.phase in NOT_STARTED:
        state = "starting"
    else:
        state = "queued"
    return CallView(
        id=job.id.hex(),
        state=state,
        session=session.id if session and not session.pool else None,
        function=job.function,
        position=0 if running else calls_before(job),
        since=job.dispatched if running else job.arrived,
        progress=job.progress,
        detached=job.kept is not None,
        parts=job.parts,
        first_part=0 if job.kept is None else job.kept.first,
        note="" if job.kept is None else job.kept.note,
    )


def kept_view_of(kept: Kept) -> CallView:
    """A detached call that is done."""
    return CallView(
        id=kept.id.hex(),
        state="done",
        session=kept.session,
        function=kept.function,
        position=None,
        since=kept.ended,
        progress=NOTHING,
        detached=True,
        parts=kept.next,
        first_part=kept.first,
        note=kept.note,
        code=kept.code,
        ran=kept.final.ran if isinstance(kept.final, Failure) else "yes",
    )
