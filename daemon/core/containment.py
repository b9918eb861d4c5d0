"""When a rule fails, what it dealt with is given up, and everything else goes on.

A rule that raises is a fault of ours, and it may have stopped half way.  So the session that it dealt
with is not trusted any more: its calls are answered with INTERNAL, and its process is killed.  A call
that only waited is answered alone.  Even so no call is left without an outcome.
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

from warmd.daemon.core import clients, parking, readers, stopping, templates
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.book import Book
from warmd.daemon.core.invariants import TIMERS_OF_TEMPLATES
from warmd.daemon.core.session import Job, Phase, Session, Template, Verdict
from warmd.protocol.errors import Problem, Ran
from warmd.protocol.messages import CallId, ClientId, Failure, Result, SessionId
from warmd.protocol.work import WorkerId

REQUESTS = (
    ev.KeepaliveArrived,
    ev.HoldArrived,
    ev.EndArrived,
    ev.WatchArrived,
    ev.ParkArrived,
    ev.UnparkArrived,
)
TIMERS_OF_SESSIONS = ("start", "idle", "lifetime", "finish", "room", "move")


def contain(book: Book, event: ev.Event, error: Exception) -> None:
    """Answer and end whatever the rule for `event` dealt with when it raised `error`."""
    why = f"the daemon failed on it: {str(error) or type(error).__name__:.300}; its log says more"
    match event:
        case ev.CallArrived(client=client, call=call):
            if call.id in book.jobs:
                _give_up_call(book, book.jobs[call.id], why)
            else:
                _refuse_call(book, client, call.id, why)
        case ev.CancelArrived(client=client, call=id) | ev.CreditArrived(client=client, call=id):
            _give_up_call(book, book.jobs.get(id), why)
            book.keep.detach(client, id)
            book.watchers.leave(client, id)
        case ev.StopArrived(call=id):
            _give_up_call(book, book.jobs.get(id), why)
        case ev.AttachArrived(client=client, attach=attach):
            book.keep.detach(client, attach.id)
            _refuse(book, client, attach.id, why)
        case _ if isinstance(event, REQUESTS):
            _refuse(book, event.client, event.request, why)
        case ev.AppFound(session=id) | ev.AppMissing(session=id):
            _give_up(book, book.sessions.get(id), why)
        case ev.ClientBehind(client=client) | ev.ClientCaughtUp(client=client):
            for job in [job for job in book.jobs_of.get(client, {}).values() if job.window is not None]:
                _give_up_call(book, book.jobs.get(job.id), why)
        case ev.TimePassed():
            _contain_timer(book, why)
        case ev.GpusSeen(look=look):
            book.gpus.answered_look = max(book.gpus.answered_look, look)
            book.gpus.stirred = True
        case ev.DrainArrived():
            _give_up_all(book, why)
        case ev.ClientInside(client=client):
            book.inside.pop(client, None)
        case ev.ClientGone(client=client):
            _forget_client(book, client, why)
        case _:
            _contain_news_of_worker(book, event, why)


def _contain_timer(book: Book, why: str) -> None:
    kind, subject = book.due or ("", None)
    if kind == "drain":
        _give_up_all(book, why)
    elif kind in TIMERS_OF_TEMPLATES:
        _give_up_template(book, book.template_workers[cast("WorkerId", subject)], why)
    elif kind in TIMERS_OF_SESSIONS:
        _give_up(book, book.sessions.get(cast("SessionId", subject)), why)
    elif kind == "kept" and subject in book.keep.ended:
        book.keep.overdue(cast("CallId", subject))
    elif kind == "unserved":
        book.keep.give_up_next(why)
    elif kind == "gpus":
        book.gpus.stirred = True
    elif kind == "behind" and subject in book.behind:
        _give_up_reader(book, cast("ClientId", subject), why)
    else:
        _give_up_call(book, book.jobs.get(cast("CallId", subject)), why)


def _contain_news_of_worker(book: Book, event: ev.AboutWorker, why: str) -> None:
    session = book.workers.get(event.worker)
    if session is None:
        _contain_news_of_template(book, event, why)
        return
    # What has happened to the process has happened, whatever became of the rule about it.
    match event:
        case ev.WorkerSpawned(pid=pid):
            session.pid = pid
            templates.settle(book, session)
        case ev.SpawnFailed():
            session.exited = session.tree_gone = session.kill_ordered = True
            templates.settle(book, session)
        case ev.WorkerExited():
            session.exited = True
        case ev.TreeGone():
            session.tree_gone = True
    _give_up(book, session, why)
    stopping.bury_if_over(book, session)


def _contain_news_of_template(book: Book, event: ev.AboutWorker, why: str) -> None:
    template = book.template_workers.get(event.worker)
    if template is None:
        return
    match event:
        case ev.WorkerSpawned(pid=pid):
            template.pid = pid
        case ev.SpawnFailed():
            template.exited = template.tree_gone = template.kill_ordered = True
        case ev.WorkerExited():
            template.exited = True
        case ev.TreeGone():
            template.exited = template.tree_gone = True
    _give_up_template(book, template, why)


def _give_up_template(book: Book, template: Template, why: str) -> None:
    """All that hangs on it is given up; of a fork that is on its way its own news will tell."""
    for session in [*template.waiting, *template.forking.values()]:
        _give_up(book, session, why)
    book.left_templates = [one for one in book.left_templates if one is not template]
    if template.exited:
        templates.fail_starts(book, template, why)
    else:
        templates.retire(book, template)


def _give_up_call(book: Book, job: Job | None, why: str) -> None:
    if job is None:
        return
    if job.ordinal and job.session is not None:
        _give_up(book, job.session, why)
    else:
        # The rule may have failed before it put the call there.
        with suppress(ValueError):
            job.queue.remove(job)
        book.fail(job, "INTERNAL", why)
        clients.waits_no_more(book, job)


def _forget_client(book: Book, client: ClientId, why: str) -> None:
    """Nobody is there to be answered: what waits is dropped, what runs ends by itself."""
    book.keep.leave(client)
    book.watchers.client_gone(client)
    book.inside.pop(client, None)
    book.behind.pop(client, None)
    book.deadlines.drop(("behind", client))
    for job in [job for job in book.jobs_of.get(client, {}).values() if job.kept is None]:
        job.orphan = True
        if job.session is None or not job.ordinal:
            _give_up_call(book, job, why)
        else:
            # Its worker may have been paused for this client, and nobody else would listen to it again.
            readers.settle(book, job.session)


def _give_up(book: Book, session: Session | None, why: str) -> None:
    if session is None or session.phase is Phase.GONE:
        return
    session.running = None
    session.ahead.clear()
    if session.pool is None:
        session.queue.clear()
    for job in [job for job in book.jobs.values() if job.session is session]:
        book.fail(job, "INTERNAL", why, "maybe" if job.ordinal else "no")
    if session.phase is not Phase.STOPPING:
        stopping.begin(book, session, Verdict("died", why))
    stopping.kill(book, session)


def _give_up_reader(book: Book, client: ClientId, why: str) -> None:
    """The sessions that run its calls may be paused, and nothing would let them go on."""
    book.behind[client].given_up = True
    for job in list(book.jobs_of.get(client, {}).values()):
        _give_up_call(book, book.jobs.get(job.id), why)


def _give_up_all(book: Book, why: str) -> None:
    book.draining = True
    for session in list(book.sessions.values()):
        _give_up(book, session, why)


def _refuse_call(book: Book, client: ClientId, id: CallId, why: str) -> None:
    """A call that is not registered: so it was never sent to a worker."""
    kept = book.keep.calls.get(id)
    if kept is not None and kept.final is None:
        book.keep.end(kept, Failure(id, kept.session, "INTERNAL", why, "no"), book.now)
    else:
        _refuse(book, client, id, why, "no")


def _refuse(book: Book, client: ClientId, id: CallId, why: str, ran: Ran = "maybe") -> None:
    book.watchers.leave(client, id)
    for tenant in book.gpus.tenants.values():
        parking.forget_request(tenant, id)
    if book.ends.pop(id, None) is not None:
        for session in book.sessions.values():
            session.ends = [end for end in session.ends if end.id != id]
    if not any(_answers(effect, id) for effect in book.effects):
        book.refuse(client, id, None, Problem("INTERNAL", why, ran))


def _answers(effect: fx.Effect, id: CallId) -> bool:
    if isinstance(effect, fx.Send):
        return isinstance(effect.message, Result | Failure) and effect.message.id == id
    return isinstance(effect, fx.Answer) and effect.request == id
