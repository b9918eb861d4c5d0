"""The state of the rule book, and the few moves that keep its indexes true.

Every module beside this one is a set of rules over one `Book`; they change it only through the
methods here or in the fields of a single record.  Effects collect in `effects` until the event
that caused them has been handled.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from warmd.daemon.core import effects as fx
from warmd.daemon.core.deadlines import Deadlines, Key
from warmd.daemon.core.gpus import Gpus
from warmd.daemon.core.holdings import Holdings, size_of
from warmd.daemon.core.kept import Keep
from warmd.daemon.core.policy import REMEMBERED_SESSIONS, Limits
from warmd.daemon.core.session import (
    LEGAL_MOVES,
    Behind,
    EndRequest,
    Job,
    Phase,
    Pool,
    PoolKey,
    Session,
    Template,
    TemplateKey,
)
from warmd.daemon.core.views import SessionView, view_of
from warmd.daemon.core.watching import Watchers
from warmd.protocol.errors import Problem, Ran, quoted
from warmd.protocol.messages import (
    NOTHING,
    Accepted,
    Body,
    CallId,
    ClientId,
    Failure,
    FromDaemon,
    Result,
    SessionId,
)
from warmd.protocol.work import WorkerId

CODE_OF_STATE: Mapping[str, str] = {
    "ended": "SESSION_ENDED",
    "expired": "SESSION_EXPIRED",
    "died": "SESSION_DIED",
}


class IllegalMoveError(AssertionError):
    """A session was about to change into a phase that its own does not lead to."""


class Book:
    def __init__(self, limits: Limits, started: float) -> None:
        self.limits = limits
        self.now = 0.0
        self.effects: list[fx.Effect] = []
        self.sessions: dict[SessionId, Session] = {}
        """All that are not GONE: each holds one of `max_sessions` places."""
        self.workers: dict[WorkerId, Session] = {}
        self.names: dict[str, Session] = {}
        self.spares: dict[PoolKey, dict[SessionId, Session]] = {}
        """Those that calls may take, or that will soon be up."""
        self.pools: dict[PoolKey, Pool] = {}
        self.untended: dict[PoolKey, Pool] = {}
        """Pools that lost a worker in this event and may need another."""
        self.templates: dict[TemplateKey, Template] = {}
        """Those that starts may be forked from, or wait for."""
        self.template_workers: dict[WorkerId, Template] = {}
        """All that have a process, retired ones included."""
        self.left_templates: list[Template] = []
        """Those that a start has left in this event, and that nobody may need any more."""
        self.unforkable: OrderedDict[TemplateKey, tuple[str, float]] = OrderedDict()
        """Why an app is spawned and not forked, and until when that is believed."""
        self.jobs: dict[CallId, Job] = {}
        self.jobs_of: dict[ClientId, dict[CallId, Job]] = {}
        self.inside: dict[ClientId, SessionId] = {}
        """Clients that run inside an app, and in which session."""
        self.dead: OrderedDict[SessionId, SessionView] = OrderedDict()
        self.ends: dict[CallId, EndRequest] = {}
        self.held = Holdings()
        self.behind: dict[ClientId, Behind] = {}
        self.credits_dropped = 0
        self.deadlines = Deadlines()
        self.keep = Keep(limits, started, self.deadlines, self.behind, self.send, lambda: self.now)
        self.watchers = Watchers(limits, self.behind, self.send)
        self.gpus = Gpus(lambda number: self.emit(fx.Look(number)), lambda: self.now)
        self.due: Key | None = None
        """The timer that is being dealt with."""
        self.draining = False
        self.stopped = False
        self.last_worker = 0
        self.last_pool_member = 0

    def emit(self, effect: fx.Effect) -> None:
        self.effects.append(effect)

    def send(self, client: ClientId, message: FromDaemon) -> None:
        self.effects.append(fx.Send(client, message))

    def add(self, session: Session) -> None:
        self.sessions[session.id] = session
        session.start_seconds = self.limits.start_timeout_seconds
        if session.pool is not None:
            session.pool.members[session.id] = session
        if session.spare:
            self.spares.setdefault(session.start_key, {})[session.id] = session
        self.enlist(session)
        if self.gpus.known:
            self.gpus.stirred = True

    def enlist(self, session: Session) -> None:
        """It can be found by its name, and has a greatest age."""
        if session.name is not None:
            self.names[session.name] = session
        self.set_lifetime_timer(session)

    def set_lifetime_timer(self, session: Session) -> None:
        if session.lifetime_seconds < inf:
            self.deadlines.set(("lifetime", session.id), session.created + session.lifetime_seconds)

    def leave_spares(self, session: Session) -> None:
        """It is a call's from now on, or nobody's."""
        alike = self.spares[session.start_key]
        del alike[session.id]
        if not alike:
            del self.spares[session.start_key]
        session.spare = False

    def has_room(self) -> bool:
        return len(self.sessions) < self.limits.max_sessions

    def next_worker(self) -> WorkerId:
        self.last_worker += 1
        return WorkerId(self.last_worker)

    def move(self, session: Session, phase: Phase) -> None:
        """The only way to change a session's phase.  Raises IllegalMoveError."""
        if phase not in LEGAL_MOVES[session.phase]:
            raise IllegalMoveError(f"{session.id}: {session.phase.value} -> {phase.value}")
        session.phase = phase
        if phase is Phase.STOPPING:
            self._release_name(session)
            if session.spare:
                self.leave_spares(session)
            if session.pool is not None:
                self.untended[session.pool.key] = session.pool
            self.deadlines.drop(("start", session.id))
            self.deadlines.drop(("idle", session.id))
            self.deadlines.drop(("lifetime", session.id))
            if session.tenancy is not None:
                self._move_no_more(session)
        elif phase is Phase.GONE:
            self._bury(session)

    def become_idle(self, session: Session) -> None:
        """Nothing runs or waits: the idle clock starts from zero."""
        if session.phase is not Phase.IDLE:
            self.move(session, Phase.IDLE)
        session.idle_since = self.now
        self.set_idle_timer(session)
        if self.gpus.line:
            self.gpus.stirred = True

    def rest(self, session: Session) -> None:
        """The same of one that is parked, unless somebody wants it back for its own sake."""
        session.idle_since = self.now
        if session.tenancy is None or not session.tenancy.unparks_for:
            self.leave_line(session)
            self.set_idle_timer(session)

    def wait_for_room(self, session: Session, since: float | None = None) -> None:
        """It stands in the line for GPU memory, and has work to do; `since`: it has waited already."""
        if not session.waits_for_room:
            since = self.now if since is None else since
            self.gpus.join_line(session, since)
            self.deadlines.drop(("idle", session.id))
            self.deadlines.set(("room", session.id), since + self.limits.gpu_wait_seconds)

    def leave_line(self, session: Session) -> None:
        if session.waits_for_room:
            self.gpus.leave_line(session)
            self.deadlines.drop(("room", session.id))

    def answer_requests(self, session: Session, requests: Iterable[tuple[ClientId, CallId]]) -> None:
        for client, request in requests:
            self.emit(fx.Answer(client, request, (session.id,), many=False))

    def refuse_requests(self, requests: Iterable[tuple[ClientId, CallId]], problem: Problem) -> None:
        for client, request in requests:
            self.refuse(client, request, None, problem)

    def set_idle_timer(self, session: Session) -> None:
        expires = max(session.idle_since + session.idle_seconds, session.held_until)
        self.deadlines.set(("idle", session.id), expires)

    def find(self, id: SessionId) -> Session | Problem:
        """The live session that calls can name, or why there is none."""
        session = self.sessions.get(id)
        if session is None or session.pool is not None or session.spare:
            buried = self.dead.get(id)
            return gone(id, buried.state, buried.reason or "") if buried else self.unknown(id)
        if session.verdict is not None:
            return gone(id, *session.verdict)
        return session

    def unknown(self, id: SessionId) -> Problem:
        """What a caller is told who names what is no session, and never was."""
        worker, named = self.sessions.get(id), self.names.get(id)
        if worker is not None and worker.pool is not None:
            text = (
                f"{id} is a worker of the shared pool, which calls without a session share: "
                f"`warmd end --app {worker.app.name}` ends them, and they expire by themselves"
            )
        elif named is not None:
            text = (
                f"{id!r} is the name of a session, and a call names its id: give {named.id}, or open it "
                f'with session="new" and name={id!r}, which joins it'
            )
        else:
            text = (
                f"there is no session {quoted(id, 100)} here: it was never opened by this daemon, "
                "or too long ago to be remembered; `warmd ps --all` lists the sessions that are known"
            )
        return Problem("SESSION_NOT_FOUND", text)

    def register(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.jobs_of.setdefault(job.client, {})[job.id] = job
        self.deadlines.set(("call", job.id), job.arrived + job.timeout_seconds)

    def hold(self, job: Job) -> None:
        """Its input waits here, and counts, until `let_go`."""
        job.held = len(job.input)
        self.held.add(job.client, job.held)

    def let_go(self, job: Job) -> None:
        self.held.drop(job.client, job.held)
        job.held = 0

    def hold_for_start(self, session: Session) -> None:
        """What it takes to start `session` waits here until it is up, or gone."""
        self.held.add(session.opener, size_of(session.setup, session.pickled))

    def started(self, session: Session) -> None:
        """It is up: only for who may join it by its name, or take it, its `setup` counts again."""
        if session.pool is None:
            kept = session.setup if session.name is not None or session.spare else NOTHING
            self._let_go_of_start(session, kept)

    def accept(self, job: Job) -> None:
        """Tell the client, once, that its call is admitted and where it will run."""
        if not job.wants_accepted:
            return
        in_session = job.session if job.session and not job.session.pool else None
        if job.kept is not None:
            job.wants_accepted = False
            self.keep.admit(job.kept, in_session.id if in_session else None)
        else:
            job.wants_accepted = False
            self.send(job.client, Accepted(job.id, in_session.id if in_session else None))

    def answer(self, job: Job, message: Result | Failure) -> None:
        """The one final answer to a call; nothing of it is left afterwards."""
        if job.held:
            self.let_go(job)
        del self.jobs[job.id]
        mine = self.jobs_of[job.client]
        del mine[job.id]
        if not mine:
            del self.jobs_of[job.client]
        self.deadlines.drop(("call", job.id))
        if job.ladder is not None:
            self.deadlines.drop(("ladder", job.id))
        if job.abandoned:
            self.deadlines.drop(("left", job.id))
        if job.kept is not None:
            self.keep.end(job.kept, message, self.now)
        elif not job.orphan:
            self.effects.append(fx.Send(job.client, message))
        if job.id in self.watchers.of_job:
            self.watchers.over(job, message.session)

    def fail(self, job: Job, code: str, message: str, ran: Ran = "no", **details: Any) -> None:
        in_session = job.session.id if job.session and not job.session.pool else None
        self.answer(job, Failure(job.id, in_session, code, message, ran, details))

    def fail_queue(self, queue: deque[Job], code: str, message: str, **details: Any) -> None:
        while queue:
            self.fail(queue.popleft(), code, message, **details)

    def refuse(self, client: ClientId, call: CallId, session: SessionId | None, problem: Problem) -> None:
        """The final answer to a call or request that never became a job."""
        self.send(
            client,
            Failure(call, session, problem.code, problem.message, problem.ran, dict(problem.details)),
        )

    def expires_at(self, session: Session) -> float | None:
        at = self.deadlines.time_of(("idle", session.id))
        return None if at == inf else at

    def view(self, session: Session) -> SessionView:
        gpu = None if session.tenancy is None else self.gpus.view(session, session.tenancy)
        return view_of(session, self.expires_at(session), gpu)

    def settle_ends(self, session: Session) -> None:
        """`session` needs no more waiting for: answer each `end` that waited for it last."""
        for end in session.ends:
            end.waiting_for.discard(session.id)
            if not end.waiting_for and self.ends.pop(end.id, None) is not None:
                self.emit(fx.Answer(end.client, end.id, end.sessions, end.many))
        session.ends = []

    def _move_no_more(self, session: Session) -> None:
        """It stops: its GPU memory goes with its process."""
        tenancy, verdict = session.tenancy, session.verdict
        assert tenancy is not None and verdict is not None, "a session stops for a reason"
        self.leave_line(session)
        self.deadlines.drop(("move", session.id))
        asked, tenancy.parks_for = [*tenancy.parks_for, *tenancy.unparks_for], []
        tenancy.unparks_for = []
        self.refuse_requests(asked, gone(session.id, *verdict))

    def _release_name(self, session: Session) -> None:
        if session.name is not None and self.names.get(session.name) is session:
            del self.names[session.name]

    def _bury(self, session: Session) -> None:
        del self.sessions[session.id]
        self.deadlines.drop(("finish", session.id))
        if session.awaits is not None:
            session.awaits.waiting.remove(session)
            self.left_templates.append(session.awaits)
            session.awaits = None
        if session.worker is not None:
            del self.workers[session.worker]
            self.emit(fx.Forget(session.worker, session.id))
        self._let_go_of_start(session)
        if session.tenancy is not None:
            self.gpus.leave(session)
        if session.pool is None:
            self._remember(session)
        else:
            self._leave_pool(session, session.pool)
        self.settle_ends(session)

    def forget_template(self, template: Template) -> None:
        del self.template_workers[template.worker]
        self.deadlines.drop(("fork", template.worker))

    def _let_go_of_start(self, session: Session, kept: Body = NOTHING) -> None:
        if session.pool is None:
            count = size_of(session.setup, session.pickled) - len(kept)
            self.held.drop(session.opener, count)
        session.setup, session.pickled = kept, NOTHING

    def _remember(self, session: Session) -> None:
        self.dead[session.id] = view_of(session, None)
        if len(self.dead) > REMEMBERED_SESSIONS:
            self.dead.popitem(last=False)

    def _leave_pool(self, session: Session, pool: Pool) -> None:
        del pool.members[session.id]
        self.untended[pool.key] = pool


def gone(session: SessionId, state: str, reason: str) -> Problem:
    """What a caller is told who names a session that has ended, expired or died."""
    text = f"session {session} has {state}: {reason}; open a new session"
    return Problem(CODE_OF_STATE[state], text, details={"reason": reason})
