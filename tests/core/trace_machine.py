"""A machine with one GPU around the rule book, in simulated time: loads, calls and moves take their time.

Processes take their memory when they are started or brought back, and keep a little of it when they
are parked; if it is not there, that is counted.  Nothing else fails; an interrupt ends a call at once,
unless the machine is `stubborn`: then it takes a kill.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf
from typing import Any

from tests.core.trace import MAX_RUN_SECONDS, MODELS, Request
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core import policy
from warmd.daemon.core.broker import Broker
from warmd.daemon.core.events import GpuId, GpuSeen
from warmd.daemon.core.policy import Limits
from warmd.protocol import gpus, work
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import AppRef, Call, CallId, ClientId, Failure, NewSession, Result, SessionId
from warmd.protocol.work import AppSpec, Asks, Invoke, WorkerId

GPU = GpuId("one")
GIB = 2**30
TOTAL_BYTES = 80 * GIB
CONTEXT_BYTES = GIB // 2
LOOK_SECONDS = 0.005
EXIT_SECONDS = 0.05


@dataclass(frozen=True)
class Speeds:
    """Bytes in a second."""

    load: float = 2.0 * GIB
    park: float = 45.0 * GIB
    unpark: float = 50.0 * GIB


HOOKS = Speeds()
"""Weights go to pinned host memory and back, as measured."""
DRIVER = Speeds(park=2.0 * GIB, unpark=5.0 * GIB)
"""The driver's checkpoint."""


@dataclass
class Stay:
    """One wait in the line."""

    since: float
    before: int
    """Who stood before it."""
    seconds: float = 0.0


@dataclass
class Moves:
    """How long the last ones of a worker took, and when it was back."""

    park_seconds: float = 0.0
    unpark_seconds: float = 0.0
    back: float | None = None


@dataclass
class Residence:
    """From a session's return to its next park."""

    seconds: float
    last_moves_seconds: float
    """How long it took the last time to park it and to bring it back."""


@dataclass
class Outcome:
    ran: list[str] = field(default_factory=list)
    """Of which model each call was, in the order in which they ran."""
    waits: list[float] = field(default_factory=list)
    """Seconds from each call's arrival until it ran."""
    latest: float = 0.0
    """Seconds after the end of its time-out at which a call was answered, at most."""
    answers: list[str] = field(default_factory=list)
    parks: int = 0
    residences: list[Residence] = field(default_factory=list)
    out_of_memory: int = 0
    stays: list[Stay] = field(default_factory=list)
    most_reserved: int = 0

    @property
    def longest_wait(self) -> float:
        return max(self.waits)

    @property
    def mean_wait(self) -> float:
        return sum(self.waits) / len(self.waits)


