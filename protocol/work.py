"""The messages between the daemon and a worker, over the worker's own Unix stream socket.

    daemon -> worker                        worker -> daemon
    Begin        load this app              Arrived      token, before anything else
    Invoke       run a function             Ready        `setup` is done
    MoreCredit   room for more parts        StartFailed  import or `setup` raised
    AskCancel    close the stream           Yielded      one part
    Finish       run `unload` and exit      Returned     the function's value
    Park Unpark  GPU memory goes and comes: `protocol.gpus` has these and their answers
    HandBack     lent memory is read        HandBack     the same
                                            Raised       the function's exception
                                            Interrupted  the call was cut off, the state kept
                                            Declined     the input does not fit: nothing was run
                                            Progressed   what `context.progress()` was given
                                            Reloaded     what may be called has changed
                                            NoFunction   the function is not, or no longer, there
    to a template:                          of a template:
    Prepare      import this app            Prepared     it is imported, and may be forked or not
    Describe     what can be called         Described    the functions, what they take and give
    Fork         make a worker of yourself  Forked       the worker's process id
                                            ForkFailed   there is no such process
                                            Outdated     the app's files have changed since

An `ordinal` numbers the calls of one worker from 1; the control page (`daemon.worker.page`) names
the running call by it.  Field order is wire order, as in `protocol.messages`.
"""

from __future__ import annotations

import struct
from typing import ClassVar, NamedTuple, NewType, TypeAlias

from warmd.protocol import gpus
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import NOTHING, Body, CallId, HandBack, Lent
from warmd.protocol.parcels import Value
from warmd.protocol.record import record

WorkerId = NewType("WorkerId", int)
"""One process incarnation; never reused within a daemon's life.  Those below 0 are no business of the
rule book's (`daemon.describing`)."""
NO_WORKER = WorkerId(0)
Ordinal = NewType("Ordinal", int)


class Asks(NamedTuple):
    """What an app's manifest asks of the daemon; None: what goes for all apps."""

    idle_seconds: float | None = None
    """Of a session that asks for no other time."""
    lifetime_seconds: float | None = None
    start_seconds: float | None = None
    """For import and `setup`, and for making its environment."""
    memory_bytes: int | None = None
    spares: int = 0
    """So many are started together with the daemon, and wait as long as it takes."""
    template: bool = True
    """It may be imported once and forked."""
    gpu: GpuAsk | None = None
    """None: nothing is known before it is measured."""
    park: bool = True
    """Its GPU memory may go to host memory while it is idle."""


class AppSpec(NamedTuple):
    """Where a worker finds an app: what looking up an `AppRef` gives."""

    name: str
    target: str
    """`module:Class`; empty for a class sent by value."""
    paths: tuple[str, ...] = ()
    """Put in front of `sys.path`."""
    cwd: str | None = None
    python: str | None = None
    """An interpreter other than the daemon's own."""
    requirements: str = ""
    """What pip is to install into an environment of the app's own, one requirement a line."""
    env: dict[str, str] = {}  # noqa: RUF012  (never mutated; a NamedTuple has no factories)
    """Variables of its processes, where the call gives no others."""
    default_function: str = ""
    """What a call of `run` means; empty: `run` itself."""
    reload: bool = False
    """Functions that were edited are taken over by sessions that live."""
    asks: Asks = Asks()


@record
class Arrived:
    protocol: int
    version: str
    token: str
    pid: int


LANE_NUMBER = struct.Struct("<Q")
"""What goes along with a descriptor to a client; the first, 0, goes alone, and says that the lane is here."""


@record
class Lend:
    """Each message on a client's lane: travels with the descriptor of segment `number`, or with none
    where it only opens the lane."""

    key: str
    """`Welcome.lane`."""
    number: int = 0


@record
class Begin:
    """Travels with two descriptors: the control page and the memfd for stacks."""

    FRAMES: ClassVar = ("setup", "pickled")

    session: str
    spec: AppSpec
    log_path: str
    max_message_bytes: int
    data_bytes: int | None = None
    """RLIMIT_DATA of the worker and each of its children."""
    cgroup: str | None = None
    """The cgroup that the worker moves to before it loads its app."""
    max_lent_bytes: int = 0
    """What it may have lent at one time."""
    gpus: list[str] | None = None
    """The UUIDs of the GPUs that it may use; None: what its environment says."""
    setup: Body = NOTHING
    pickled: Body = NOTHING


@record
class Prepare:
    """Travels like `Begin`; makes the process a template of the app (`daemon.worker.template`)."""

    FRAMES: ClassVar = ("pickled",)

    session: str
    """The name of its log, `tmpl_...`."""
    spec: AppSpec
    log_path: str
    data_bytes: int | None = None
    cgroup: str | None = None
    describes: bool = False
    """It is to describe the app only, and is never forked: the app's `prepare` is not run."""
    pickled: Body = NOTHING


