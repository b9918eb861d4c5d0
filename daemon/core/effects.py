"""What the rule book orders: each effect is performed by the server at once or handed on.

Whatever is slow or can fail comes back as an event: `LookUp` as `AppFound` or `AppMissing`,
`Spawn`, `Prepare` and `Fork` as `WorkerSpawned` or `SpawnFailed` (and later `WorkerExited`), `Look` as
`GpusSeen`, `Checkpoint` and `Restore` as `Checkpointed`, `Restored` or `MoveFailed`,
`CaptureStack` as `StackCaptured`, `Withdraw` as `WithdrawalSettled`, `Kill` as `WorkerExited` and
`TreeGone`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from warmd.daemon.core.events import GpuId
from warmd.protocol.messages import AppRef, Body, CallId, ClientId, FromDaemon, SessionId
from warmd.protocol.record import record
from warmd.protocol.work import AppSpec, Ordinal, ToWorker, WorkerId


@record
class Send:
    """A message for a client; dropped silently when the client is gone."""

    client: ClientId
    message: FromDaemon


@record
class Answer:
    """An administrative request is settled: answer it with the info of these sessions."""

    client: ClientId
    request: CallId
    sessions: tuple[SessionId, ...]
    many: bool
    """Answer with a list, also of one or none."""


@record
class LookUp:
    """Find the app's files, off the loop and without importing anything."""

    session: SessionId
    app: AppRef


@record
class Spawn:
    """Start a process; once it has come to the door, give it its `Begin`."""

    worker: WorkerId
    session: SessionId
    spec: AppSpec
    env: Mapping[str, str]
    setup: Body
    pickled: Body
    gpus: tuple[GpuId, ...] | None = None
    """Those that it may use; None: what its environment says."""


@record
class Prepare:
    """Start a process that imports the app and is then forked."""

    worker: WorkerId
    log: SessionId
    spec: AppSpec
    env: Mapping[str, str]
    pickled: Body


@record
class ShareLog:
    """The session waits for the import of a template: what that writes is told for it too."""

    session: SessionId
    log: SessionId


@record
class Fork:
    """Have a template make a worker; once that has come to the door, give it its `Begin`.

    With `whole` the template itself becomes that worker.
    """

    worker: WorkerId
    session: SessionId
    template: WorkerId
    spec: AppSpec
    setup: Body
    whole: bool = False
    gpus: tuple[GpuId, ...] | None = None


@record
class Tell:
    worker: WorkerId
    message: ToWorker


@record
class Pause:
    """Read nothing more from the worker's link for now: nobody takes what its call says."""

    worker: WorkerId


@record
class Resume:
    worker: WorkerId


@record
class Withdraw:
    """Take back a call that was sent before its turn: on the control page, and then see."""

    worker: WorkerId
    ordinal: Ordinal


@record
class RequestCancel:
    """Mark the call as cancelled on the control page and wake the app up to that:
    an `AskCancel` on the link, and the signal where the app has an `on_cancel`."""

    worker: WorkerId
    ordinal: Ordinal
    signal: bool


@record
class Interrupt:
    """Raise `Interrupted` in the call, if it still runs: control page and signal."""

    worker: WorkerId
    ordinal: Ordinal


@record
class CaptureStack:
    worker: WorkerId
    ordinal: Ordinal


@record
class Kill:
    """SIGKILL for the worker, and the end of its whole process tree.

    Also ordered after an orderly exit: the worker may have left children behind.
    """

    worker: WorkerId


@record
class Look:
    """Ask the driver what there is, and who has what."""

    number: int


@record
class Checkpoint:
    """Have the driver move the GPU memory of the worker's tree to host memory."""

    worker: WorkerId
    move: int
    seconds: float
    """After that the worker is killed."""


@record
class Restore:
    worker: WorkerId
    move: int
    seconds: float


@record
class Forget:
    """The session is over and its tree is gone: release what the server held for it."""

    worker: WorkerId
    session: SessionId


@record
class Stopped:
    """Nothing is left: the daemon may exit."""


Effect: TypeAlias = (
    Send
    | Answer
    | LookUp
    | Spawn
    | Prepare
    | ShareLog
    | Fork
    | Tell
    | Pause
    | Resume
    | Withdraw
    | RequestCancel
    | Interrupt
    | CaptureStack
    | Kill
    | Look
    | Checkpoint
    | Restore
    | Forget
    | Stopped
)
