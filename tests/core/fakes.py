"""What stands in for clients and workers in tests of the rule book, and objects to broken promises.

A `Heard` is one call as its client sees it; a `FakeWorker` is one process as the daemon sees it.
Both raise AssertionError at an order or message that the contract forbids, whatever led to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf

from warmd.daemon.core import effects as fx
from warmd.protocol.errors import BY_CODE
from warmd.protocol.messages import Accepted, Call, CallId, ClientId, Failure, FromDaemon, Part, Parts, Result
from warmd.protocol.work import (
    Declined,
    Finish,
    FromWorker,
    Interrupted,
    Invoke,
    MoreCredit,
    NoFunction,
    Ordinal,
    Raised,
    Returned,
    ToWorker,
    WorkerId,
)

ENDS_OF_CALLS = (Returned, Raised, Interrupted, Declined, NoFunction)
"""The words with which a worker is done with a call."""
NEVER_ENTERED = {"no_session", "rejected", "start_failed"}


@dataclass(eq=False)
class Heard:
    """One call and all that its client has heard about it."""

    client: ClientId
    call: Call
    arrived: float
    due: float
    """Arrival plus time-out: an answer must come within 2 s of it."""
    credit: int
    accepted: Accepted | None = None
    parts: list[bytes] = field(default_factory=list)
    final: Result | Failure | None = None
    answered_at: float = 0.0
    worker: WorkerId | None = None
    """Which worker was given it."""
    entered: bool = False
    """Its function was entered, whether or not the daemon knows."""
    deaf: bool = False
    """Its client is gone."""
    lost: bool = False
    """Its daemon has died since."""
    left: bool = False
    """Its client left the stream."""
    cancelled: bool = False
    """Its client cancelled it when it could still be stopped."""
    given: list[bytes] = field(default_factory=list)
    """What its worker has yielded."""
    over: bool = False
    """A detached call has ended, whether or not its client was there to hear."""

    @property
    def open(self) -> bool:
        return self.final is None and not self.deaf

    @property
    def code(self) -> str:
        """How it ended: the error's code, or "ok"; "" while it is open."""
        return "" if self.final is None else getattr(self.final, "code", "ok")

    @property
    def session(self) -> str | None:
        """The session that it went to, as far as its client knows."""
        if self.call.session not in (None, "new"):
            return self.call.session
        return self.accepted.session if self.accepted else None

    def enter(self) -> None:
        never = isinstance(self.final, Failure) and self.final.ran == "no"
        assert not never, f"a call is run that was answered with ran=no: {self.final}"
        assert not self.lost, "a call is run although its daemon has died"
        self.entered = True

    def hear(self, message: FromDaemon, now: float) -> None:
        assert not self.deaf, f"a client that is gone is told {message}"
        assert self.final is None, f"after its final answer {self.final} a call is told {message}"
        if isinstance(message, Accepted):
            wanted = self.call.session in (None, "new") or self.call.detach
            assert self.accepted is None and wanted, "one Accepted, for new, pool and detached"
            assert (message.session is None) == (self.call.session is None)
            self.accepted = message
        elif isinstance(message, Part):
            assert message.number == len(self.parts), f"part {message.number} follows {len(self.parts)} parts"
            assert len(self.parts) < self.credit, "a part came without credit"
            assert not self.left, "a part came after its reader left"
            self.parts.append(bytes(message.value))
        elif isinstance(message, Parts):
            for part in told_apart(message):
                self.hear(part, now)
        else:
            assert isinstance(message, Result | Failure)
            self._conclude(message)
            self.answered_at = now

    def _conclude(self, answer: Result | Failure) -> None:
        self.final = answer
        if self.left and self.call.detach:
            assert self.code in ("CANCELLED", "INTERNAL"), "only its reader has left"
            return
        if self.cancelled:
            assert self.code not in ("ok", "APP_ERROR"), "a cancelled call ends as such, even if it returns"
        if isinstance(answer, Result):
            assert answer.parts == len(self.parts), "a stream that ends short must not look complete"
            assert self.entered or not self.call.function, "an answer from nowhere"
            assert answer.session == self.session and answer.timing is not None
            assert self.accepted or self.call.session not in (None, "new"), "Accepted comes first"
            assert self.accepted or not self.call.detach, "Accepted comes first"
            return
        outcome = BY_CODE[answer.code].outcome
        if outcome in NEVER_ENTERED:
            assert answer.ran == "no"
        elif outcome == "app_error":
            assert answer.ran == "yes"
        else:
            assert answer.ran == "no" or (answer.ran == "maybe" and self.worker is not None)
        assert self.entered == (answer.ran != "no") or answer.ran == "maybe", (
            f"{answer.code} says ran={answer.ran}, but the function was entered: {self.entered}"
        )
        assert answer.message and len(answer.message) < 3000, "an error says what it is about"
        if outcome == "no_session":
            assert "session" in answer.message


