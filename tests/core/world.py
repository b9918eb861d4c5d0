"""A world around one rule book: clients that speak, workers that obey or not, and a clock of our own.

Tests say what happens (`call`, `returns`, `exits`, `wait`); the world tells the broker, performs
its orders on fakes, and checks after each event what must always hold.  Orders whose type is not
in `holds` are carried out at once, by a world as obliging as can be; the others wait for the test.
"""

from __future__ import annotations

from typing import Any

from tests.core.fakes import ENDS_OF_CALLS, FakeWorker, Heard, Reading, Watching
from tests.core.stage import FUNCTIONS, STACK, Stage
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.broker import Broker
from warmd.protocol import work
from warmd.protocol.errors import Problem
from warmd.protocol.messages import AppRef, Attach, Call, CallId, ClientId, Failure, NewSession, SessionId
from warmd.protocol.work import Invoke, WorkerId


def client(name: str) -> ClientId:
    return ClientId(name.encode())


class World(Stage):
    """Tests speak through this; what it lets happen is checked by the stage."""

    def tell(self, event: ev.Event) -> list[fx.Effect]:
        """One fact for the broker, and what an obliging world answers to the orders that follow.

        A daemon that has stopped is told no more.
        """
        if self.stopped:
            return []
        effects = self._hand_in(event)
        return effects + self._go_on()

    def _go_on(self) -> list[fx.Effect]:
        """What follows by itself: obliging answers, and words that are read without delay."""
        effects: list[fx.Effect] = []
        while not self.stopped:
            speaker = next((fake for fake in self.workers.values() if fake.unread and not fake.paused), None)
            if self._answers:
                effects += self._hand_in(self._answers.popleft())
            elif speaker is not None and not self.lags:
                effects += self._hand_in(self._read(speaker))
            else:
                break
        return effects

    def call(
        self,
        session: str | None = "new",
        function: str = "run",
        *,
        by: str = "ann",
        app: AppRef | None = None,
        id: CallId | None = None,
        **options: Any,
    ) -> Heard:
        """A call arrives.  `options` are fields of `Call`, or of `NewSession` (then as `new`)."""
        new = {name: options.pop(name) for name in NewSession._fields if name in options}
        if app is None and session in (None, "new"):
            app = AppRef("counter")
        call = Call(
            id or self.new_id(), session, app, function, new=NewSession(**new) if new else None, **options
        )
        timeout = self.limits.call_timeout_seconds if call.timeout_seconds is None else call.timeout_seconds
        heard = Heard(client(by), call, self.now, self.now + timeout, call.window or 0)
        if call.id not in self.calls or not self.calls[call.id].open:
            self.calls[call.id] = heard
            self.history.append(heard)
        before = dict(self.spares)
        self.tell(ev.CallArrived(client(by), call, call.id.hex().rjust(32, "0")))
        self.sees_taken(heard, before)
        taken = heard.code not in ("DRAINING", "INTERNAL")
        assert self.drained_by is None or not taken, "a daemon that stops takes no more calls"
        return heard

    def session(self, **options: Any) -> SessionId:
        """A new session that is ready and idle."""
        heard = self.call("new", "", **options)
        assert heard.code == "ok", heard.final
        assert heard.session is not None
        return SessionId(heard.session)

    def credit(self, heard: Heard, parts: int) -> None:
        heard.credit += max(0, min(parts, self.limits.max_stream_window - (heard.credit - len(heard.parts))))
        self.tell(ev.CreditArrived(heard.client, heard.call.id, parts))

    def cancel(self, heard: Heard, how: Any = "cancel") -> None:
        heard.left = heard.left or how == "abandon"
        # One that was sent ahead may be over before its withdrawal is settled.
        heard.cancelled = heard.cancelled or (how == "cancel" and not self.limits.dispatch_ahead)
        self.tell(ev.CancelArrived(heard.client, heard.call.id, how))

    def attach(
        self, heard: Heard, offset: int = 0, window: int | None = 4, by: str = "bob", again: bool = False
    ) -> Reading:
        """Somebody else reads a detached call; `again`: by repeating the call itself."""
        id = heard.call.id if again else self.new_id()
        reading = Reading(client(by), heard, offset, None if again else window)
        self.readings[client(by), id] = reading
        if again:
            self.tell(ev.CallArrived(client(by), heard.call, "f" * 32))
        else:
            self.tell(ev.AttachArrived(client(by), Attach(id, heard.call.id, offset, window)))
        return reading

    def watch(self, heard: Heard, window: int | None = 1, by: str = "bob") -> Watching:
        """Somebody asks how far a call is."""
        id = self.new_id()
        watching = self.readings[client(by), id] = Watching(client(by), heard, 0, window)
        self.tell(ev.WatchArrived(client(by), id, heard.call.id, window))
        return watching

    def read_on(self, reading: Reading, parts: int) -> None:
        """A reader gives credit."""
        reading.credit = None if reading.credit is None else reading.credit + parts
        self.tell(ev.CreditArrived(reading.client, self._conversation(reading), parts))

    def read_no_more(self, reading: Reading) -> None:
        self.tell(ev.CancelArrived(reading.client, self._conversation(reading), "abandon"))

    def stop_call(self, heard: Heard) -> None:
        """Somebody asks for its end by its id."""
        self.tell(ev.StopArrived(heard.call.id))

    def leave(self, name: str) -> None:
        """The client's process ends."""
        for reading in self.readings.values():
            reading.deaf = reading.deaf or (reading.client == client(name) and reading.open)
        self.behind.pop(client(name), None)
        self.inside.pop(client(name), None)
        for heard in self.calls.values():
            heard.deaf = heard.deaf or (heard.client == client(name) and heard.open)
        self.tell(ev.ClientGone(client(name)))

    def live_inside(self, name: str, session: str) -> None:
        """From now on the client of that name is a program inside the app of that session."""
        self.inside[client(name)] = session
        self.tell(ev.ClientInside(client(name), SessionId(session)))

    def daemon_dies(self) -> list[SessionId]:
        """SIGKILL: its workers die with it, its clients lose it, and another starts that knows nothing.

        Returns the sessions that there were.
        """
        sessions = [view.id for view in self.broker.views() if view.kind == "session"]
        for heard in self.history:
            heard.deaf, heard.over, heard.lost = heard.deaf or heard.open, True, True
        for reading in self.readings.values():
            reading.deaf = reading.deaf or reading.open
        self.requests = {id: answer for id, answer in self.requests.items() if answer is not None}
        left = (self.workers, self.lookups, self.opener, self.born, self.hold_of, self.behind, self.inside)
        for forgotten in (*left, self.templates, self.unforkable, self.spares, self.hosted):
            forgotten.clear()
        self.effects.clear()
        self._answers.clear()
        self.stopped, self.drained_by, self.sabotage = False, None, None
        self.broker = Broker(self.limits, self.now)
        return sessions

    def falls_behind(self, name: str, unread: int = 5000) -> None:
        """The client does not read what it is sent."""
        self.behind.setdefault(client(name), self.now)
        self.tell(ev.ClientBehind(client(name), unread))

    def catches_up(self, name: str) -> None:
        self.behind.pop(client(name), None)
        self.tell(ev.ClientCaughtUp(client(name)))

    def keepalive(self, session: str) -> fx.Answer | Failure | None:
        request = self._request()
        self.tell(ev.KeepaliveArrived(client("ann"), request, SessionId(session)))
        for fake in self.workers.values():
            if fake.spawn.session == session and isinstance(self.requests[request], fx.Answer):
                fake.restart_idle_clock(self.now)
        return self.requests[request]

    def hold(self, session: str, seconds: float | None) -> fx.Answer | Failure | None:
        request = self._request()
        self.tell(ev.HoldArrived(client("ann"), request, SessionId(session), seconds))
        if isinstance(self.requests[request], fx.Answer):
            hold = self.hold_of[SessionId(session)]
            hold.until, hold.changed = 0.0 if seconds is None else self.now + seconds, self.now
        return self.requests[request]

    def end(self, session: str | None = None, app: str | None = None, running: Any = "cancel") -> CallId:
        """Returns the request's id: `requests` has its answer when there is one."""
        request = self._request()
        wanted = None if session is None else SessionId(session)
        self.tell(ev.EndArrived(client("ann"), request, wanted, app, running))
        return request

    def drain(self, seconds: float = 30.0) -> None:
        self.drained_by = max(self.drained_by or 0.0, self.now + seconds)
        self.tell(ev.DrainArrived(seconds))

    def found(self, session: SessionId | None = None) -> None:
        session = session or next(iter(self.lookups))
        self.tell(self._found(session))

    def missing(self, problem: Problem, session: SessionId | None = None) -> None:
        session = session or next(iter(self.lookups))
        del self.lookups[session]
        self.tell(ev.AppMissing(session, problem))

    def spawned(self, worker: int = 0) -> None:
        fake = self.worker(worker)
        fake.spawned = True
        self.tell(ev.WorkerSpawned(fake.spawn.worker, 100 + fake.spawn.worker))

    def spawn_fails(self, worker: int = 0, message: str = "no memory") -> None:
        fake = self.worker(worker)
        fake.failed = True
        self.tell(ev.SpawnFailed(fake.spawn.worker, message))

    def ready(self, worker: int = 0, functions: tuple[str, ...] = FUNCTIONS, reloads: bool = False) -> None:
        fake = self.worker(worker)
        fake.ready = True
        fake.restart_idle_clock(self.now)
        self.starts_on_cards(fake.spawn.worker, fake.spawn.gpus)
        self.says(work.Ready(list(functions), 0.2, 0.3, self.on_cancel, reloads), fake.spawn.worker)

    def says(self, message: ev.Word, worker: int = 0) -> list[fx.Effect]:
        """Any word of a worker, in or out of place.  With its last about one call it turns to the next."""
        fake = self.worker(worker)
        fake.unread.append(message)
        ends = isinstance(message, ENDS_OF_CALLS)
        if ends and fake.running is not None and fake.running.ordinal == message.ordinal:
            fake.running = None
        if not self.lags:
            fake.turn()
        return self._go_on()

    def reads(self, worker: int = 0) -> None:
        """The daemon reads the next word of a worker that lags."""
        self.tell(self._read(self.worker(worker)))

    def settles(self, worker: int = 0) -> None:
        """Two milliseconds after a withdrawal, the daemon looks what came of it."""
        self.tell(self._settled(self.worker(worker)))

    def catch_up(self) -> None:
        """Whatever workers have said is read, and withdrawals are settled."""
        for number, fake in list(self.workers.items()):
            while fake.unread and fake.alive and fake.linked and not fake.paused:
                self.reads(number)
            while fake.unsettled and not fake.forgotten:
                self.settles(number)

    def returns(self, value: bytes = b"value", worker: int = 0, seconds: float = 0.01) -> None:
        fake = self.worker(worker)
        self.says(work.Returned(self.running(worker).ordinal, seconds, fake.yielded, value), worker)

    def raises(self, worker: int = 0, type: str = "KeyError", message: str = "'x'") -> None:
        self.says(work.Raised(self.running(worker).ordinal, 0.01, type, message, "Traceback ..."), worker)

    def declines(self, worker: int = 0, message: str = "run() takes no 'byy': did you mean 'by'?") -> None:
        """The function is not entered after all."""
        running = self.running(worker)
        self.calls[running.call].entered = False
        self.says(work.Declined(running.ordinal, message), worker)

    def disowns(self, worker: int = 0) -> None:
        """It has looked, and there is no such function: nothing of the call has run."""
        running = self.running(worker)
        self.calls[running.call].entered = False
        self.says(work.NoFunction(running.ordinal), worker)

    def obeys(self, worker: int = 0) -> None:
        """The interrupt took."""
        self.says(work.Interrupted(self.running(worker).ordinal, 0.01), worker)

    def yields(self, value: bytes = b"part", worker: int = 0) -> None:
        fake = self.worker(worker)
        assert fake.credit, "this worker has no credit"
        fake.credit, fake.yielded = fake.credit - 1, fake.yielded + 1
        self.calls[self.running(worker).call].given.append(value)
        self.says(work.Yielded(self.running(worker).ordinal, fake.yielded - 1, value), worker)

    def yields_together(self, values: list[bytes], worker: int = 0) -> None:
        """As `yields` for each, and the daemon reads them all at once."""
        fake, running = self.worker(worker), self.running(worker)
        assert fake.credit >= len(values), "this worker has less credit"
        number = fake.yielded
        fake.credit, fake.yielded = fake.credit - len(values), number + len(values)
        self.calls[running.call].given.extend(values)
        self.says(ev.YieldedMany(running.ordinal, number, list(values)), worker)

    def loses_link(self, worker: int = 0, message: str = "closed its link") -> None:
        fake = self.worker(worker)
        self.catch_up()
        fake.linked = False
        self.tell(ev.LinkLost(fake.spawn.worker, message))

    def exits(
        self,
        worker: int = 0,
        code: int | None = None,
        signal: str | None = None,
        log: str = "",
        out_of_memory: ev.OutOfMemory | None = None,
    ) -> None:
        """A process ends; its link is read to the end before that is told."""
        fake = self.worker(worker)
        fake.exit()
        while fake.unread:
            self.reads(worker)
        if code is None and signal is None:
            code = 0
        entered = work.Ordinal(fake.entered)
        self.tell(ev.WorkerExited(fake.spawn.worker, code, signal, log, entered, out_of_memory))

    def tree_ends(self, worker: int = 0, stuck: tuple[int, ...] = ()) -> None:
        fake = self.worker(worker)
        fake.tree_gone, fake.stuck = True, bool(stuck)
        self.tell(ev.TreeGone(fake.spawn.worker, stuck))

    def stack(self, text: str = STACK, worker: int = 0) -> None:
        fake = self.worker(worker)
        self.tell(ev.StackCaptured(fake.spawn.worker, fake.captures.pop(0), text))

    def wait(self, seconds: float) -> None:
        """Time passes; whatever is due on the way is handed in when it is due."""
        until = self.now + seconds
        while (due := self.broker.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.tell(ev.TimePassed())
        self.now = until

    def wait_for_deadline(self) -> float:
        """Time passes until the next thing is due; returns the seconds that took."""
        due = self.broker.deadline()
        assert due is not None, "nothing waits for time to pass"
        seconds = due - self.now
        self.wait(seconds)
        return seconds

    def worker(self, number: int = 0) -> FakeWorker:
        """By its id; 0: the latest."""
        return self.workers[WorkerId(number or max(self.workers))]

    def running(self, worker: int = 0) -> Invoke:
        running = self.worker(worker).running
        assert running is not None, "this worker runs nothing"
        return running

    def ordered(self, kind: type) -> list[Any]:
        """All effects of this type so far."""
        return [effect for _, effect in self.effects if isinstance(effect, kind)]

    def state(self, session: str) -> str:
        view = self.broker.view(session)
        assert view is not None
        return view.state

    def oblige(self) -> None:
        """From now on every order is carried out at once, those that were held back first."""
        self.holds, self.lags = frozenset(), False
        self.catch_up()
        self.oblige_cards()
        for session in list(self.lookups):
            self.found(session)
        self.oblige_templates()
        for number, fake in list(self.workers.items()):
            for _ in range(len(fake.captures)):
                self.stack(worker=number)
            if not fake.spawned and not fake.failed:
                self.spawned(number)
            if fake.linked and not fake.ready and not fake.kills and not fake.exited:
                self.ready(number)
            fake.turn()
            self._go_on()
            if fake.alive and (fake.kills or fake.finish or not fake.linked):
                self.exits(number, signal="SIGKILL")
            if fake.kills and not fake.tree_gone:
                self.tree_ends(number)
        self.oblige_templates()
        self.oblige_cards()

    def assert_over(self) -> None:
        """Nothing is left: no call open, no process, no timer."""
        open_calls = [heard.call for heard in self.history if heard.open or self.under_way(heard)]
        assert not open_calls, f"never answered: {open_calls}"
        unanswered = [request for request, answer in self.requests.items() if answer is None]
        assert not unanswered, f"requests never answered: {unanswered}"
        assert not any(reading.open for reading in self.readings.values()), "a reader waits for ever"
        left = [fake.spawn.worker for fake in self.workers.values() if not (fake.forgotten or fake.tree_gone)]
        assert not left, f"never forgotten: workers {left}"
        left = [one.worker for one in self.templates.values() if not (one.forgotten or one.given)]
        assert not left, f"never forgotten: templates {left}"
        assert self.broker.deadline() is None, "a timer is left behind"
        totals = self.broker.totals()
        assert (totals.running, totals.queued) == (0, 0)
