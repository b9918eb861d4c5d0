"""The messages between a client and the daemon: one record each.

    client -> daemon                     daemon -> client
    Hello     opens a connection         Welcome   accepts it
    Call      runs a function            Refused   no connection, and why
    Request   an administrative verb     Accepted  the call is admitted; its session is known
    Credit    parts that were taken      Part      one yielded value, or Parts, several
    Cancel    stop a call or request     Result    the call's good end
    Attach    hear of a detached call    Failure   the call's bad end
    Pong      all before the ping is     Goodbye   the daemon is about to stop
              received                   Ping      how far does the client read?
    HandBack  lent memory is read        HandBack  the same

A call or request gets exactly one `Result` or `Failure`.  `Accepted` precedes it, except where a
call named its session by id: then the client knows all that it would say, and it is left out.  A
detached call is always accepted: from then on its client may go.

Header fields are listed in wire order.  Fields named in `FRAMES` travel as frames of their own
behind the header, opaque to the broker.  A value whose large data lie apart is a `Parcel` in its
field; on the wire its region is the frame `region`, or in the memory that `lent` names.

docs/protocol.md says the same for other languages.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar, Literal, NamedTuple, NewType, TypeAlias

from warmd.protocol.parcels import Body as Body
from warmd.protocol.parcels import Value
from warmd.protocol.record import record

PROTOCOL = 6
"""Both sides must name the same number; raised with every change of a message."""

ClientId = NewType("ClientId", bytes)
"""A connection, as the daemon's ROUTER knows it."""
CallId = NewType("CallId", bytes)
"""16 random bytes, chosen by the client; names a call or a request for its whole life."""
SessionId = NewType("SessionId", str)
"""`sess_` and 32 hex digits (128 random bits), chosen by the daemon."""

WINDOW_BYTES = 8 * 2**20
"""Of a stream's parts, so much may be on its way to its reader."""
NEW_SESSION = "new"
MAX_NOTE_CHARACTERS = 4096
CALL_ID_BYTES = 16
NOTHING = b""
"""An absent body frame."""


class Origin(NamedTuple):
    """Where a client's own code lives: part of the identity of apps that are not registered."""

    python: str
    """The client's interpreter (absolute path)."""
    cwd: str
    path: str
    """The client's `sys.path[0]`."""


class AppRef(NamedTuple):
    """Which app, and whose.  Two references are the same app only if they are equal."""

    name: str
    """A registered name, an absolute folder, or `module:Class`."""
    origin: Origin | None = None
    """Set for folders, `module:Class` and classes; None for registered names."""
    digest: str | None = None
    """Set for a class sent by value: SHA-256 of its pickle, hex."""


class NewSession(NamedTuple):
    """What a call asks of the session that it opens."""

    idle_seconds: float | None = None
    """None: the daemon's default; inf: never expires, where the daemon allows it."""
    name: str | None = None
    """Get or create: a live session of that name is joined."""
    labels: dict[str, str] = {}  # noqa: RUF012  (never mutated; a NamedTuple has no factories)
    env: dict[str, str] = {}  # noqa: RUF012
    lifetime_seconds: float | None = None
    """It expires at that age; None: the daemon's `max_lifetime`, which is also the most."""
    spare: bool = False
    """It is only to be ready for a call that will open one like it (`daemon.core.spares`)."""


class Lent(NamedTuple):
    """A region of a value in a segment (`protocol.segments`), whose descriptor travels on a lane
    (`Welcome.lane`), or with the message itself on a worker's link."""

    number: int
    """Chosen by whoever sends the descriptor; named in the `HandBack`."""
    size: int
    """Bytes from the segment's beginning."""


class Timing(NamedTuple):
    """Where a call's time went, in seconds, as the daemon and the worker measured it."""

    cold: bool
    """The call waited for its session to start."""
    queue: float
    spawn: float
    imports: float
    setup: float
    run: float


@record
class Hello:
    protocol: int
    version: str
    pid: int
    client: str
    """The program's name, for listings."""
    session: str | None = None
    """The session inside whose app the client runs, where it does (`WARMD_SESSION_ID`)."""