class Machine:
    """Plays requests for the models of the trace; each has one session, opened by its first request."""

    def __init__(
        self,
        speeds: Speeds = HOOKS,
        shares: dict[str, float] | None = None,
        stubborn: bool = False,
        **limits: Any,
    ) -> None:
        self.speeds = speeds
        self.stubborn = stubborn
        self.bytes = {name: int(share * TOTAL_BYTES) for name, share in (shares or dict(MODELS)).items()}
        self.broker = Broker(Limits(session_timeout_seconds=1e6, max_session_timeout_seconds=1e6, **limits))
        self.now = 0.0
        self.outcome = Outcome()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._numbers = count(1)
        self._requests: dict[CallId, tuple[Request, float, float]] = {}
        self._of_worker: dict[WorkerId, str] = {}
        self._has: dict[WorkerId, int] = {}
        self._moves: dict[WorkerId, Moves] = {}
        self._dead: set[WorkerId] = set()
        self._in_line: dict[SessionId, Stay] = {}

    def play(self, requests: Sequence[Request], timeout_seconds: float = 3600.0) -> Outcome:
        """Load each model once, then play the requests until all of them are answered."""
        self._tell(self._seen(0))
        self._plays([Request(0.0, model, 0.0) for model in self.bytes], 3600.0)
        self.outcome = Outcome()
        self._plays(requests, timeout_seconds)
        self.broker.check()
        return self.outcome

    def _plays(self, requests: Sequence[Request], timeout_seconds: float) -> None:
        for request in requests:
            arrives = partial(self._arrives, request, timeout_seconds)
            self._at(self.now + request.at_seconds, arrives)
        while len(self.outcome.answers) < len(requests):
            self._goes_on()

    def _goes_on(self) -> None:
        due = self.broker.deadline()
        first = self._agenda[0][0] if self._agenda else inf
        self.now = max(self.now, min(first, inf if due is None else due))
        if first <= self.now:
            heapq.heappop(self._agenda)[2]()
        else:
            self._tell(ev.TimePassed())

    def _at(self, when: float, what: Callable[[], object]) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), what))

    def _later(self, seconds: float, event: ev.Event) -> None:
        self._at(self.now + seconds, lambda: self._tell(event))

    def _arrives(self, request: Request, timeout_seconds: float) -> None:
        id = CallId(next(self._numbers).to_bytes(16, "big"))
        self._requests[id] = request, self.now, timeout_seconds
        new, function = NewSession(name=request.model), "run" if request.run_seconds else ""
        call = Call(id, "new", AppRef(request.model), function, timeout_seconds=timeout_seconds, new=new)
        self._tell(ev.CallArrived(ClientId(b"ann"), call, id.hex()))

    def _tell(self, event: ev.Event) -> None:
        if getattr(event, "worker", None) in self._dead and not isinstance(event, ev.TreeGone):
            return
        for effect in self.broker.handle(event, self.now):
            self._perform(effect)
        self._watch_the_line()

    def _watch_the_line(self) -> None:
        book = self.broker._book
        line = list(book.gpus.line)
        for at, session in enumerate(line):
            if session not in self._in_line:
                self._in_line[session] = Stay(self.now, at)
                self.outcome.stays.append(self._in_line[session])
        for session in [one for one in self._in_line if one not in book.gpus.line]:
            stay = self._in_line.pop(session)
            stay.seconds = self.now - stay.since
        reserved = sum(one.tenancy.reserved.get(GPU, 0) for one in book.gpus.tenants.values() if one.tenancy)
        self.outcome.most_reserved = max(self.outcome.most_reserved, reserved)

    def _perform(self, effect: fx.Effect) -> None:
        if isinstance(effect, fx.LookUp):
            name = effect.app.name
            asks = Asks(gpu=GpuAsk(bytes=self.bytes[name]))
            self._later(0.0, ev.AppFound(effect.session, AppSpec(name, f"{name}:App", asks=asks)))
        elif isinstance(effect, fx.Spawn):
            self._starts(effect)
        elif isinstance(effect, fx.Look):
            self._at(self.now + LOOK_SECONDS, lambda: self._tell(self._seen(effect.number)))
        elif isinstance(effect, fx.Tell):
            self._hears(effect.worker, effect.message)
        elif isinstance(effect, fx.Interrupt) and not self.stubborn:
            self._later(0.01, ev.WorkerSaid(effect.worker, work.Interrupted(effect.ordinal, 0.0)))
        elif isinstance(effect, fx.Kill):
            self._at(self.now + EXIT_SECONDS, partial(self._exits, effect.worker))
        elif isinstance(effect, fx.Send) and isinstance(effect.message, Result | Failure):
            self._is_answered(effect.message)

    def _starts(self, spawn: fx.Spawn) -> None:
        worker, model = spawn.worker, spawn.spec.name
        self._of_worker[worker], self._moves[worker] = model, Moves()
        self._takes(worker, self.bytes[model])
        self._later(0.01, ev.WorkerSpawned(worker, 100 + worker))
        ready = work.Ready(["run"], 0.0, 0.0, False)
        self._later(self.bytes[model] / self.speeds.load, ev.WorkerSaid(worker, ready))

    def _takes(self, worker: WorkerId, bytes: int) -> None:
        self._has[worker] = bytes
        self.outcome.out_of_memory += sum(self._has.values()) > TOTAL_BYTES

    def _hears(self, worker: WorkerId, message: object) -> None:
        bytes = self.bytes[self._of_worker[worker]]
        if isinstance(message, Invoke):
            request, arrived, _ = self._requests[message.call]
            self.outcome.ran.append(request.model)
            self.outcome.waits.append(self.now - arrived)
            returned = work.Returned(message.ordinal, request.run_seconds, 0, b"")
            self._later(request.run_seconds, ev.WorkerSaid(worker, returned))
        elif isinstance(message, gpus.Park):
            self._leaves(self._moves[worker])
            self._moves[worker].park_seconds = seconds = bytes / self.speeds.park
            self._at(self.now + seconds, partial(self._parks, worker, message.move))
        elif isinstance(message, gpus.Unpark):
            self._takes(worker, bytes)
            self._moves[worker].unpark_seconds = seconds = bytes / self.speeds.unpark
            self._moves[worker].back = self.now + seconds
            self._later(seconds, ev.WorkerSaid(worker, gpus.Unparked(message.move)))

    def _leaves(self, moves: Moves) -> None:
        if moves.back is not None:
            trip = moves.park_seconds + moves.unpark_seconds
            self.outcome.residences.append(Residence(self.now - moves.back, trip))

    def _parks(self, worker: WorkerId, move: int) -> None:
        if worker not in self._dead:
            self._has[worker] = CONTEXT_BYTES
            self.outcome.parks += 1
            self._tell(ev.WorkerSaid(worker, gpus.Offloaded(move)))

    def _exits(self, worker: WorkerId) -> None:
        self._tell(ev.WorkerExited(worker, None, "SIGKILL", ""))
        self._dead.add(worker)
        del self._has[worker]
        self._tell(ev.TreeGone(worker))

    def _is_answered(self, answer: Result | Failure) -> None:
        _, arrived, timeout = self._requests[answer.id]
        self.outcome.answers.append("ok" if isinstance(answer, Result) else answer.code)
        self.outcome.latest = max(self.outcome.latest, self.now - arrived - timeout)

    def _seen(self, look: int) -> ev.GpusSeen:
        of = dict(self._has)
        seen = GpuSeen(GPU, 0, "a card", TOTAL_BYTES, sum(of.values()), of)
        return ev.GpusSeen(look, (seen,))


def bound_seconds(
    speeds: Speeds, before: int, share: float = 0.45, run_seconds: float = MAX_RUN_SECONDS
) -> float:
    """The longest that somebody may wait in the line with so many before it.

    Each of them, and it, waits for the patience, the guard of the one that came back last, its running
    call, its way out, and the next one's way in.
    """
    bytes = share * TOTAL_BYTES
    moves = bytes / speeds.park + bytes / speeds.unpark + 3 * LOOK_SECONDS
    guard = max(policy.MIN_RESIDENT_SECONDS, moves)
    return (before + 1) * (policy.YIELD_AFTER_SECONDS + guard + run_seconds + moves)
