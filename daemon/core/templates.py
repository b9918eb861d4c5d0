"""Templates: one process imports an app, and every start of it is a fork of that.

What a start does once its app is found, and it has its place on a GPU where it needs one:

1. templates are off, or forks of this app are known to be unsound: it is spawned.
2. there is one of another place or interpreter: it is retired, as if it had not been there.
3. one is up: it is forked.  It looks first whether the app's files are still what it has imported; if
   not it says so, is retired, and the start begins anew.
4. one is importing: the start waits, as do all that come meanwhile.  One import serves them all.
5. there is none, but a place for one, if need be that of the least recently used: it is prepared,
   and the start waits for it.  So nothing is imported for a start that may never come.
6. no place: it is spawned.

What becomes of the import:

    up           those who wait are forked, in their order
    unforkable   the process becomes the worker of the first who waits, so nothing was in vain; the
                 others are spawned, and so is each later start, and all that have a place on a GPU
    fails, dies  those who wait share the failure
    unwanted     nobody waits for it any more: it is killed

A template ends when it was not forked for `template_seconds`, when all of them need more than
`template_bytes` and it is the least recently used, when it does not answer, and with the daemon.  One
that is to end finishes the forks that are under way: their processes could not be told from its own
before.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from warmd.daemon.core import effects as fx
from warmd.daemon.core import policy, starting
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import WorkerExited
from warmd.daemon.core.exits import described
from warmd.daemon.core.session import Phase, Session, Template, TemplateKey
from warmd.protocol import work
from warmd.protocol.messages import SessionId
from warmd.protocol.work import AppSpec

NO_ROOM = "there was no place for a template (max_templates)"


def start(book: Book, session: Session, spec: AppSpec) -> None:
    """Get the session a process."""
    key = session.template_key
    template = book.templates.get(key)
    if template is not None and template.up and template.spec != spec:
        retire(book, template)
        template = None
    if not (book.limits.max_templates and spec.asks.template):
        starting.spawn(book, session, spec)
    elif reason := _unforkable(book, key):
        starting.spawn(book, session, spec, reason)
    elif template is not None and template.up:
        _fork(book, template, session)
    elif template is not None or (template := _prepare(book, session, spec)) is not None:
        session.awaits = template
        template.waiting.append(session)
        book.emit(fx.ShareLog(session.id, template.id))
    else:
        starting.spawn(book, session, spec, NO_ROOM)


def _unforkable(book: Book, key: TemplateKey) -> str:
    """Why forks of the app would not be sound, as far as is known; its code may be better by now."""
    reason, until = book.unforkable.get(key, ("", 0.0))
    return reason if book.now < until else ""


def _prepare(book: Book, session: Session, spec: AppSpec) -> Template | None:
    """A new template, if there is a place for it."""
    if len(book.templates) >= book.limits.max_templates and not _make_place(book):
        return None
    worker = book.next_worker()
    name = SessionId(f"tmpl_{worker:08x}".ljust(37, "0"))
    template = Template(name, session.template_key, spec, worker, book.now)
    book.templates[template.key] = book.template_workers[worker] = template
    book.deadlines.set(("import", worker), book.now + session.start_seconds)
    book.emit(fx.Prepare(worker, name, spec, session.env, session.pickled))
    return template


def _make_place(book: Book) -> bool:
    """Retire the template that was not used for longest; False where all are importing or forking."""
    free = [template for template in book.templates.values() if template.up and not template.forking]
    if not free:
        return False
    retire(book, min(free, key=lambda template: template.used))
    return True


def _fork(book: Book, template: Template, session: Session, whole: bool = False) -> None:
    worker = starting.take_worker(book, session)
    if not whole:
        session.origin = "fork"
        session.forked_from = template
        template.forking[worker] = session
        template.forks += 1
        _touch(book, template)
        book.deadlines.set(("fork", template.worker), book.now + policy.FORK_SECONDS)
    setup, gpus = session.setup, session.gpus
    book.emit(fx.Fork(worker, session.id, template.worker, template.spec, setup, whole, gpus))


def _touch(book: Book, template: Template) -> None:
    template.used = book.now
    if book.limits.template_seconds < inf:
        book.deadlines.set(("template", template.worker), book.now + book.limits.template_seconds)


# What becomes of the import


def prepared(book: Book, template: Template, said: work.Prepared) -> None:
    if template.up or template.retired:
        return
    book.deadlines.drop(("import", template.worker))
    template.imports_seconds, template.memory_bytes = said.imports_seconds, said.memory_bytes
    template.unforkable = said.unforkable
    if template.unforkable:
        _remember_unforkable(book, template)
        _give_away(book, template)
        return
    template.up = True
    _touch(book, template)
    for session in _release_waiting(book, template):
        _fork(book, template, session)
    _keep_within_memory(book, template)


def _remember_unforkable(book: Book, template: Template) -> None:
    book.unforkable[template.key] = template.unforkable, book.now + policy.UNFORKABLE_SECONDS
    if len(book.unforkable) > policy.REMEMBERED_UNFORKABLE:
        book.unforkable.popitem(last=False)


def _release_waiting(book: Book, template: Template) -> list[Session]:
    waiting, template.waiting = template.waiting, []
    for session in waiting:
        session.awaits = None
        session.imports_seconds = min(template.imports_seconds, book.now - session.spawn_ordered)
    return waiting


def _give_away(book: Book, template: Template) -> None:
    """It becomes the worker of the first who waits, as soon as its pid is known."""
    if template.pid is None:
        return
    first, *others = waiting = _release_waiting(book, template)
    if first.gpus is not None:
        # Its import may have chosen a GPU already, and not the one that is to be its.
        retire(book, template)
        for session in waiting:
            session.imports_seconds = 0.0
            starting.spawn(book, session, template.spec, template.unforkable)
        return
    retire(book, template, whole=True)
    _fork(book, template, first, whole=True)
    first.origin = f"spawn ({template.unforkable})"
    book.forget_template(template)
    for session in others:
        session.imports_seconds = 0.0
        starting.spawn(book, session, template.spec, template.unforkable)


def _keep_within_memory(book: Book, newest: Template) -> None:
    while sum(template.memory_bytes for template in book.templates.values()) > book.limits.template_bytes:
        others = [one for one in book.templates.values() if one.up and one is not newest]
        retire(book, min(others, key=lambda one: one.used) if others else newest)
        if not others:
            return


def failed(book: Book, template: Template, said: work.StartFailed) -> None:
    """Importing the app raised."""
    waiting = _release_waiting(book, template)
    retire(book, template)
    for session in waiting:
        starting.failed(book, session, said)


def overdue(book: Book, template: Template) -> None:
    """The import takes longer than a start may."""
    waiting = _release_waiting(book, template)
    retire(book, template)
    for session in waiting:
        starting.overdue(book, session)


def give_up_unwanted(book: Book) -> None:
    """End the imports that the last who waited for has left."""
    left, book.left_templates = book.left_templates, []
    for template in left:
        if not (template.up or template.waiting or template.retired):
            retire(book, template)


# Its process


def spawned(book: Book, template: Template, pid: int) -> None:
    template.pid = pid
    if template.unforkable and not template.retired:
        _give_away(book, template)
    else:
        _kill_if_free(book, template)


def spawn_failed(book: Book, template: Template, message: str) -> None:
    template.exited = template.tree_gone = template.kill_ordered = True
    fail_starts(book, template, f"the process could not be started: {message}")


def worker_spawned(book: Book, session: Session, pid: int) -> None:
    settle(book, session)
    starting.spawned(book, session, pid)


def worker_not_spawned(book: Book, session: Session, message: str) -> None:
    settle(book, session)
    starting.spawn_failed(book, session, message)


def outdated(book: Book, template: Template, said: work.Outdated) -> None:
    """It has not forked, since the app's files have changed: the start that it was for begins anew."""
    session = template.forking.get(said.worker)
    retire(book, template)
    if session is None:
        return
    if session.phase is Phase.STARTING:
        settle(book, session)
        starting.leave_worker(book, session)
        start(book, session, template.spec)
    else:
        worker_not_spawned(book, session, "nobody waits for it any more")


