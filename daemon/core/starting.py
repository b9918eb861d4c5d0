"""From a looked-up app to a worker that is ready, and every way in which a start can fail.

A start belongs to the calls that wait for it: they share its failure, and when the last of them
has timed out, been cancelled or lost its client, the start is given up.
"""

from __future__ import annotations

from warmd.daemon.core import asked, pools, serving, stopping
from warmd.daemon.core import effects as fx
from warmd.daemon.core.book import Book
from warmd.daemon.core.session import NOT_STARTED, Phase, Session, Verdict
from warmd.protocol import work
from warmd.protocol.errors import Problem, quoted
from warmd.protocol.work import AppSpec, Asks, WorkerId

NOBODY_MADE_ROOM = (
    "if this was GPU memory: the app does not say how much it needs, so nobody was parked for it; say so in "
    'its app.toml, as in gpu = "20GB"'
)


def app_found(book: Book, session: Session, asks: Asks) -> bool:
    """Whether a process is to be started for it."""
    if session.phase is not Phase.LOOKING_UP:
        return False
    if (problem := asked.objection(book.limits, asks)) is not None:
        fail(book, session, problem.code, problem.message)
        return False
    asked.apply(book, session, asks)
    if session.pool is not None:
        session.pool.found = True
    for job in session.queue:
        book.accept(job)
    return True


def begin(book: Book, session: Session) -> None:
    """It has its place: from now on its start counts."""
    book.move(session, Phase.STARTING)
    session.spawn_ordered = book.now
    book.deadlines.set(("start", session.id), book.now + session.start_seconds)


def spawn(book: Book, session: Session, spec: AppSpec, reason: str = "") -> None:
    """Order a process of its own; `reason`: why it is no fork."""
    worker = take_worker(book, session)
    session.origin = f"spawn ({reason})" if reason else "spawn"
    setup, pickled = session.setup, session.pickled
    book.emit(fx.Spawn(worker, session.id, spec, session.env, setup, pickled, session.gpus))


def take_worker(book: Book, session: Session) -> WorkerId:
    """The number of the process that is to be the session's."""
    session.worker = worker = book.next_worker()
    book.workers[worker] = session
    return worker


def leave_worker(book: Book, session: Session) -> None:
    """There is no such process, and the session's start goes on."""
    assert session.worker is not None
    del book.workers[session.worker]
    book.emit(fx.Forget(session.worker, session.id))
    session.worker = None


def app_missing(book: Book, session: Session, problem: Problem) -> None:
    if session.phase is Phase.LOOKING_UP:
        fail(book, session, problem.code, problem.message, **problem.details)


def spawned(book: Book, session: Session, pid: int) -> None:
    session.pid = pid
    if session.kill_wanted:
        stopping.kill(book, session)


def spawn_failed(book: Book, session: Session, message: str) -> None:
    """No process came to be, so there is no exit or tree to wait for."""
    session.exited = session.tree_gone = session.kill_ordered = True
    if session.phase is not Phase.STOPPING:
        fail(book, session, "START_FAILED", f"the process could not be started: {message}")
    stopping.bury_if_over(book, session)


def ready(book: Book, session: Session, said: work.Ready) -> None:
    if session.phase is not Phase.STARTING:
        return
    book.deadlines.drop(("start", session.id))
    book.started(session)
    session.ready_at = book.now
    session.functions = tuple(said.functions)
    session.on_cancel = said.on_cancel
    session.reloads = said.reloads
    session.imports_seconds += said.imports_seconds  # beside the template's, if it waited for that
    session.setup_seconds = said.setup_seconds
    inside = session.imports_seconds + said.setup_seconds
    session.spawn_seconds = max(0.0, book.now - session.spawn_ordered - inside)
    if session.tenancy is not None:
        session.tenancy.resident_since = session.tenancy.full_since = book.now
    serving.serve_next(book, session)


def failed(book: Book, session: Session, said: work.StartFailed) -> None:
    """The worker says that importing the app, its `prepare` or its `setup` raised."""
    if session.phase is Phase.STARTING:
        what = "importing the app" if said.phase == "imports" else said.phase
        text = f"{what} failed: {said.type}: {said.message}"
        if "OutOfMemory" in said.type and book.gpus.known and _has_not_said(session):
            text += f" ({NOBODY_MADE_ROOM})"
        fail(book, session, "START_FAILED", text, type=said.type, traceback=said.traceback)


def _has_not_said(session: Session) -> bool:
    return session.tenancy is None or session.tenancy.ask is None


def overdue(book: Book, session: Session) -> None:
    seconds = session.start_seconds
    fail(book, session, "TIMEOUT", f"the start took longer than start_timeout ({seconds:g} s)", limit=seconds)


def fail(book: Book, session: Session, code: str, message: str, **details: object) -> None:
    """The session never came up: its waiting calls get the reason, its process goes."""
    app = quoted(session.app.name, 300)
    text = f"app {app} did not start: {message}" if code != "APP_NOT_FOUND" else message
    stopping.begin(book, session, Verdict("died", text))
    text = stopping.with_output(text, details)
    if session.pool is not None:
        pools.start_failed(book, session.pool, code, text, **details)
    else:
        book.fail_queue(session.queue, code, text, **details)
    stopping.kill(book, session)


def give_up_unwanted(book: Book, session: Session) -> None:
    """The last call left the queue unserved: end a start that nobody waits for any more.

    One that is parked, and was to come back for it, rests on.
    """
    if session.phase is Phase.PARKED and session.pool is None:
        book.rest(session)
    if session.phase in (Phase.PARKING, Phase.UNPARKING):
        session.idle_since = book.now
    if session.phase in NOT_STARTED:
        stopping.begin(book, session, Verdict("ended", "nobody waited for its start any more"))
        stopping.kill(book, session)
