"""How a session comes to its end: asked to finish, or killed; then its tree, then its grave.

An orderly end tells the worker to `Finish` and waits `end_grace_seconds` for its exit; whatever is
left then, and after every exit, is killed.  A place in `max_sessions` is free, and an `end` is
answered, only when the worker has exited and no process of its tree is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warmd.daemon.core import effects as fx
from warmd.daemon.core.book import Book
from warmd.daemon.core.session import Job, Phase, Session, Verdict, Withdrawal
from warmd.protocol.work import Finish, Ordinal


def begin(book: Book, session: Session, verdict: Verdict) -> None:
    """The session takes no more calls, for the reason that the verdict gives."""
    session.verdict = verdict
    book.move(session, Phase.STOPPING)


def finish(book: Book, session: Session) -> None:
    """Ask the worker to run `unload` and exit, and kill it if that takes too long."""
    if session.worker is None or session.finish_told or session.kill_wanted:
        return
    session.finish_told = True
    reason = "stopped" if book.draining or session.verdict is None else session.verdict.state
    parked = session.tenancy is not None and session.tenancy.with_driver
    book.emit(fx.Tell(session.worker, Finish(reason, parked)))
    book.deadlines.set(("finish", session.id), book.now + book.limits.end_grace_seconds)


def kill(book: Book, session: Session) -> None:
    """End the worker and its tree; one that is still being spawned, as soon as it exists."""
    session.kill_wanted = True
    book.deadlines.drop(("finish", session.id))
    if session.worker is None:
        book.move(session, Phase.GONE)
    elif not session.kill_ordered and (session.pid is not None or session.exited):
        session.kill_ordered = True
        book.emit(fx.Kill(session.worker))


def die(
    book: Book,
    session: Session,
    reason: str,
    code: str = "WORKER_DIED",
    message: str | None = None,
    **details: Any,
) -> None:
    """The worker is lost or must go: answer all who wait for it, and end its tree.

    The running call gets `code` and `message`, by default the reason.
    """
    if session.phase is not Phase.STOPPING:
        begin(book, session, Verdict("died", reason))
    job, session.running = session.running, None
    if job is not None:
        book.fail(job, code, with_output(message or reason, details), "maybe", **details)
    fail_entered(book, session)
    fail_waiting(book, session, reason, **details)
    kill(book, session)


def with_output(reason: str, details: Mapping[str, Any]) -> str:
    """`reason` and, where they are known, the last lines that the worker wrote."""
    tail = details.get("log_tail")
    return f"{reason}; its last output was:\n{tail}" if tail else reason


def fail_waiting(book: Book, session: Session, reason: str, **details: Any) -> None:
    """The calls behind the one that ran; those of a pool go on waiting for another worker."""
    if session.pool is None:
        text = f"session {session.id} has died before this call could run: {reason}"
        book.fail_queue(session.queue, "SESSION_DIED", text, reason=reason, **details)


def fail_entered(book: Book, session: Session) -> None:
    """Calls that were withdrawn too late, of a worker that is being killed for the one before them.

    Its end would answer them too, but a process that cannot be killed has none.
    """
    for job in list(session.ahead):
        if job.entered and job.withdrawal is not None:
            session.ahead.remove(job)
            _fail_cut_off(book, job, job.withdrawal)


def _fail_cut_off(book: Book, job: Job, withdrawal: Withdrawal) -> None:
    # A session that is not there any more would say that the call has not run.
    code = "WORKER_DIED" if withdrawal.code == "SESSION_EXPIRED" else withdrawal.code
    book.fail(job, code, withdrawal.ran, "maybe")


def put_back_unentered(session: Session, job: Job, entered: Ordinal) -> None:
    """The worker was given the running call, but died before it turned to it: it only waited."""
    if job.ladder is None and job.ordinal > entered:
        session.running = None
        session.ahead.appendleft(job)


def fail_ahead(book: Book, session: Session, reason: str, entered: Ordinal | None, **details: Any) -> None:
    """The worker is gone: what it was sent before its turn has not run, or was cut off.

    The latter where the worker turned to it in the moment before it was killed for the call before.
    """
    text = f"session {session.id} has died before this call could run: {reason}"
    while session.ahead:
        job = session.ahead.popleft()
        cut_off = entered is None or job.ordinal <= entered
        if job.withdrawal is not None and cut_off:
            _fail_cut_off(book, job, job.withdrawal)
        elif job.withdrawal is not None:
            book.fail(job, job.withdrawal.code, job.withdrawal.waited)
        elif cut_off:
            book.fail(job, "WORKER_DIED", with_output(reason, details), "maybe", **details)
        else:
            book.fail(job, "SESSION_DIED", text, reason=reason, **details)


def bury_if_over(book: Book, session: Session) -> None:
    if session.exited and session.tree_gone:
        book.move(session, Phase.GONE)
