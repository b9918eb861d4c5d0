"""Whatever happens, in whatever order: the promises hold after each event, and everything ends.

The rules are what clients, workers, the system and the clock may do; `World` and its fakes object
when an order or an answer breaks a promise.  Nothing is obliging here until the end: lookups and
starts hang or fail, workers yield, die, ignore interrupts, speak out of turn, and leave children.
After a change of the rules, search longer: WARMD_TEST_EXAMPLES=5000 takes two minutes.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.core.fakes import FakeWorker, Heard
from tests.core.world import EVERYTHING, World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.errors import Problem
from warmd.protocol.messages import AppRef
from warmd.protocol.work import Ordinal

LIMITS = Limits(
    max_sessions=3,
    max_queue=3,
    max_pool_workers=2,
    session_timeout_seconds=5.0,
    max_session_timeout_seconds=50.0,
    call_timeout_seconds=20.0,
    start_timeout_seconds=10.0,
    end_grace_seconds=3.0,
    cancel_grace_seconds=4.0,
)
PICK = st.integers(0, 99)
WINDOW = st.sampled_from([None, None, 0, 2])
APP = st.sampled_from(["counter", "counter", "counter", "chat"])
LATE_STEP_SECONDS = 0.1
"""How late `TimePassed` may come; every rule but those about time may happen in between."""
LAG_SECONDS = 0.2
"""How long a word of a worker may lie unread, and a withdrawal unsettled."""

up = precondition(lambda self: not self.world.stopped)


def running(fake: FakeWorker) -> bool:
    return fake.linked and fake.running is not None


def starting(fake: FakeWorker) -> bool:
    return fake.alive and not (fake.spawned and fake.ready) and fake.linked


def awaited(fake: FakeWorker) -> bool:
    """The world owes the daemon a fact: a stack, an exit, the end of a tree."""
    dying = fake.kills or fake.finish or not fake.linked
    return bool(
        fake.captures or (fake.spawned and fake.alive and dying) or (fake.kills and not fake.tree_gone)
    )


class Daemon(RuleBasedStateMachine):
    @initialize(
        on_cancel=st.booleans(),
        warm=st.sampled_from([None, "new", "new", "pool"]),
        ahead=st.sampled_from([0, 2]),
        lags=st.booleans(),
    )
    def begin(self, on_cancel: bool, warm: str | None, ahead: int, lags: bool) -> None:
        """`ahead`: calls are sent before their turn.  `lags`: what workers say is not read at once."""
        self.world = World(replace(LIMITS, dispatch_ahead=ahead), holds=EVERYTHING, on_cancel=on_cancel)
        self.world.lags = lags
        self.lag_since: float | None = None
        self.clients = ["ann", "bob", "cat"]
        self.left = 0
        if warm:
            self.call(0, warm, "run", "counter", None, None, b"", 0)
            self.bring_up(0)

    def workers(self, wanted: Any) -> list[FakeWorker]:
        return [fake for fake in self.world.workers.values() if wanted(fake)]

    def one(self, pick: int, wanted: Any) -> int:
        """The number of one such worker, or 0."""
        found = self.workers(wanted)
        return found[pick % len(found)].spawn.worker if found else 0

    def open_call(self, pick: int) -> Heard | None:
        found = [heard for heard in self.world.calls.values() if heard.open]
        return found[pick % len(found)] if found else None

    def any_session(self, pick: int) -> str:
        """One that lives, or lived, or never was; or a worker of the pool."""
        views = [view.id for view in self.world.broker.views(include_dead=True)]
        return [*views, "sess_unknown"][pick % (len(views) + 1)]

    # clients

    @up
    @rule(
        by=PICK,
        where=st.sampled_from(["live", "live", "live", "new", "pool", "pool"]),
        function=st.sampled_from(["run", "run", "run", "run", "count", "", "nope"]),
        app=APP,
        window=WINDOW,
        timeout=st.sampled_from([None, None, 0.5, 3.0, 30.0]),
        setup=st.sampled_from([b"", b"", b"", b"\xc0"]),
        which=PICK,
    )
    def call(
        self,
        by: int,
        where: str,
        function: str,
        app: str,
        window: Any,
        timeout: Any,
        setup: bytes,
        which: int,
    ) -> None:
        options: dict[str, Any] = {"by": self.clients[by % 3], "window": window, "timeout_seconds": timeout}
        live = [view.id for view in self.world.broker.views() if view.kind == "session"]
        if where == "live" and live:
            self.world.call(live[which % len(live)], function, **options)
        else:
            session = None if where == "pool" else "new"
            self.world.call(session, function, app=AppRef(app), setup=setup, **options)

    @up
    @rule(
        by=PICK,
        idle=st.sampled_from([None, 1.0, 7.0, 50.0, 0.5, 51.0]),
        name=st.sampled_from([None, "one", "one", "two"]),
        app=APP,
    )
    def call_with_options(self, by: int, idle: float | None, name: str | None, app: str) -> None:
        self.world.call("new", by=self.clients[by % 3], app=AppRef(app), idle_seconds=idle, name=name)

    @up
    @rule(
        which=PICK,
        function=st.sampled_from(["run", "_hidden", "setup"]),
        timeout=st.sampled_from([None, 0.0]),
    )
    def call_in_vain(self, which: int, function: str, timeout: float | None) -> None:
        """By ids of sessions that are gone, of pool workers, of none; private functions; no patience."""
        wanted = self.any_session(which)
        view = self.world.broker.view(wanted)
        heard = self.world.call(wanted, function, timeout_seconds=timeout)
        if heard.code.startswith("SESSION_"):
            state = "not_found" if view is None or view.kind == "pool" else view.state
            assert heard.code == f"SESSION_{state.upper()}" or state == "stopping"

    @rule(pick=PICK, parts=st.integers(-1, 3))
    def give_credit(self, pick: int, parts: int) -> None:
        heard = self.open_call(pick)
        if heard and heard.call.window is not None:
            heard.credit += max(0, parts)
            self.world.tell(ev.CreditArrived(heard.client, heard.call.id, parts))

    @rule(pick=PICK, how=st.sampled_from(["cancel", "cancel", "abandon", "leave"]))
    def lose_interest(self, pick: int, how: str) -> None:
        heard = self.open_call(pick)
        if heard and how != "leave":
            self.world.cancel(heard, how)
        elif not self.world.stopped:
            self.world.leave(self.clients[pick % 3])
            self.left += 1
            self.clients[pick % 3] = f"client {self.left}"

    @up
    @rule(which=PICK, how=st.sampled_from(["keepalive", "keepalive", "cancel", "finish"]))
    def manage(self, which: int, how: str) -> None:
        if how == "keepalive":
            self.world.keepalive(self.any_session(which))
        else:
            self.world.end(self.any_session(which), running=how)

    @up
    @precondition(lambda self: len(self.world.history) > 10)
    @rule(how=st.sampled_from(["all", "app", "drain"]), running=st.sampled_from(["cancel", "finish"]))
    def manage_many(self, how: str, running: str) -> None:
        if how == "drain":
            self.world.drain({"cancel": 0.0, "finish": 2.0}[running])
        else:
            self.world.end(app="counter" if how == "app" else None, running=running)

    # starts

    @precondition(lambda self: self.world.lookups or self.workers(starting))
    @rule(pick=PICK)
    def bring_up(self, pick: int) -> None:
        """One start goes well from where it is."""
        if self.world.lookups:
            self.world.found(list(self.world.lookups)[pick % len(self.world.lookups)])
        number = self.one(pick, starting)
        if number and not self.world.worker(number).spawned:
            self.world.spawned(number)
        if number and starting(self.world.worker(number)) and not self.world.worker(number).kills:
            self.world.ready(number)

    @precondition(lambda self: self.world.lookups)
    @rule(pick=PICK, found=st.booleans())
    def look_up(self, pick: int, found: bool) -> None:
        session = list(self.world.lookups)[pick % len(self.world.lookups)]
        if found:
            self.world.found(session)
        else:
            self.world.missing(Problem("APP_NOT_FOUND", "there is no app 'counter'"), session)

    @precondition(lambda self: self.workers(starting))
    @rule(pick=PICK, how=st.sampled_from(["spawned", "fails", "ready", "raises"]))
    def start(self, pick: int, how: str) -> None:
        """A worker may be ready before the starter has told that it was spawned."""
        number = self.one(pick, starting)
        fake = self.world.worker(number)
        if how == "raises" and not fake.ready:
            fake.linked = False
            self.world.says(work.StartFailed("setup", "ValueError", "no model", "Traceback"), number)
        elif how == "ready" and not fake.ready:
            self.world.ready(number)
        elif how == "fails" and not fake.spawned and not fake.ready:
            self.world.spawn_fails(number)
        elif not fake.spawned:
            self.world.spawned(number)

    # workers

    @precondition(lambda self: self.workers(running))
    @rule(pick=PICK, how=st.sampled_from(["returns", "returns", "raises", "obeys"]))
    def end_a_call(self, pick: int, how: str) -> None:
        number = self.one(pick, running)
        fake = self.world.worker(number)
        # A worker says Interrupted only of a call that it was asked to end.
        if how == "obeys" and fake.asked != self.world.running(number).ordinal:
            how = "returns"
        getattr(self.world, how)(worker=number)

    @precondition(lambda self: self.workers(lambda f: f.unread or (f.inbox and not f.running)))
    @rule(pick=PICK, turns=st.booleans())
    def catch_up(self, pick: int, turns: bool) -> None:
        """A worker turns to its next call, or the daemon reads the next word of one."""
        number = self.one(pick, lambda f: f.unread or (f.inbox and not f.running))
        fake = self.world.worker(number)
        if fake.unread and not turns:
            self.world.reads(number)
        else:
            fake.turn()

    @precondition(lambda self: self.workers(running))
    @rule(pick=PICK, what=st.sampled_from(["part", "part", "progress"]))
    def go_on_with_a_call(self, pick: int, what: str) -> None:
        number = self.one(pick, running)
        if what == "part" and self.world.worker(number).credit:
            self.world.yields(worker=number)
            return
        running_call = self.world.running(number)
        self.world.says(work.Progressed(running_call.ordinal, b"\x01"), number)
        view = self.world.broker.call_view(running_call.call.hex())
        assert view is None or view.progress == b"\x01" or self.world.lags

    @precondition(lambda self: self.workers(awaited))
    @rule(
        pick=PICK, text=st.sampled_from(["", "app.py:3 in run"]), stuck=st.sampled_from([False, False, True])
    )
    def do_as_ordered(self, pick: int, text: str, stuck: bool) -> None:
        """Late or not, in any order: a stack is taken, a doomed worker exits, its tree ends or is stuck."""
        number = self.one(pick, awaited)
        fake = self.world.worker(number)
        if fake.unsettled and not fake.forgotten:
            self.world.settles(number)
        elif fake.captures:
            self.world.stack(text, number)
        elif fake.spawned and fake.alive and not stuck:
            self.world.exits(number, signal="SIGKILL" if fake.kills else None)
        elif fake.kills and not fake.tree_gone and (fake.exited or stuck):
            self.world.tree_ends(number, () if fake.exited else (4711,))

    @precondition(lambda self: self.workers(lambda f: f.spawned and f.alive))
    @rule(pick=PICK, how=st.sampled_from(["SIGSEGV", "code", "link"]))
    def fall_over(self, pick: int, how: str) -> None:
        number = self.one(pick, lambda f: f.spawned and f.alive)
        if how == "link" and self.world.worker(number).linked:
            self.world.loses_link(number)
        elif how == "SIGSEGV":
            self.world.exits(number, signal="SIGSEGV", log="last words")
        else:
            self.world.exits(number, code=3)

    # words out of place

    @rule(pick=PICK)
    def call_again_with_the_same_id(self, pick: int) -> None:
        heard = self.open_call(pick)
        if heard:
            assert self.world.tell(ev.CallArrived(heard.client, heard.call, "f" * 32)) == []

    @precondition(lambda self: self.workers(lambda f: f.invoked))
    @rule(pick=PICK, back=st.integers(0, 2), word=st.integers(0, 10))
    def speak_out_of_turn(self, pick: int, back: int, word: int) -> None:
        """Of an old call, or as a worker that is long forgotten."""
        fake = self.world.worker(self.one(pick, lambda f: f.invoked))
        number, worker = Ordinal(fake.invoked - back), fake.spawn.worker
        words: list[ev.Event] = [
            ev.WorkerSaid(worker, work.Returned(number, 0.1, 0, b"late")),
            ev.WorkerSaid(worker, work.Raised(number, 0.1, "E", "late", "Traceback")),
            ev.WorkerSaid(worker, work.Interrupted(number, 0.1)),
            ev.WorkerSaid(worker, work.Yielded(number, 0, b"late")),
            ev.StackCaptured(worker, Ordinal(number - 1), "late"),
            ev.WorkerSaid(worker, work.Ready(["run"], 0.0, 0.0, False)),
            ev.WorkerSaid(worker, work.StartFailed("setup", "E", "late", "Traceback")),
            ev.WorkerSpawned(worker, 5),
            ev.LinkLost(worker, "closed its link"),
            ev.WorkerExited(worker, 0, None, ""),
            ev.TreeGone(worker),
        ]
        current = number in fake.given and not fake.exited
        if fake.forgotten or (word <= 6 and not (word <= 4 and current)):
            assert self.world.tell(words[word]) == []

    # time

    def before_time_passes(self, seconds: float) -> None:
        """What workers said is read, and withdrawals are settled, within a few milliseconds."""
        owing = self.workers(lambda f: (f.unread or f.unsettled) and not f.forgotten)
        self.lag_since = (self.lag_since or self.world.now) if owing else None
        if self.lag_since is not None and self.world.now + seconds > self.lag_since + LAG_SECONDS:
            self.world.catch_up()
            self.lag_since = None

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.3, 2.0]))
    def pass_time(self, seconds: float) -> None:
        self.before_time_passes(seconds)
        self.world.wait(seconds)

    @rule(patience=st.sampled_from([0.2, 0.2, 1.0, 1000.0]), times=st.sampled_from([1, 1, 3, 10, 11]))
    def pass_time_until_something_is_due(self, patience: float, times: int) -> None:
        """So many times: ten interrupts and a kill are eleven."""
        for _ in range(times):
            due = self.world.broker.deadline()
            if due is not None and due - self.world.now <= patience:
                self.before_time_passes(due - self.world.now)
            due = self.world.broker.deadline()
            if due is not None and due - self.world.now <= patience:
                self.world.wait_for_deadline()

    @rule(seconds=st.floats(0.0, LATE_STEP_SECONDS))
    def be_late(self, seconds: float) -> None:
        """The clock goes on, but the daemon has not come round to its timers yet."""
        self.before_time_passes(seconds)
        due = self.world.broker.deadline()
        if due is not None and due + LATE_STEP_SECONDS < self.world.now + seconds:
            self.world.tell(ev.TimePassed())
        else:
            self.world.now += seconds

    @rule()
    def wake_too_early(self) -> None:
        due = self.world.broker.deadline()
        if due is None or due > self.world.now:
            assert self.world.tell(ev.TimePassed()) == []

    def teardown(self) -> None:
        """From any state, everything ends: by a drain, on request, or by time alone."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.tell(ev.TimePassed())
        world.oblige()
        way = len(world.history) % 3
        if not world.stopped and way == 0:
            world.drain(2.0)
        elif not world.stopped and way == 1:
            world.end(running="finish")
        world.wait(200.0)
        world.assert_over()
        assert way or world.stopped
        assert len(world.ordered(fx.Spawn)) == len(world.workers)


TestDaemon = pytest.mark.timeout(400)(Daemon.TestCase)  # to find a small example takes minutes
TestDaemon.settings = settings(
    max_examples=int(os.environ.get("WARMD_TEST_EXAMPLES", "200")),
    stateful_step_count=60,
    report_multiple_bugs=False,
)