@record
class Call:
    """Run `function` in a session.

    `session` is `"new"`, an id, or None for the shared pool.  An empty `function` only waits for
    the session to be ready.  `timeout_seconds` is what remains of the caller's patience; None
    leaves it to the daemon's default.  `window` is the number of parts that the client is ready
    to take now; None asks for the last value only.  With `detach` the call is the daemon's: its
    client's leaving means nothing to it, and what comes of it is kept for whoever attaches.
    """

    FRAMES: ClassVar = ("input", "setup", "pickled", "region")

    id: CallId
    session: str | None
    app: AppRef | None
    function: str
    timeout_seconds: float | None = None
    window: int | None = None
    new: NewSession | None = None
    detach: bool = False
    note: str = ""
    """Words of the caller's own that are kept with a detached call, and told with it."""
    request_id: str = ""
    """What the caller's own logs name this request by (`names.is_request_id`); the app's log names it too."""
    lent: Lent | None = None
    input: Value = NOTHING
    setup: Body = NOTHING
    """The packed argument of the app's `setup`."""
    pickled: Body = NOTHING
    """A class by value; only over ipc, only where the daemon's `classes` setting allows it."""
    region: Body = NOTHING


@record
class Request:
    """An administrative verb (docs/protocol.md lists them); answered like a call."""

    id: CallId
    verb: str
    arguments: dict[str, Any] = field(default_factory=dict)
    window: int | None = None


@record
class Credit:
    """So many parts were taken, and there is room for as many more.

    It comes at the latest when half of the window has been taken, or half of `WINDOW_BYTES`: the worker
    waits when it has sent as much.
    """

    id: CallId
    parts: int


@record
class Cancel:
    """`"cancel"` climbs the whole ladder up to ending the session; `"abandon"` (a reader that
    left a stream early) only closes the generator at its next chance and never costs the session;
    `"finish"` ends the following of logs, and means nothing to calls."""

    id: CallId
    how: Literal["cancel", "abandon", "finish"] = "cancel"


@record
class Attach:
    """Hear of the detached call `call`: its parts from number `offset` on, as far as `window` and
    credits allow, and its end.  A conversation of its own, named by `id`; a `Cancel` of it only
    detaches this reader.  Without a `window` the last value comes, in the Result."""

    id: CallId
    call: CallId
    offset: int = 0
    window: int | None = None


@record
class Pong:
    """The answer to `Ping(number)`: the client has received all that was sent before it."""

    number: int


@record
class HandBack:
    """Nobody reads these segments of the receiver's any more: it may fill them again.

    Of those that are `left` the sender has done too, but others may go on reading them, of whom it
    knows nothing: forks of its process, or one that closed its connection.  They are never filled again.
    """

    numbers: list[int]
    left: list[int] = field(default_factory=list)


@record
class Welcome:
    protocol: int
    version: str
    boot: str
    """Random for each start of the daemon; ids and calls of another boot are unknown here."""
    pid: int
    max_message_bytes: int
    """The limit for all body frames of one message together."""
    call_timeout_seconds: float = 3600.0
    """The daemon's limit for a call that names none."""
    lane: str = ""
    """What opens a lane for descriptors, at the door beside the socket (`work.Lend`); empty: no lane
    for this client."""
    max_lent_bytes: int = 0
    """What it may have lent at one time."""


@record
class Refused:
    protocol: int
    version: str
    message: str


@record
class Accepted:
    id: CallId
    session: SessionId | None
    """None for a call to the shared pool."""


@record
class Part:
    """One yielded value; `number` counts from 0 without gaps."""

    FRAMES: ClassVar = ("value", "region")

    id: CallId
    number: int
    value: Value = NOTHING
    lent: Lent | None = None
    region: Body = NOTHING


@record
class Parts:
    """Several yielded values that came together, the first of them number `number`.

    `values` is the packed values one after another, `sizes` tells them apart.
    """

    FRAMES: ClassVar = ("values",)

    id: CallId
    number: int
    sizes: list[int]
    values: Body = NOTHING


@record
class Result:
    """`parts` is how many came before: a stream that ends short is an error.  With a `window`
    the value of a generator's call is empty (its last part was the result)."""

    FRAMES: ClassVar = ("value", "region")

    id: CallId
    session: SessionId | None
    parts: int = 0
    timing: Timing | None = None
    value: Value = NOTHING
    lent: Lent | None = None
    region: Body = NOTHING


@record
class Failure:
    id: CallId
    session: SessionId | None
    code: str
    message: str
    ran: str
    details: dict[str, Any] = field(default_factory=dict)


@record
class Goodbye:
    reason: str


@record
class Ping:
    """Asks for a `Pong` when the client's reading has come to this place in what it is sent."""

    number: int


FromClient: TypeAlias = Hello | Call | Request | Credit | Cancel | Attach | Pong | HandBack
FromDaemon: TypeAlias = (
    Welcome | Refused | Accepted | Part | Parts | Result | Failure | Goodbye | Ping | HandBack
)