@record
class Fork:
    """A worker with this token and session id is to come to the door.

    With `whole` the template forks none but becomes it, and is no template any more.
    """

    worker: WorkerId
    token: str
    session: str
    cgroup: str | None = None
    whole: bool = False


@record
class Describe:
    """Asks what the functions of the app take and give; where its files have changed, `Outdated` comes."""

    max_bytes: int


@record
class Described:
    """`value` is a packed map (`worker.schema`) of `size` bytes; left out where that is over `max_bytes`."""

    FRAMES: ClassVar = ("value",)

    size: int
    value: Body = NOTHING


@record
class Prepared:
    """`unforkable` says why forks of this process would not be safe; empty where they are."""

    imports_seconds: float
    memory_bytes: int
    """Its private memory: what it costs beside the workers that share the rest."""
    unforkable: str


@record
class Forked:
    worker: WorkerId
    pid: int


@record
class ForkFailed:
    worker: WorkerId
    message: str


@record
class Outdated:
    """There is no such process, because what the template has imported is not what is there now.

    `NO_WORKER` where it was to describe the app.
    """

    worker: WorkerId


@record
class Ready:
    functions: list[str]
    imports_seconds: float
    setup_seconds: float
    on_cancel: bool
    """The app wants to be asked before it is interrupted."""
    reloads: bool = False
    """Functions may come and go: whether there is one that is not listed, only the worker knows."""


@record
class StartFailed:
    """`phase` is `"imports"`, `"prepare"` or `"setup"`."""

    phase: str
    type: str
    message: str
    traceback: str


@record
class Invoke:
    """`window` as in `messages.Call`: None asks for the last value only.

    Of a stream at most `window_bytes` are on their way before more credit comes; None: no such bound.
    """

    FRAMES: ClassVar = ("input", "region")

    ordinal: Ordinal
    call: CallId
    function: str
    window: int | None
    input: Value = NOTHING
    lent: Lent | None = None
    window_bytes: int | None = None
    request_id: str = ""
    region: Body = NOTHING


@record
class MoreCredit:
    ordinal: Ordinal
    parts: int


@record
class AskCancel:
    ordinal: Ordinal


@record
class Finish:
    reason: str
    """`ended`, `expired` or `stopped`; given to the app's `unload`."""
    parked: bool = False
    """Its GPU memory is with the driver: whatever touches it hangs, also at the interpreter's exit."""


@record
class Yielded:
    FRAMES: ClassVar = ("value", "region")

    ordinal: Ordinal
    number: int
    value: Value = NOTHING
    lent: Lent | None = None
    region: Body = NOTHING


@record
class Returned:
    """`parts` counts the values sent before as `Yielded`."""

    FRAMES: ClassVar = ("value", "region")

    ordinal: Ordinal
    run_seconds: float
    parts: int = 0
    value: Value = NOTHING
    lent: Lent | None = None
    region: Body = NOTHING


@record
class Raised:
    """`type` is `module.Name`, or the bare name of a builtin."""

    ordinal: Ordinal
    run_seconds: float
    type: str
    message: str
    traceback: str


@record
class Interrupted:
    ordinal: Ordinal
    run_seconds: float


@record
class Declined:
    """The function was not entered: it cannot take this input."""

    ordinal: Ordinal
    message: str


@record
class Reloaded:
    """Before the answer to the call for which the worker has looked: as in `Ready`."""

    functions: list[str]
    on_cancel: bool


@record
class NoFunction:
    """Instead of an answer, of a worker that reloads; nothing of the call has run."""

    ordinal: Ordinal


@record
class Progressed:
    FRAMES: ClassVar = ("value",)

    ordinal: Ordinal
    value: Body = NOTHING


ToWorker: TypeAlias = (
    Begin
    | Invoke
    | MoreCredit
    | AskCancel
    | Finish
    | gpus.Park
    | gpus.Unpark
    | Prepare
    | Describe
    | Fork
    | HandBack
)
FromWorker: TypeAlias = (
    Arrived
    | Ready
    | StartFailed
    | Yielded
    | Returned
    | Raised
    | Interrupted
    | Declined
    | Progressed
    | Reloaded
    | NoFunction
    | gpus.Offloaded
    | gpus.Checkpointable
    | gpus.KeepsMemory
    | gpus.ParkFailed
    | gpus.Unparked
    | Prepared
    | Described
    | Forked
    | ForkFailed
    | Outdated
    | HandBack
    | Lend
)