def settle(book: Book, session: Session) -> None:
    """The process of a fork is there, or will not be."""
    template, session.forked_from = session.forked_from, None
    if template is not None:
        assert session.worker is not None, "a fork has a number before it has a process"
        del template.forking[session.worker]
        if not template.forking:
            book.deadlines.drop(("fork", template.worker))
        _kill_if_free(book, template)


def fork_overdue(book: Book, template: Template) -> None:
    """It is stopped or hangs: its end fails the forks that it did not make."""
    retire(book, template, at_once=True)


def unused_too_long(book: Book, template: Template) -> None:
    retire(book, template)


def retire(book: Book, template: Template, *, at_once: bool = False, whole: bool = False) -> None:
    """No more starts from it; it ends when the forks under way are there, or `at_once`, or is given away."""
    if not template.retired:
        template.retired = True
        del book.templates[template.key]
        book.deadlines.drop(("import", template.worker))
        book.deadlines.drop(("template", template.worker))
    if at_once:
        template.doomed = True
        book.deadlines.drop(("fork", template.worker))
    if not whole:
        _kill_if_free(book, template)


def retire_all(book: Book) -> None:
    for template in list(book.templates.values()):
        retire(book, template)


def _kill_if_free(book: Book, template: Template) -> None:
    free = template.doomed or (template.retired and not template.forking)
    if free and not template.kill_ordered and (template.pid is not None or template.exited):
        template.kill_ordered = True
        book.emit(fx.Kill(template.worker))


def link_lost(book: Book, template: Template, message: str) -> None:
    """It speaks nonsense, or has closed its link: nothing more can be had of it.

    Forks under way are told of by its exit.
    """
    waiting = _release_waiting(book, template)
    retire(book, template, at_once=True)
    for session in waiting:
        starting.fail(book, session, "START_FAILED", f"its template {message}")


def exited(book: Book, template: Template, event: WorkerExited) -> None:
    template.exited = True
    how, details = described(event)
    fail_starts(book, template, how, details)


def tree_gone(book: Book, template: Template, stuck: tuple[int, ...]) -> None:
    template.tree_gone = template.exited = True
    fail_starts(book, template, f"its template cannot be killed (stuck in the kernel: pids {stuck})")


def fail_starts(
    book: Book, template: Template, how: str, details: Mapping[str, Any] | None = None
) -> None:
    """There is no process: neither of its own, nor of those that it was to fork."""
    waiting = _release_waiting(book, template)
    forking = list(template.forking.values())
    retire(book, template, at_once=True)
    for session in waiting:
        starting.fail(book, session, "START_FAILED", how, **(details or {}))
    for session in forking:
        # If its process exists after all, the door does not let it in any more, and it ends.
        worker_not_spawned(book, session, f"its template is gone: {how}")
    if template.exited and template.tree_gone:
        book.forget_template(template)
        book.emit(fx.Forget(template.worker, template.id))