@dataclass(eq=False)
class Reading:
    """What one reader of a detached call hears, beside its caller."""

    client: ClientId
    heard: Heard
    at: int
    """The number of the next part."""
    credit: int | None
    parts: list[bytes] = field(default_factory=list)
    accepted: Accepted | None = None
    final: Result | Failure | None = None
    deaf: bool = False

    @property
    def open(self) -> bool:
        return self.final is None and not self.deaf

    @property
    def code(self) -> str:
        return "" if self.final is None else getattr(self.final, "code", "ok")

    def hear(self, message: FromDaemon) -> None:
        assert self.open, f"a reader that is gone or was answered is told {message}"
        if isinstance(message, Accepted):
            assert self.accepted is None, "accepted twice"
            self.accepted = message
        elif isinstance(message, Part):
            assert self.credit, "a part came without credit"
            assert message.number == self.at, f"part {message.number} came instead of {self.at}"
            assert message.value == self.heard.given[self.at], "another part than was given"
            self.parts.append(bytes(message.value))
            self.at, self.credit = self.at + 1, self.credit - 1
        else:
            assert isinstance(message, Result | Failure)
            self.final = message
            if isinstance(message, Result):
                whole = len(self.heard.given) == self.at == message.parts
                assert whole if self.credit is not None else message.parts == 0, "a stream ends short"


@dataclass(eq=False)
class Watching(Reading):
    """What one reader of a call's progress hears; `at` counts what it was told."""

    def hear(self, message: FromDaemon) -> None:
        assert self.open, f"a reader that is gone or was answered is told {message}"
        if isinstance(message, Part):
            assert self.credit, "progress came without credit"
            assert message.number == self.at, "values are counted without gaps"
            self.parts.append(bytes(message.value))
            self.at, self.credit = self.at + 1, self.credit - 1
            return
        assert isinstance(message, Result | Failure)
        self.final = message
        if isinstance(message, Result):
            assert message.parts == self.at, "a value was lost"
            assert self.heard.over or not self.heard.open, "it ends before its call"


@dataclass(slots=True)
class Hold:
    """Of a session, which may have no worker yet."""

    until: float = 0.0
    changed: float = 0.0


