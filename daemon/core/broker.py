"""The rule book's one door: events and the time go in, effects come out.

`handle` is the only way to change anything, so the same events at the same times always give the
same effects.  The caller performs the effects in their order, keeps a timer for `deadline()`, and
hands in `TimePassed` when it is due; calling early or once too often does no harm.

Where the rules are:

    admission   a call arrives: is it sound, where does it belong, is there room
    templates   where a start gets its process from
    starting    from a looked-up app to a ready worker
    serving     one call after another
    ahead       calls sent before their turn
    chains      sessions that would wait for each other in a circle
    readers     clients that do not read what they are sent
    clients     credits, cancels, clients that leave, deadlines of calls
    detached    calls that outlive their clients; `kept` is what is kept of them
    watching    who hears how far calls are
    ladder      how a running call is stopped
    gpus        what there is of GPU memory, and whose it is
    placement   where a session's could go, and who would have to go for it
    rooms       the line for it: who starts, or comes back, and when
    parking     how it goes to host memory, and comes back
    lifetimes   sessions expire: idle, or too old
    ending      sessions end: on request, dead, with the daemon
    stopping    the worker and its tree
    pools       workers shared by calls without a session
    containment what is done when one of these fails
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from warmd.daemon.core import (
    admission,
    clients,
    detached,
    ending,
    ladder,
    lifetimes,
    parking,
    policy,
    pools,
    readers,
    rooms,
    serving,
    standing,
    starting,
    stopping,
    templates,
)
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.book import Book
from warmd.daemon.core.containment import contain
from warmd.daemon.core.invariants import check
from warmd.daemon.core.policy import Limits
from warmd.daemon.core.session import Session, Template
from warmd.daemon.core.standing import CallStanding, Standing
from warmd.daemon.core.views import (
    CallView,
    SessionView,
    TemplateView,
    Totals,
    call_view_of,
    kept_view_of,
    view_of_template,
)
from warmd.protocol import gpus, work
from warmd.protocol.errors import Problem
from warmd.protocol.messages import CallId, ClientId, SessionId

Rule: TypeAlias = Callable[[Book, Any], None]


class Broker:
    """Decides about every session and call of a daemon; does nothing itself."""

    def __init__(self, limits: Limits, started: float = 0.0) -> None:
        """`started`: when the daemon did, in seconds of the clock that events are told by."""
        self._book = Book(limits, started)

    def handle(self, event: ev.Event, now: float) -> list[fx.Effect]:
        """What is to be done about `event`, which happened by `now` (monotonic seconds)."""
        book = self._book
        book.now = now
        _RULES[type(event)](book, event)
        return self._decided()

    def contain(self, event: ev.Event, error: Exception) -> list[fx.Effect]:
        """What is to be done after `handle` has raised `error`, which is a fault of the rules.

        What was decided before the fault is among it.
        """
        contain(self._book, event, error)
        return self._decided()

    def _decided(self) -> list[fx.Effect]:
        book = self._book
        while book.untended or book.gpus.stirred:
            _tend_pools(book)
            if book.gpus.stirred:
                rooms.tend(book)
        if book.left_templates:
            templates.give_up_unwanted(book)
        if book.draining and not book.stopped:
            _stop_when_empty(book)
        effects, book.effects = book.effects, []
        return effects

    def deadline(self) -> float | None:
        """When `TimePassed` is due, or None when nothing waits for time to pass."""
        return self._book.deadlines.next()

    def check(self) -> None:
        """Raise AssertionError, with the reason, if anything in the book contradicts itself."""
        check(self._book)

    def view(self, session: str) -> SessionView | None:
        """One session by id, also one that is gone and still remembered."""
        live = self._book.sessions.get(SessionId(session))
        return self._book.view(live) if live else self._book.dead.get(SessionId(session))

    def views(self, include_dead: bool = False) -> list[SessionView]:
        """All sessions; those that are gone come first, the oldest before all."""
        live = [self._book.view(session) for session in self._book.sessions.values()]
        return [*self._book.dead.values(), *live] if include_dead else live

    def gone(self) -> Iterator[SessionView]:
        """Those that are gone and still remembered, the latest first."""
        return reversed(self._book.dead.values())

    def templates(self) -> list[TemplateView]:
        """Those that have a process, or soon will."""
        return [view_of_template(template) for template in self._book.template_workers.values()]

    def call_view(self, call: str) -> CallView | None:
        """A call by its id in hex; None once it is answered and not, or no longer, kept, or for an odd id."""
        id = _call_id(call)
        job, kept = self._book.jobs.get(id), self._book.keep.calls.get(id)
        if job is not None:
            return call_view_of(job)
        return kept_view_of(kept) if kept is not None else None

    def detached_views(self) -> list[CallView]:
        """The detached calls under way and the newest that are kept, in the order of their arrival."""
        keep = self._book.keep
        listed = set(islice(reversed(keep.ended), policy.LISTED))
        ids = [id for id in keep.calls if id in listed or id not in keep.ended]
        return [view for id in ids if (view := self.call_view(id.hex()))]

    def missing_call(self, call: str) -> Problem:
        """Why there is no view of a call."""
        return self._book.keep.missing(_call_id(call), self._book.now)

    def missing_session(self, session: SessionId) -> Problem:
        """Why there is no view of a session."""
        return self._book.unknown(session)

    def standing(self, session: SessionId) -> Standing | None:
        """How a session stands that is not gone."""
        return standing.of_session(self._book, session)

    def call_standing(self, call: CallId) -> CallStanding | None:
        """How a call stands that is under way."""
        return standing.of_call(self._book, call)

    def open_calls(self) -> list[CallId]:
        return list(self._book.jobs)

    def refusal(self, client: ClientId) -> Problem | None:
        """Why the client can have nothing more: it does not read what it is sent."""
        return readers.refusal(self._book, client)

    def totals(self) -> Totals:
        book = self._book
        running = sum(session.running is not None for session in book.sessions.values())
        return Totals(
            len(book.sessions),
            running,
            len(book.jobs) - running,
            book.held.total,
            len(book.behind),
            book.credits_dropped,
            book.draining,
        )


def _call_id(text: str) -> CallId:
    """The id of its hex digits; for a text that is none, one that no call has."""
    try:
        return CallId(bytes.fromhex(text))
    except ValueError:
        return CallId(b"")


def _about_session(rule: Callable[[Book, Session, Any], None]) -> Rule:
    """A rule about a session that may be gone by the time the event comes: then it is dropped."""

    def apply(book: Book, event: ev.AppFound | ev.AppMissing) -> None:
        session = book.sessions.get(event.session)
        if session is not None:
            rule(book, session, event)

    return apply


def _about_worker(
    rule: Callable[[Book, Session, Any], None],
    rule_of_template: Callable[[Book, Template, Any], None] | None = None,
) -> Rule:
    """The same for a worker, or a template; word from an incarnation that is gone means nothing."""

    def apply(book: Book, event: Any) -> None:
        session = book.workers.get(event.worker)
        if session is not None:
            rule(book, session, event)
            return
        template = book.template_workers.get(event.worker)
        if template is not None and rule_of_template is not None:
            rule_of_template(book, template, event)

    return apply


_WORDS: Mapping[type, Callable[[Book, Session, Any], None]] = {
    work.Ready: starting.ready,
    work.StartFailed: starting.failed,
    work.Yielded: serving.yielded,
    ev.YieldedMany: serving.yielded_many,
    work.Returned: serving.returned,
    work.Raised: serving.raised,
    work.Interrupted: serving.interrupted,
    work.Declined: serving.declined,
    work.Progressed: serving.progressed,
    work.Reloaded: serving.reloaded,
    work.NoFunction: serving.no_function,
    gpus.Offloaded: parking.offloaded,
    gpus.Checkpointable: parking.checkpointable,
    gpus.KeepsMemory: parking.keeps_memory,
    gpus.ParkFailed: parking.park_failed,
    gpus.Unparked: parking.unparked,
}

_WORDS_OF_TEMPLATES: Mapping[type, Callable[[Book, Template, Any], None]] = {
    work.Prepared: templates.prepared,
    work.StartFailed: templates.failed,
    work.Outdated: templates.outdated,
}

_IMPOSSIBLE: Mapping[type, Callable[[Session, Any], bool]] = {
    work.Yielded: serving.miscounts,
    ev.YieldedMany: serving.miscounts,
    work.Returned: serving.miscounts,
    work.NoFunction: serving.has_all_functions,
    work.Raised: serving.says_too_much,
    work.Declined: serving.declines_too_late,
    work.StartFailed: serving.says_too_much,
}


def _worker_said(book: Book, event: ev.WorkerSaid) -> None:
    session = book.workers.get(event.worker)
    if session is None and (template := book.template_workers.get(event.worker)) is not None:
        _template_said(book, template, event.message)
        return
    rule = _WORDS.get(type(event.message))
    if session is None or session.mistrusted:
        return
    cannot_be = _IMPOSSIBLE.get(type(event.message))
    if rule is None or (cannot_be is not None and cannot_be(session, event.message)):
        session.mistrusted = True
        ending.link_lost(book, session, _nonsense(event.message))
    else:
        rule(book, session, event.message)


def _template_said(book: Book, template: Template, message: ev.Word) -> None:
    rule = _WORDS_OF_TEMPLATES.get(type(message))
    too_much = isinstance(message, work.StartFailed) and serving.says_too_much(None, message)
    if rule is None or too_much:
        templates.link_lost(book, template, _nonsense(message))
    else:
        rule(book, template, message)


def _nonsense(message: ev.Word) -> str:
    return f"spoke nonsense on its link (a {type(message).__name__} that does not fit)"


def _time_passed(book: Book, _: ev.TimePassed) -> None:
    while (key := book.deadlines.pop_due(book.now)) is not None:
        book.due = key
        kind, subject = key
        _TIMERS[kind](book, subject)
    book.due = None


_TIMERS: Mapping[str, Callable[[Book, Any], None]] = {
    "call": lambda book, call: clients.call_overdue(book, book.jobs[call]),
    "ladder": lambda book, call: ladder.step_due(book, book.jobs[call]),
    "behind": lambda book, client: readers.behind_too_long(book, client),
    "left": lambda book, call: clients.abandoned_too_long(book, book.jobs[call]),
    "import": lambda book, worker: templates.overdue(book, book.template_workers[worker]),
    "fork": lambda book, worker: templates.fork_overdue(book, book.template_workers[worker]),
    "template": lambda book, worker: templates.unused_too_long(book, book.template_workers[worker]),
    "start": lambda book, session: starting.overdue(book, book.sessions[session]),
    "room": lambda book, session: rooms.overdue(book, book.sessions[session]),
    "move": lambda book, session: parking.overdue(book, book.sessions[session]),
    "gpus": lambda book, _: rooms.look_due(book),
    "idle": lambda book, session: lifetimes.idled_too_long(book, book.sessions[session]),
    "lifetime": lambda book, session: lifetimes.lived_too_long(book, book.sessions[session]),
    "finish": lambda book, session: stopping.kill(book, book.sessions[session]),
    "drain": lambda book, _: ending.drain_over(book),
    "kept": lambda book, call: book.keep.overdue(call),
    "unserved": lambda book, _: book.keep.go_on(),
}

_RULES: Mapping[type, Rule] = {
    ev.CallArrived: admission.call_arrived,
    ev.CreditArrived: clients.credit_arrived,
    ev.CancelArrived: clients.cancel_arrived,
    ev.AttachArrived: detached.attach_arrived,
    ev.WatchArrived: clients.watch_arrived,
    ev.StopArrived: clients.stop_arrived,
    ev.ClientInside: clients.client_inside,
    ev.ClientGone: clients.client_gone,
    ev.ClientBehind: readers.client_behind,
    ev.ClientCaughtUp: readers.client_caught_up,
    ev.KeepaliveArrived: lifetimes.keepalive_arrived,
    ev.HoldArrived: lifetimes.hold_arrived,
    ev.EndArrived: ending.end_arrived,
    ev.DrainArrived: ending.drain_arrived,
    ev.AppFound: _about_session(rooms.app_found),
    ev.AppMissing: _about_session(lambda book, s, event: starting.app_missing(book, s, event.problem)),
    ev.WorkerSpawned: _about_worker(
        lambda book, s, event: templates.worker_spawned(book, s, event.pid),
        lambda book, t, event: templates.spawned(book, t, event.pid),
    ),
    ev.SpawnFailed: _about_worker(
        lambda book, s, event: templates.worker_not_spawned(book, s, event.message),
        lambda book, t, event: templates.spawn_failed(book, t, event.message),
    ),
    ev.WorkerSaid: _worker_said,
    ev.LinkLost: _about_worker(
        lambda book, s, event: ending.link_lost(book, s, event.message),
        lambda book, t, event: templates.link_lost(book, t, event.message),
    ),
    ev.WorkerExited: _about_worker(ending.worker_exited, templates.exited),
    ev.TreeGone: _about_worker(
        lambda book, s, event: ending.tree_gone(book, s, event.stuck),
        lambda book, t, event: templates.tree_gone(book, t, event.stuck),
    ),
    ev.StackCaptured: _about_worker(
        lambda book, s, event: ladder.stack_captured(book, s, event.ordinal, event.stack)
    ),
    ev.WithdrawalSettled: _about_worker(
        lambda book, s, event: serving.withdrawal_settled(book, s, event.ordinal, event.entered)
    ),
    ev.GpusSeen: rooms.seen,
    ev.Checkpointed: _about_worker(parking.checkpointed),
    ev.Restored: _about_worker(parking.restored),
    ev.MoveFailed: _about_worker(parking.move_failed),
    ev.ParkArrived: parking.park_arrived,
    ev.UnparkArrived: parking.unpark_arrived,
    ev.TimePassed: _time_passed,
}


def _tend_pools(book: Book) -> None:
    untended, book.untended = book.untended, {}
    for pool in untended.values():
        pools.tend(book, pool)


def _stop_when_empty(book: Book) -> None:
    """A process that cannot be killed holds its place, but not the daemon."""
    if all(session.tree_gone for session in book.sessions.values()) and not book.template_workers:
        book.stopped = True
        book.deadlines.drop(("drain", None))
        book.deadlines.drop(("gpus", None))
        book.keep.close("the daemon was stopped, and what it kept is gone with it")
        for client in list(book.behind):
            readers.client_gone(book, client)
        book.emit(fx.Stopped())
