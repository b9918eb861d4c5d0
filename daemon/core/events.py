"""What the rule book is told: facts, each of them about something that has already happened.

Messages of clients and workers arrive inside `CallArrived` and `WorkerSaid`; the rest is what the
server saw happen in the world.  `Broker.handle(event, now)` answers with effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NewType, TypeAlias

from warmd.protocol.errors import Problem
from warmd.protocol.messages import Attach, Body, Call, CallId, ClientId, SessionId
from warmd.protocol.record import record
from warmd.protocol.work import AppSpec, FromWorker, Ordinal, WorkerId


@record
class CallArrived:
    """`fresh` is 32 random hex digits, for the id of the session that the call may open."""

    client: ClientId
    call: Call
    fresh: str


@record
class CreditArrived:
    client: ClientId
    call: CallId
    parts: int


@record
class CancelArrived:
    client: ClientId
    call: CallId
    how: Literal["cancel", "abandon"]


@record
class AttachArrived:
    client: ClientId
    attach: Attach


@record
class WatchArrived:
    """A client asks to hear how far a call is, for as long as that goes on."""

    client: ClientId
    request: CallId
    call: CallId
    window: int | None


@record
class StopArrived:
    """Somebody of the same user, not only the caller, asks for the end of a call."""

    call: CallId


@record
class KeepaliveArrived:
    """The clock of an idle session starts again; answered with an `Answer`."""

    client: ClientId
    request: CallId
    session: SessionId


@record
class HoldArrived:
    """The session is not to expire by idling for so long from now; None ends that."""

    client: ClientId
    request: CallId
    session: SessionId
    seconds: float | None


@record
class EndArrived:
    """End one session by id, all of an app, or all (`session` and `app` both None)."""

    client: ClientId
    request: CallId
    session: SessionId | None
    app: str | None
    running: Literal["cancel", "finish"]


@record
class ClientInside:
    """A client says, before anything else, that it runs inside the app of this session."""

    client: ClientId
    session: SessionId


@record
class ClientGone:
    client: ClientId


@record
class ClientBehind:
    """More than `max_unread_bytes` are sent to the client and not read by it."""

    client: ClientId
    unread: int


@record
class ClientCaughtUp:
    client: ClientId


@record
class AppFound:
    session: SessionId
    spec: AppSpec


@record
class AppMissing:
    session: SessionId
    problem: Problem


@record
class WorkerSpawned:
    worker: WorkerId
    pid: int


@record
class SpawnFailed:
    """No process came to be: there is nothing to kill and no exit to wait for."""

    worker: WorkerId
    message: str


@record
class YieldedMany:
    """Parts that were read together: `Yielded`, several times in a row, from `number` on."""

    ordinal: Ordinal
    number: int
    values: list[Body]


Word: TypeAlias = FromWorker | YieldedMany


@record
class WorkerSaid:
    worker: WorkerId
    message: Word


@record
class LinkLost:
    """The worker's socket ended, or spoke nonsense, while its process still lives."""

    worker: WorkerId
    message: str


@record
class OutOfMemory:
    """Why a worker was killed: its tree was over its limit, or the kernel most likely chose it.

    The numbers are known for the limit only.
    """

    cause: Literal["limit", "kernel"]
    used_bytes: int = 0
    limit_bytes: int = 0


@record
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
    out_of_memory: OutOfMemory | None = None


@record
class WithdrawalSettled:
    """Whether the worker had entered the call by the time it was withdrawn; if not, it never will."""

    worker: WorkerId
    ordinal: Ordinal
    entered: bool


@record
class TreeGone:
    """No process of the worker's tree is left; `stuck` are pids that cannot be killed."""

    worker: WorkerId
    stuck: tuple[int, ...] = ()


@record
class StackCaptured:
    """Where the worker's main thread was; empty when nothing could be had in time."""

    worker: WorkerId
    ordinal: Ordinal
    stack: str


GpuId = NewType("GpuId", str)
"""The UUID of a GPU, which CUDA_VISIBLE_DEVICES takes too."""


@record
class GpuSeen:
    """One GPU, as its driver tells; `of` is what the trees of workers have of `used_bytes`."""

    id: GpuId
    index: int
    name: str
    total_bytes: int
    used_bytes: int
    of: Mapping[WorkerId, int]
    exact: bool = True
    """False where the driver does not say what each process has, or shows none of them; then `of` tells
    less than there is, and who has room reserved is taken to have it."""


@record
class GpusSeen:
    """All GPUs, as they were after the `Look` of that number was ordered; without any, and why."""

    look: int
    gpus: tuple[GpuSeen, ...]
    why_none: str = ""


@record
class Checkpointed:
    """The driver has moved the worker's GPU memory to host memory."""

    worker: WorkerId
    move: int


@record
class Restored:
    """The driver has moved it back."""

    worker: WorkerId
    move: int


@record
class MoveFailed:
    """The driver could not, and the worker's processes are as they were before; `harmed`: they are not.

    `lasting`: it would fail again.
    """

    worker: WorkerId
    move: int
    message: str
    harmed: bool = False
    lasting: bool = False


@record
class ParkArrived:
    """Somebody wants an idle session's GPU memory moved to host memory."""

    client: ClientId
    request: CallId
    session: SessionId


@record
class UnparkArrived:
    client: ClientId
    request: CallId
    session: SessionId


@record
class DrainArrived:
    """Take no more work; let what runs finish for `drain_seconds`, then cancel it and stop."""

    drain_seconds: float


@record
class TimePassed:
    pass


AboutWorker: TypeAlias = (
    WorkerSpawned
    | SpawnFailed
    | WorkerSaid
    | LinkLost
    | WorkerExited
    | TreeGone
    | StackCaptured
    | WithdrawalSettled
    | Checkpointed
    | Restored
    | MoveFailed
)
Event: TypeAlias = (
    CallArrived
    | CreditArrived
    | CancelArrived
    | AttachArrived
    | WatchArrived
    | StopArrived
    | KeepaliveArrived
    | HoldArrived
    | EndArrived
    | ClientInside
    | ClientGone
    | ClientBehind
    | ClientCaughtUp
    | AppFound
    | AppMissing
    | AboutWorker
    | GpusSeen
    | ParkArrived
    | UnparkArrived
    | DrainArrived
    | TimePassed
)
