"""The stage of a simulated world: it performs the broker's orders on fakes and checks its promises.

After each event: every order fits the fake that it is for, each call hears a legal sequence and
one final answer in time, order is kept, limits hold, busy is never idle, idle ends when it should.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from typing import Any, Literal
from unittest.mock import patch

from tests.core.cards import OF_CARDS, Cards
from tests.core.fakes import ENDS_OF_CALLS, FakeWorker, Heard, Hold, Reading
from tests.core.keeping import Keeping
from tests.core.nursery import Nursery
from tests.core.reserve import Spares
from warmd.daemon.core import broker as rules
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.book import Book
from warmd.daemon.core.broker import Broker
from warmd.daemon.core.policy import (
    ALWAYS_SENT_BYTES,
    CATCH_UP_SECONDS,
    DETACHED_WINDOW,
    Limits,
)
from warmd.protocol import gpus, work
from warmd.protocol.messages import (
    WINDOW_BYTES,
    Accepted,
    AppRef,
    CallId,
    ClientId,
    Failure,
    Result,
    SessionId,
)
from warmd.protocol.work import AppSpec, Asks, Invoke, WorkerId

OF_PROCESSES = (fx.LookUp, fx.Spawn, fx.Prepare, fx.Fork, fx.Kill, fx.CaptureStack, fx.Withdraw, work.Finish)
EVERYTHING = (*OF_PROCESSES, *OF_CARDS)
FUNCTIONS = ("run", "count", "fail")
STACK = "app.py:12 in run"
PATIENCE_SECONDS = 2.0
"""A call ends within its deadline and this."""
LATE_SECONDS = 0.2
"""How late the clock of these tests may tell the broker that something is due."""


class SabotageError(Exception):
    pass


class Stage(Nursery, Spares, Cards, Keeping):
    """`holds`: types of effects, or `work.Finish`, that the test wants to answer itself."""

    def __init__(
        self, limits: Limits | None = None, holds: Iterable[type] = (), on_cancel: bool = False
    ) -> None:
        self.limits = limits or Limits()
        self.broker = Broker(self.limits)
        self.now = 1000.0
        self.holds = frozenset(holds)
        self.on_cancel = on_cancel
        self.asks = Asks()
        self.lags = False
        """Workers turn to their calls, and their words are read, only when the test says so."""
        self.calls: dict[CallId, Heard] = {}
        self.history: list[Heard] = []
        """Every arrival that was not a repetition, in order."""
        self.readings: dict[tuple[ClientId, CallId], Reading] = {}
        """Readers of detached calls, beside their callers."""
        self.requests: dict[CallId, fx.Answer | Failure | None] = {}
        self.lookups: dict[SessionId, AppRef] = {}
        self.opener: dict[SessionId, Heard] = {}
        """The call at whose arrival each session was opened."""
        self.born: dict[SessionId, float] = {}
        self.hold_of: defaultdict[SessionId, Hold] = defaultdict(Hold)
        self.workers: dict[WorkerId, FakeWorker] = {}
        self.effects: list[tuple[float, fx.Effect]] = []
        self.behind: dict[ClientId, float] = {}
        """Clients that do not read what they are sent, and since when."""
        self.inside: dict[ClientId, str] = {}
        """Clients that are programs inside an app, and in which session."""
        self.stopped = False
        self.drained_by: float | None = None
        """When the last of what runs must have been cancelled."""
        self.sabotage: Literal["early", "late"] | None = None
        """The rule for the next event fails: before it has done anything, or when it has done all."""
        self.faulty = self.was_faulty = False
        self.open_nursery()
        self.open_cards()
        self.spares: dict[str, float] = {}
        self._numbers = 0
        self._answers: deque[ev.Event] = deque()

    def new_id(self) -> CallId:
        self._numbers += 1
        return CallId(self._numbers.to_bytes(16, "big"))

    def _request(self) -> CallId:
        request = self.new_id()
        self.requests[request] = None
        return request

    def _hand_in(self, event: ev.Event) -> list[fx.Effect]:
        if isinstance(event, ev.WorkerExited) and event.worker in self.workers:
            self.workers[event.worker].exit_told = True
            self.leaves_cards(event.worker)
        self.faulty = self.sabotage is not None
        self.was_faulty = self.was_faulty or self.faulty
        effects = self._handled(event)
        self.broker.check()
        if isinstance(event, ev.TimePassed) and not self.faulty:
            due = self.broker.deadline()
            assert due is None or due > self.now, "what was due is still due: the daemon would spin"
        for effect in effects:
            self.effects.append((self.now, effect))
            self._perform(effect)
        self._see_detached_calls_end()
        self._check_promises()
        return effects

    def under_way(self, heard: Heard) -> bool:
        """The call has not ended; a detached one may go on when its client hears no more of it."""
        if not heard.call.detach:
            return heard.open
        view = self.broker.call_view(heard.call.id.hex())
        return view is not None and view.state != "done" and not heard.over

    def session_of(self, heard: Heard) -> str | None:
        """The same as its client knows, which may have left before it was told."""
        view = self.broker.call_view(heard.call.id.hex()) if heard.call.detach else None
        return heard.session or (view.session if view is not None else None)

    def _see_detached_calls_end(self) -> None:
        for heard in self.history:
            if heard.call.detach and not heard.over and not self.under_way(heard):
                heard.over = True
                self._touch(heard)

    def _handled(self, event: ev.Event) -> list[fx.Effect]:
        sabotage, self.sabotage = self.sabotage, None
        if sabotage is None:
            return self.broker.handle(event, self.now)
        rule = rules._RULES[type(event)]

        def failing(book: Book, event: Any) -> None:
            if sabotage == "late":
                rule(book, event)
            elif isinstance(event, ev.TimePassed):
                book.due = book.deadlines.pop_due(book.now)
            raise SabotageError("the book is on fire")

        with patch.dict(rules._RULES, {type(event): failing}):
            try:
                return self.broker.handle(event, self.now)
            except SabotageError as error:
                return self.broker.contain(event, error)

    def _perform(self, effect: fx.Effect) -> None:
        assert not self.stopped, f"after Stopped: {effect}"
        if isinstance(effect, fx.Send):
            self._deliver(effect)
        elif isinstance(effect, fx.Answer):
            self._settle(effect)
        elif isinstance(effect, fx.LookUp):
            assert effect.session not in self.lookups
            self.lookups[effect.session] = effect.app
            self.opener[effect.session] = self.history[-1]
            self.born[effect.session] = self.now
            self.sees_spare(effect.session)
        elif isinstance(effect, fx.Spawn):
            self._start(effect)
        elif isinstance(effect, fx.Prepare):
            self.prepares(effect)
        elif isinstance(effect, fx.Fork):
            self.forks(effect)
        elif isinstance(effect, fx.ShareLog):
            self.shares_log(effect)
        elif isinstance(effect, fx.Look):
            self.looks.append(effect.number)
        elif isinstance(effect, fx.Stopped):
            self.stopped = True
        elif effect.worker in self.templates:
            self.acts_on_template(effect)
        else:
            self._act_on(self.workers[effect.worker], effect)
        self._oblige(effect)

    def _act_on(self, fake: FakeWorker, effect: fx.Effect) -> None:
        assert not fake.forgotten, f"an order about a worker that is forgotten: {effect}"
        if isinstance(effect, fx.Tell):
            if isinstance(effect.message, gpus.Park | gpus.Unpark):
                self.is_told_to_move(fake, effect.message)
                return
            if isinstance(effect.message, Invoke):
                self._check_turn(fake, effect.message)
            elif isinstance(effect.message, work.Finish) and effect.message.reason == "expired":
                self._check_expiry(fake)
            fake.hear(effect.message)
            if not self.lags:
                fake.turn()
        elif isinstance(effect, fx.Checkpoint | fx.Restore):
            self.driver_is_told(effect)
        elif isinstance(effect, fx.Pause | fx.Resume):
            fake.pause(isinstance(effect, fx.Pause))
        elif isinstance(effect, fx.Kill):
            assert fake.spawned, "a kill before there is a process"
            assert not fake.kills, "Kill is ordered once: the server repeats it by itself"
            fake.kills += 1
        elif isinstance(effect, fx.Forget):
            assert fake.failed or (fake.exited and fake.tree_gone), "forgotten while something of it lives"
            assert effect.session == fake.spawn.session
            fake.forgotten = True
        else:
            assert isinstance(effect, fx.RequestCancel | fx.Interrupt | fx.CaptureStack | fx.Withdraw)
            fake.ordered(effect)

    def _deliver(self, effect: fx.Send) -> None:
        message: Any = effect.message
        if message.id in self.requests:
            assert self.requests[message.id] is None and isinstance(message, Failure)
            assert message.ran == "no" or message.code == "INTERNAL"
            self.requests[message.id] = message
            return
        reading = self.readings.get((effect.client, message.id))
        if reading is not None:
            reading.hear(message)
            return
        heard = self.calls[message.id]
        if isinstance(message, Result) and len(message.value) > ALWAYS_SENT_BYTES:
            given_up = self.now - self.behind.get(effect.client, self.now) > CATCH_UP_SECONDS + LATE_SECONDS
            assert not given_up, "a large result for a client that does not read"
        assert effect.client == heard.client, "an answer for another client"
        assert getattr(message, "session", None) not in self.lookups or not isinstance(message, Accepted), (
            "accepted although its app may not exist"
        )
        heard.hear(message, self.now)
        if heard.final:
            self._touch(heard)

    def _touch(self, heard: Heard) -> None:
        """A call that waited waits no more: the idle clock of its session may start anew."""
        if heard.worker is None:
            session = self.session_of(heard)
            for fake in self.workers.values():
                fake.touched = self.now if session in (None, fake.spawn.session) else fake.touched

    def _settle(self, answer: fx.Answer) -> None:
        assert self.requests[answer.request] is None, "a request is answered once"
        self.requests[answer.request] = answer
        for session in answer.sessions:
            assert self.broker.view(session) is not None, "an answer about a session that is unknown"

    def _start(self, effect: fx.Spawn) -> None:
        assert effect.worker not in self.workers, "a worker id is used twice"
        alike = [fake for fake in self.workers.values() if fake.spawn.session == effect.session]
        assert all(fake.failed and fake.template for fake in alike), "a second process"
        most = 1 + (self.limits.dispatch_ahead if effect.session.startswith("sess_") else 0)
        fake = FakeWorker(effect, self._idle_seconds(effect.session), self.calls, most)
        fake.hold = self.hold_of[effect.session]
        fake.lives_until = self.born[effect.session] + self._lifetime_seconds(effect.session)
        self.workers[effect.worker] = fake
        held = sum(not fake.forgotten for fake in self.workers.values())
        assert held <= self.limits.max_sessions, "more processes than max_sessions"

    def _check_turn(self, fake: FakeWorker, invoke: Invoke) -> None:
        """Order is kept: of the calls that wait for the same, the earliest runs."""
        heard = self.calls[invoke.call]
        self.check_is_not_moved(fake)
        if self.faulty and heard.call.detach:
            heard.worker = fake.spawn.worker  # sent by the rule that failed; the book has ended it since
            return
        assert self._waits(heard), "only a waiting call, of a client that is there, is run"
        assert self.now <= fake.lives_until + LATE_SECONDS, "a call runs in a session that is too old"
        mine = self._queue_of(heard)
        assert self.waiting(mine)[0] is heard, "a call overtook another"
        if heard.call.session is not None:
            assert fake.spawn.session == self.session_of(heard), "a call runs in another's session"
        else:
            start = (fake.spawn.spec.name, fake.spawn.setup)
            assert heard.call.app and start == (heard.call.app.name, heard.call.setup), "another app's worker"
        call, most = heard.call, None if heard.call.detach else WINDOW_BYTES
        told = (invoke.call, invoke.function, invoke.input, invoke.window_bytes)
        assert told == (call.id, call.function, call.input, most)
        window = DETACHED_WINDOW if call.detach else None
        assert invoke.window == (window if heard.call.window is None else heard.credit)
        heard.worker = fake.spawn.worker

    def _check_expiry(self, fake: FakeWorker) -> None:
        assert not fake.given and not self.waiting(fake.spawn.session), "busy is never idle"
        if self.now < fake.lives_until:
            assert self.now >= fake.idles_until, "expired before its time"
            assert self.now <= fake.idles_at_most_until + LATE_SECONDS, "expired too late"

    def waiting(self, queue: object) -> list[Heard]:
        return [heard for heard in self.history if self._waits(heard) and self._queue_of(heard) == queue]

    def _waits(self, heard: Heard) -> bool:
        return heard.worker is None and self.under_way(heard)

    def _queue_of(self, heard: Heard) -> object:
        call = heard.call
        if call.session is None:
            env = tuple(sorted(call.new.env.items())) if call.new else ()
            return (call.app, call.setup, env)
        return self.session_of(heard) or heard.call.id

    def _check_promises(self) -> None:
        open_calls = [heard for heard in self.calls.values() if self.under_way(heard)]
        for heard in open_calls:
            assert self.now <= heard.due + PATIENCE_SECONDS, f"overdue: {heard.call}"
        of_sessions = Counter(heard.session for heard in open_calls if heard.session)
        assert max(of_sessions.values(), default=0) <= 1 + self.limits.max_queue, "one runs, max_queue wait"
        for fake in self.workers.values():
            self._check_worker(fake)
        self.check_what_is_kept()
        self.check_templates()
        if self.drained_by is not None and self.now > self.drained_by + PATIENCE_SECONDS:
            assert not open_calls, "the drain's time is over"
        if self.stopped:
            assert not open_calls, "stopped with an open call"
            assert not any(reading.open for reading in self.readings.values()), "stopped with a reader"
            assert all(f.forgotten or f.tree_gone for f in self.workers.values()), "stopped with a worker"
            assert all(t.forgotten or t.given for t in self.templates.values()), "stopped with a template"

    def _check_worker(self, fake: FakeWorker) -> None:
        if fake.idle and not (self.waiting(fake.spawn.session) or self.is_moved(fake)):
            assert self.now <= fake.idles_at_most_until + LATE_SECONDS, "expires too late"
            assert self.now <= fake.lives_until + LATE_SECONDS, "lives too long"
        assert fake.kills or not fake.exit_told, "what a worker left behind is not swept"
        told = fake.spawned and not fake.linked and not fake.unread
        assert fake.kills or fake.finish or not told, "a worker without a link is left alone"
        starts = fake.spawned and fake.linked and fake.alive and not fake.ready and not fake.kills
        if starts and fake.spawn.session.startswith("sess_") and fake.spawn.session not in self.spares:
            assert self.waiting(fake.spawn.session), "a start that nobody waits for goes on"

    def _oblige(self, effect: fx.Effect) -> None:
        """Carry out an order at once, unless the test holds such orders back."""
        finish = isinstance(effect, fx.Tell) and isinstance(effect.message, work.Finish)
        if type(effect) in self.holds or (finish and work.Finish in self.holds):
            return
        self._answers += self.cards_answer(effect)
        if isinstance(effect, fx.LookUp):
            self._answers.append(self._found(effect.session))
        elif isinstance(effect, fx.Prepare) or getattr(effect, "worker", None) in self.templates:
            self._answers += self.template_answers(effect)
        elif isinstance(effect, fx.Spawn | fx.Fork):
            fake = self.workers[effect.worker]
            fake.spawned = fake.ready = True
            fake.restart_idle_clock(self.now)
            self.starts_on_cards(effect.worker, effect.gpus)
            ready = work.Ready(list(FUNCTIONS), 0.2, 0.3, self.on_cancel)
            self._answers += [
                ev.WorkerSpawned(effect.worker, 100 + effect.worker),
                ev.WorkerSaid(effect.worker, ready),
            ]
        elif isinstance(effect, fx.CaptureStack):
            fake = self.workers[effect.worker]
            self._answers.append(ev.StackCaptured(effect.worker, fake.captures.pop(0), STACK))
        elif isinstance(effect, fx.Withdraw):
            self._answers.append(self._settled(self.workers[effect.worker]))
        elif finish:
            assert isinstance(effect, fx.Tell)
            fake = self.workers[effect.worker]
            fake.exit()
            self._answers.append(ev.WorkerExited(effect.worker, 0, None, "", work.Ordinal(fake.entered)))
        elif isinstance(effect, fx.Kill):
            fake = self.workers[effect.worker]
            if not fake.exited:
                fake.exit()
                self._answers.append(
                    ev.WorkerExited(effect.worker, None, "SIGKILL", "", work.Ordinal(fake.entered))
                )
            fake.tree_gone = True
            self._answers.append(ev.TreeGone(effect.worker))

    def _found(self, session: SessionId) -> ev.AppFound:
        name = self.lookups.pop(session).name
        return ev.AppFound(session, AppSpec(name, f"{name}:App", asks=self.asks))

    def _settled(self, fake: FakeWorker) -> ev.WithdrawalSettled:
        """What the control page says about the oldest withdrawal."""
        ordinal = fake.unsettled.pop(0)
        entered = fake.entered >= ordinal
        if not entered:
            fake.given.pop(ordinal, None)
        return ev.WithdrawalSettled(fake.spawn.worker, ordinal, entered)

    def _read(self, fake: FakeWorker) -> ev.WorkerSaid:
        """The next word that its worker said."""
        message = fake.unread.popleft()
        ends = isinstance(message, ENDS_OF_CALLS)
        if ends and fake.given.pop(message.ordinal, None) is not None:
            fake.restart_idle_clock(self.now)
        return ev.WorkerSaid(fake.spawn.worker, message)
