"""The records of the rule book: sessions, calls, and the phases a session moves through.

                    AppFound           Ready             a call is dispatched
    LOOKING_UP ---------------> STARTING -------> IDLE <----------------------> BUSY
        |                           |               |      it is answered         |
        |                           |               |                             |
        |  AppMissing               +---------------+------------+----------------+
        |                           | start failed, end, expiry, death, drain
        |                           v
        +----------------------> STOPPING ------> GONE
                                     process exited and tree gone

Of a session with GPU memory (`parking.py`), which may have to wait in PLACING for a place before it starts:

            somebody needs the memory            a call comes, and there is room
    IDLE ----------------------> PARKING ---> PARKED -------------> UNPARKING ---> IDLE
      ^                             |            ^                      |
      +------ it could not be ------+            +-- too little memory -+

A session is one process incarnation: it is never restarted, and its worker id is never reused.
A worker of the shared pool is a session too, of kind "pool": it shares its queue with the other
workers of its pool, and no call can name it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Literal, NamedTuple, TypeAlias

from warmd.daemon.core.events import GpuId
from warmd.daemon.core.gpus import Tenancy
from warmd.daemon.core.record import Kept
from warmd.protocol.messages import NOTHING, AppRef, Body, CallId, ClientId, SessionId
from warmd.protocol.parcels import Value
from warmd.protocol.work import AppSpec, Ordinal, WorkerId


class Phase(Enum):
    LOOKING_UP = "looking_up"
    PLACING = "placing"
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    PARKING = "parking"
    PARKED = "parked"
    UNPARKING = "unparking"
    STOPPING = "stopping"
    GONE = "gone"

    __hash__ = object.__hash__  # members are singletons; Enum's own hash costs a call on each move


LEGAL_MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.LOOKING_UP: frozenset({Phase.PLACING, Phase.STARTING, Phase.STOPPING}),
    Phase.PLACING: frozenset({Phase.STARTING, Phase.STOPPING}),
    Phase.STARTING: frozenset({Phase.IDLE, Phase.STOPPING}),
    Phase.IDLE: frozenset({Phase.BUSY, Phase.PARKING, Phase.STOPPING}),
    Phase.BUSY: frozenset({Phase.IDLE, Phase.STOPPING}),
    Phase.PARKING: frozenset({Phase.IDLE, Phase.PARKED, Phase.STOPPING}),
    Phase.PARKED: frozenset({Phase.UNPARKING, Phase.STOPPING}),
    Phase.UNPARKING: frozenset({Phase.IDLE, Phase.PARKED, Phase.STOPPING}),
    Phase.STOPPING: frozenset({Phase.GONE}),
    Phase.GONE: frozenset(),
}

NOT_STARTED = frozenset({Phase.LOOKING_UP, Phase.PLACING, Phase.STARTING})
UP = frozenset({Phase.IDLE, Phase.BUSY, Phase.PARKING, Phase.PARKED, Phase.UNPARKING})


class Verdict(NamedTuple):
    """Why a session is no more, told to everybody who still asks for it."""

    state: Literal["ended", "expired", "died"]
    reason: str


NOT_DISPATCHED = Ordinal(0)

PoolKey: TypeAlias = tuple[AppRef, bytes, tuple[tuple[str, str], ...]]
"""The app, its packed `setup` and its environment: calls alike in these share workers."""


TemplateKey: TypeAlias = tuple[AppRef, tuple[tuple[str, str], ...]]
"""The app and its environment: sessions alike in these can be forked from one process."""


class LadderStep(Enum):
    STACK = "stack"
    GRACE = "grace"
    INTERRUPT = "interrupt"


@dataclass(slots=True)
class Ladder:
    """How far the daemon has gone to stop a running call (`ladder.py`)."""

    cause: Literal["CANCELLED", "TIMEOUT"]
    why: str
    hurry: bool
    """Give an `on_cancel` little time: the caller's patience, or the daemon's, has ended."""
    step: LadderStep = LadderStep.STACK
    kill_at: float = 0.0
    stack: str = ""


class Withdrawal(NamedTuple):
    """Why a call that was sent before its turn is to be taken back."""

    code: Literal["CANCELLED", "TIMEOUT", "SESSION_EXPIRED"]
    waited: str
    """The error's text if it never ran."""
    ran: str
    """The same if the worker was faster."""


@dataclass(slots=True, eq=False)
class Job:
    """A call, from its arrival to its one final answer."""

    client: ClientId
    id: CallId
    function: str
    window: int | None
    """Parts that its reader has allowed so far; None for no stream."""
    input: Value
    arrived: float
    timeout_seconds: float
    wants_accepted: bool
    queue: deque[Job]
    """The queue that it waits in: its session's, or its pool's."""
    session: Session | None = None
    """None while it waits for any worker of a pool."""
    request_id: str = ""
    held: int = 0
    """Bytes of its input, while they are counted as waiting (`holdings.py`)."""
    ordinal: Ordinal = NOT_DISPATCHED
    dispatched: float = 0.0
    cold: bool = False
    parts: int = 0
    withheld: int = 0
    """Parts of `window` that the worker has not been told of, because its client is behind."""
    progress: Body = NOTHING
    ladder: Ladder | None = None
    withdrawal: Withdrawal | None = None
    entered: bool = False
    """It was to be withdrawn, but the worker had begun with it."""
    abandoned: bool = False
    """Its reader left the stream, or its client is gone."""
    orphan: bool = False
    """Its client is gone: nobody is there to be answered."""
    kept: Kept | None = None
    """Of a detached call: what it has given, and its readers."""