@dataclass(eq=False)
class FakeWorker:
    """One process, from the order to start it until it is forgotten."""

    spawn: fx.Spawn
    idle_seconds: float
    calls: Mapping[CallId, Heard]
    most: int
    """Calls that it may be given at one time: the one that runs, and those sent ahead."""
    idle_since: float = 0.0
    """The latest moment at which its idle clock must have begun."""
    touched: float = 0.0
    """The latest moment at which its idle clock may have begun."""
    hold: Hold = field(default_factory=Hold)
    lives_until: float = inf
    spawned: bool = False
    failed: bool = False
    """No process came to be."""
    ready: bool = False
    linked: bool = True
    exited: bool = False
    exit_told: bool = False
    """The daemon knows; until then it may send what nobody receives."""
    tree_gone: bool = False
    stuck: bool = False
    forgotten: bool = False
    finish: str | None = None
    kills: int = 0
    invoked: int = 0
    """Calls that it was given so far."""
    given: dict[Ordinal, CallId] = field(default_factory=dict)
    """Those whose end the daemon has not heard of."""
    inbox: deque[Invoke] = field(default_factory=deque)
    """Those that lie in its socket."""
    running: Invoke | None = None
    yielded: int = 0
    credit: int = 0
    entered: int = 0
    """On the control page: the last call that it turned to."""
    withdrawn: set[Ordinal] = field(default_factory=set)
    """On the control page."""
    unsettled: list[Ordinal] = field(default_factory=list)
    """Withdrawals that the daemon waits to see the effect of."""
    unread: deque[FromWorker] = field(default_factory=deque)
    """What it said and the daemon has not read."""
    paused: bool = False
    """The daemon does not listen to it."""
    asked: Ordinal | None = None
    """The call that it was asked to end by itself."""
    captures: list[Ordinal] = field(default_factory=list)
    template: object = None
    """What it is forked from (`nursery.FakeTemplate`)."""

    @property
    def alive(self) -> bool:
        """There is, or may come to be, a process."""
        return not (self.failed or self.exited)

    @property
    def idle(self) -> bool:
        """It is up, has nothing to do, and nobody ended it."""
        up = self.spawned and self.ready and self.alive and self.linked
        return up and not (self.given or self.unread or self.finish or self.kills)

    @property
    def idles_until(self) -> float:
        """It must not expire by idling before."""
        return max(self.idle_since + self.idle_seconds, self.hold.until)

    @property
    def idles_at_most_until(self) -> float:
        return max(self.touched + self.idle_seconds, self.hold.until, self.hold.changed)

    def restart_idle_clock(self, now: float) -> None:
        self.idle_since = self.touched = now

    def turn(self) -> None:
        """Turn to the next call in the socket, unless it was withdrawn: the worker's half of `core.ahead`."""
        while self.alive and self.running is None and self.inbox:
            invoke = self.inbox.popleft()
            self.entered = invoke.ordinal
            if invoke.ordinal in self.withdrawn or invoke.ordinal == self.asked:
                self.unread.append(Interrupted(invoke.ordinal, 0.0))
                continue
            self.running, self.yielded, self.credit = invoke, 0, invoke.window or 0
            self.calls[invoke.call].enter()

    def pause(self, paused: bool) -> None:
        assert self.paused is not paused, "paused twice, or resumed twice"
        assert not paused or self.given, "paused without a call"
        self.paused = paused

    def exit(self) -> None:
        self.exited, self.running = True, None
        self.inbox.clear()

    def hear(self, message: ToWorker) -> None:
        assert self.ready and not self.exit_told, f"{message} for a worker that cannot take it"
        assert not self.kills or isinstance(message, MoreCredit), f"{message} for a worker that was killed"
        if isinstance(message, Invoke):
            assert self.finish is None, "a call after Finish"
            assert message.ordinal == self.invoked + 1, "ordinals count from 1 without gaps"
            self.invoked = message.ordinal
            self.given[message.ordinal] = message.call
            assert len(self.given) <= self.most, "two calls in one worker, or more ahead than allowed"
            self.inbox.append(message)
        elif isinstance(message, MoreCredit):
            if self.running is not None and message.ordinal == self.running.ordinal:
                self.credit += message.parts
        elif isinstance(message, Finish):
            assert self.finish is None, "Finish is said once"
            assert not self.given, "Finish to a worker that has something to do"
            self.finish = message.reason
        else:
            raise AssertionError(f"unexpected for a worker that is up: {message}")

    def ordered(self, effect: fx.RequestCancel | fx.Interrupt | fx.CaptureStack | fx.Withdraw) -> None:
        """An order about a call that it was given."""
        assert self.ready and not self.exit_told
        # What a worker says when its kill is under way is not heard any more.
        known = effect.ordinal in self.given or (self.kills and effect.ordinal <= self.entered)
        assert known, "an order about a call that the worker has not, or no longer"
        if isinstance(effect, fx.Withdraw):
            assert effect.ordinal not in self.withdrawn
            self.withdrawn.add(effect.ordinal)
            self.unsettled.append(effect.ordinal)
        elif isinstance(effect, fx.RequestCancel):
            self.asked = effect.ordinal
        elif isinstance(effect, fx.Interrupt):
            assert self.asked == effect.ordinal, "interrupted without having been asked"
        else:
            self.captures.append(effect.ordinal)


def told_apart(parts: Parts) -> list[Part]:
    """What a client makes of several parts that came as one."""
    ends = list(accumulate(parts.sizes))
    assert ends[-1] == len(parts.values), "the sizes are those of the values"
    return [
        Part(parts.id, number, parts.values[end - size : end])
        for number, (size, end) in enumerate(zip(parts.sizes, ends, strict=True), parts.number)
    ]
