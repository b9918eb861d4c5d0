"""What the rule book is told: facts, each of them about something that has already happened.

Messages of clients and workers arrive inside `CallArrived` and `WorkerSaid`; the rest is what the
server saw happen in the world.  `Broker.handle(event, now)` answers with effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from warmd.protocol.errors import Problem
from warmd.protocol.messages import Call, CallId, ClientId, SessionId
from warmd.protocol.work import AppSpec, FromWorker, Ordinal, WorkerId


@dataclass(frozen=True, slots=True)
class CallArrived:
    """`fresh` is 32 random hex digits, for the id of the session that the call may open."""

    client: ClientId
    call: Call
    fresh: str


@dataclass(frozen=True, slots=True)
class CreditArrived:
    client: ClientId
    call: CallId
    parts: int


@dataclass(frozen=True, slots=True)
class CancelArrived:
    client: ClientId
    call: CallId
    how: Literal["cancel", "abandon"]


@dataclass(frozen=True, slots=True)
class KeepaliveArrived:
    """The clock of an idle session starts again; answered with an `Answer`."""

    client: ClientId
    request: CallId
    session: SessionId


@dataclass(frozen=True, slots=True)
class EndArrived:
    """End one session by id, all of an app, or all (`session` and `app` both None)."""

    client: ClientId
    request: CallId
    session: SessionId | None
    app: str | None
    running: Literal["cancel", "finish"]


@dataclass(frozen=True, slots=True)
class ClientGone:
    client: ClientId


@dataclass(frozen=True, slots=True)
class AppFound:
    session: SessionId
    spec: AppSpec


@dataclass(frozen=True, slots=True)
class AppMissing:
    session: SessionId
    problem: Problem


@dataclass(frozen=True, slots=True)
class WorkerSpawned:
    worker: WorkerId
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """No process came to be: there is nothing to kill and no exit to wait for."""

    worker: WorkerId
    message: str


@dataclass(frozen=True, slots=True)
class WorkerSaid:
    worker: WorkerId
    message: FromWorker


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The worker's socket ended, or spoke nonsense, while its process still lives."""

    worker: WorkerId
    message: str


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The process is gone and its link has been read to the end.

    Exactly one of `exit_code` and `signal` (a name such as "SIGKILL") is set.  `entered` is the last
    call whose function the worker entered, None where that cannot be known.
    """

    worker: WorkerId
    exit_code: int | None
    signal: str | None
    log_tail: str
    entered: Ordinal | None = None


@dataclass(frozen=True, slots=True)
class WithdrawalSettled:
    """Whether the worker had entered the call by the time it was withdrawn; if not, it never will."""

    worker: WorkerId
    ordinal: Ordinal
    entered: bool


@dataclass(frozen=True, slots=True)
class TreeGone:
    """No process of the worker's tree is left; `stuck` are pids that cannot be killed."""

    worker: WorkerId
    stuck: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StackCaptured:
    """Where the worker's main thread was; empty when nothing could be had in time."""

    worker: WorkerId
    ordinal: Ordinal
    stack: str


@dataclass(frozen=True, slots=True)
class DrainArrived:
    """Take no more work; let what runs finish for `drain_seconds`, then cancel it and stop."""

    drain_seconds: float


@dataclass(frozen=True, slots=True)
class TimePassed:
    pass


Event: TypeAlias = (
    CallArrived
    | CreditArrived
    | CancelArrived
    | KeepaliveArrived
    | EndArrived
    | ClientGone
    | AppFound
    | AppMissing
    | WorkerSpawned
    | SpawnFailed
    | WorkerSaid
    | LinkLost
    | WorkerExited
    | TreeGone
    | StackCaptured
    | WithdrawalSettled
    | DrainArrived
    | TimePassed
)