@dataclass(slots=True, eq=False)
class Behind:
    """A client that has more than `max_unread_bytes` to read (`readers.py`)."""

    unread: int
    """Bytes, when it was last told."""
    given_up: bool = False
    """It has had its time: results are lost to it."""


@dataclass(slots=True, eq=False)
class EndRequest:
    """An `end` that waits until the trees of all its sessions are gone."""

    client: ClientId
    id: CallId
    sessions: tuple[SessionId, ...]
    many: bool
    waiting_for: set[SessionId]


@dataclass(slots=True, eq=False)
class Pool:
    """The shared workers of one app and `setup`, and the calls that wait for any of them."""

    key: PoolKey
    opener: ClientId
    """Whose call brought `setup` and `pickled`."""
    pickled: Body = NOTHING
    queue: deque[Job] = field(default_factory=deque)
    members: dict[SessionId, Session] = field(default_factory=dict)
    found: bool = False
    """The app exists: calls can be accepted at once."""
    grows: bool = True
    """False after a start that failed beside a worker that is up: it would most likely fail again."""


@dataclass(slots=True, eq=False)
class Template:
    """A process that has imported an app, or does so, and is forked for each start (`templates.py`)."""

    id: SessionId
    """The name of its log; no call can name it."""
    key: TemplateKey
    spec: AppSpec
    worker: WorkerId
    ordered: float
    up: bool = False
    """Its import is done, and it may be forked."""
    pid: int | None = None
    waiting: list[Session] = field(default_factory=list)
    """Starts that wait for its import, in their order."""
    forking: dict[WorkerId, Session] = field(default_factory=dict)
    """Starts whose processes are on their way."""
    imports_seconds: float = 0.0
    memory_bytes: int = 0
    forks: int = 0
    used: float = 0.0
    """When it was last forked, or came up."""
    unforkable: str = ""
    """Why it can be no template."""
    retired: bool = False
    """It takes no more starts, and ends when those under way are through."""
    doomed: bool = False
    """It ends whatever is under way."""
    kill_ordered: bool = False
    exited: bool = False
    tree_gone: bool = False


@dataclass(slots=True, eq=False)
class Session:
    id: SessionId
    app: AppRef
    created: float
    idle_seconds: float
    lifetime_seconds: float
    opener: ClientId
    idle_asked: bool = False
    """Its idle time was asked for; else it is what is usual for its app, known after the lookup."""
    usual_idle_seconds: float = 0.0
    usual_lifetime_seconds: float = inf
    start_seconds: float = inf
    """How long its start may take."""
    setup: Body = NOTHING
    pickled: Body = NOTHING
    env: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    pool: Pool | None = None
    spare: bool = False
    """Nobody has asked for it yet (`spares.py`)."""
    phase: Phase = Phase.LOOKING_UP
    queue: deque[Job] = field(default_factory=deque)
    running: Job | None = None
    ahead: deque[Job] = field(default_factory=deque)
    """Calls that lie in the worker's socket behind the running one."""
    last_ordinal: int = 0
    paused: bool = False
    """Its worker is not listened to, because the reader of its running call is behind."""
    verdict: Verdict | None = None

    worker: WorkerId | None = None
    pid: int | None = None
    awaits: Template | None = None
    """The template whose import it waits for; it has no worker of its own yet."""
    forked_from: Template | None = None
    """While its process is on its way."""
    origin: str = "spawn"
    """How its process came to be: `fork`, or `spawn`, with the reason where a fork was to be expected."""
    spawn_ordered: float = 0.0
    ready_at: float = 0.0
    spawn_seconds: float = 0.0
    imports_seconds: float = 0.0
    setup_seconds: float = 0.0
    functions: tuple[str, ...] = ()
    reloads: bool = False
    """It may have other functions by the time it is called."""
    on_cancel: bool = False

    idle_since: float = 0.0
    held_until: float = 0.0
    """It does not expire by idling before that."""

    calls: int = 0
    last_call: float | None = None

    tenancy: Tenancy | None = None
    """What it has of GPUs; None: nothing, as far as is known."""
    never_parks: str = ""
    """Why it is not parked, should it have GPU memory."""
    footprint: int | None = None
    """By what its GPU memory is remembered for the next that is started like it."""

    mistrusted: bool = False
    """Its worker has said what cannot be: nothing that it says counts any more."""
    lost_link: str | None = None
    kill_wanted: bool = False
    kill_ordered: bool = False
    finish_told: bool = False
    exited: bool = False
    tree_gone: bool = False
    stuck: tuple[int, ...] = ()
    """Pids of its tree that cannot be killed; while the worker is one of them it keeps its place."""
    ends: list[EndRequest] = field(default_factory=list)

    @property
    def template_key(self) -> TemplateKey:
        return self.app, tuple(sorted(self.env.items()))

    @property
    def start_key(self) -> PoolKey:
        """Sessions alike in it are the same to begin with."""
        return self.app, bytes(self.setup), tuple(sorted(self.env.items()))

    @property
    def gpus(self) -> tuple[GpuId, ...] | None:
        """Those that were chosen for it."""
        return tuple(self.tenancy.home) if self.tenancy is not None and self.tenancy.placed else None

    @property
    def waits_for_room(self) -> bool:
        return self.tenancy is not None and self.tenancy.waits_since is not None

    @property
    def rests(self) -> bool:
        """Nothing runs or waits, and its idle clock goes."""
        return self.phase is Phase.IDLE or (self.phase is Phase.PARKED and not self.waits_for_room)

    @property
    def kind(self) -> Literal["session", "pool", "spare"]:
        if self.spare:
            return "spare"
        return "session" if self.pool is None else "pool"
