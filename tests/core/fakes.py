"""What stands in for clients and workers in tests of the rule book, and objects to broken promises.

A `Heard` is one call as its client sees it; a `FakeWorker` is one process as the daemon sees it.
Both raise AssertionError at an order or message that the contract forbids, whatever led to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from warmd.daemon.core import effects as fx
from warmd.protocol.errors import BY_CODE
from warmd.protocol.messages import Accepted, Call, ClientId, Failure, FromDaemon, Part, Result
from warmd.protocol.work import AskCancel, Finish, Invoke, MoreCredit, Ordinal, ToWorker, WorkerId

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
    """Which worker was told to run it."""
    deaf: bool = False
    """Its client is gone."""
    left: bool = False
    """Its client left the stream."""

    @property
    def open(self) -> bool:
        return self.final is None and not self.deaf

    @property
    def waits(self) -> bool:
        return self.open and self.worker is None

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

    def hear(self, message: FromDaemon, now: float) -> None:
        assert not self.deaf, f"a client that is gone is told {message}"
        assert self.final is None, f"after its final answer {self.final} a call is told {message}"
        if isinstance(message, Accepted):
            assert self.accepted is None and self.call.session in (None, "new"), (
                "one Accepted, for new and pool"
            )
            assert (message.session is None) == (self.call.session is None)
            self.accepted = message
        elif isinstance(message, Part):
            assert message.number == len(self.parts), f"part {message.number} follows {len(self.parts)} parts"
            assert len(self.parts) < self.credit, "a part came without credit"
            assert not self.left, "a part came after its reader left"
            self.parts.append(bytes(message.value))
        else:
            assert isinstance(message, Result | Failure)
            self._conclude(message)
            self.answered_at = now

    def _conclude(self, answer: Result | Failure) -> None:
        self.final = answer
        entered = self.worker is not None
        if isinstance(answer, Result):
            assert answer.parts == len(self.parts), "a stream that ends short must not look complete"
            assert entered or not self.call.function, "an answer from nowhere"
            assert answer.session == self.session and answer.timing is not None
            assert self.accepted or self.call.session not in (None, "new"), "Accepted comes first"
            return
        outcome = BY_CODE[answer.code].outcome
        if outcome in NEVER_ENTERED:
            assert answer.ran == "no" and not entered, f"{answer.code} although the function was entered"
        elif outcome == "app_error":
            assert answer.ran == "yes" and entered
        else:
            assert answer.ran == ("maybe" if entered else "no"), f"{answer.code} says ran={answer.ran}"
        assert answer.message and len(answer.message) < 3000, "an error says what it is about"
        if outcome == "no_session":
            assert "session" in answer.message


@dataclass(eq=False)
class FakeWorker:
    """One process, from the order to start it until it is forgotten."""

    spawn: fx.Spawn
    idle_seconds: float
    idle_since: float = 0.0
    """The latest moment at which its idle clock must have begun."""
    touched: float = 0.0
    """The latest moment at which its idle clock may have begun."""
    spawned: bool = False
    failed: bool = False
    """No process came to be."""
    ready: bool = False
    linked: bool = True
    exited: bool = False
    tree_gone: bool = False
    stuck: bool = False
    forgotten: bool = False
    finish: str | None = None
    kills: int = 0
    invoked: int = 0
    """Calls that it was given so far."""
    running: Invoke | None = None
    yielded: int = 0
    credit: int = 0
    asked: Ordinal | None = None
    """The call that it was asked to end by itself."""
    interrupted: Ordinal | None = None
    captures: list[Ordinal] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """There is, or may come to be, a process."""
        return not (self.failed or self.exited)

    @property
    def idle(self) -> bool:
        """It is up, has nothing to do, and nobody ended it."""
        return (
            self.spawned
            and self.ready
            and self.alive
            and self.linked
            and not (self.running or self.finish or self.kills)
        )

    def restart_idle_clock(self, now: float) -> None:
        self.idle_since = self.touched = now

    def hear(self, message: ToWorker) -> None:
        assert self.alive and self.ready, f"{message} for a worker that cannot take it"
        assert not self.kills or isinstance(message, MoreCredit), f"{message} for a worker that was killed"
        assert self.finish is None or not isinstance(message, Invoke), "a call after Finish"
        if isinstance(message, Invoke):
            assert self.running is None, "two calls in one worker"
            assert message.ordinal == self.invoked + 1, "ordinals count from 1 without gaps"
            self.invoked, self.running = message.ordinal, message
            self.yielded, self.credit = 0, message.window or 0
        elif isinstance(message, MoreCredit):
            if self.running is not None and message.ordinal == self.running.ordinal:
                self.credit += message.parts
        elif isinstance(message, Finish):
            assert self.finish is None, "Finish is said once"
            assert self.running is None, "Finish to a worker that runs a call"
            self.finish = message.reason
        else:
            assert not isinstance(message, AskCancel), "the server says AskCancel itself, by RequestCancel"
            raise AssertionError(f"unexpected for a running worker: {message}")

    def ordered(self, effect: fx.RequestCancel | fx.Interrupt | fx.CaptureStack) -> None:
        """An order about the running call."""
        assert self.alive and self.ready
        assert effect.ordinal == self.invoked, "an order about a call that the worker has not got"
        if isinstance(effect, fx.RequestCancel):
            self.asked = effect.ordinal
        elif isinstance(effect, fx.Interrupt):
            assert self.asked == effect.ordinal, "interrupted without having been asked"
            self.interrupted = effect.ordinal
        else:
            self.captures.append(effect.ordinal)
