"""What is known of the machine's GPUs, and who may have how much of their memory.

Reservations decide, measured memory advises.  A session that runs on GPUs, or is to, has a *tenancy*:
a home of so many bytes, its own whether it has taken them yet or not.  Who has grown beyond its home
counts as large as it was measured.  What no session owns (other programs, the driver, and what a
process that has ended has not given back) is measured only:

    free = total - strangers - each tenant's max(reserved, measured) - what is returning

A process that ends keeps its reservation (`returning`) until a look that was ordered after its end
has shown what is there now: so nothing is given away before it is back.

An app that says nothing of GPUs becomes a tenant when its memory is first seen.  What it has had at
most is remembered by app and `setup`, and reserved for the next of its kind.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal

from warmd.daemon.core import policy
from warmd.daemon.core.events import GpuId, GpuSeen, GpusSeen
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import CallId, ClientId, SessionId
from warmd.protocol.work import AppSpec, WorkerId

if TYPE_CHECKING:
    from warmd.daemon.core.session import Session

Bytes = dict[GpuId, int]
Where = Literal["nowhere", "resident", "parked"]
NO_NUMBER = 0
SEVERAL = 0
"""Learned of an app that uses several GPUs: it is to see all, and is given none."""


@dataclass(slots=True, eq=False)
class Tenancy:
    """What one session has, or waits for, of GPUs."""

    ask: GpuAsk | None
    """None: nobody has said what it needs, and it counts as it was measured."""
    placed: bool
    """The daemon chooses its GPUs; else its environment does."""
    never: str = ""
    """Why it is not parked."""
    spec: AppSpec | None = None
    """What it is started from when it has its place."""
    where: Where = "nowhere"
    home: Bytes = field(default_factory=dict)
    """Reserved while it is resident, and what must be free before it may come back."""
    left: Bytes = field(default_factory=dict)
    """What it still has on its GPUs while it is parked, as measured."""
    learns: int | None = None
    """The key by which its size is remembered for the next of its kind."""

    failures: int = 0
    """Moves in a row that came to nothing."""
    trouble: str = ""
    """Why it could not come back the last time."""
    in_peace_until: float = 0.0
    """It could not be parked: until then that is not tried again."""
    way: Literal["", "app", "driver"] = ""
    """Who moves its memory: its own hooks, or the driver; known during a move and while it is parked."""
    move: int = NO_NUMBER
    """The move under way."""
    began: float = 0.0
    look: int = NO_NUMBER
    """The look that is to show what the move has freed."""
    before: Bytes = field(default_factory=dict)
    """What it had when the move began."""
    host_bytes: int = 0
    """What its park takes, or may take, of host memory."""
    strangers_before: Bytes = field(default_factory=dict)
    """What no session owned of its GPUs then."""
    park_seconds: float = 0.0
    unpark_seconds: float = 0.0
    resident_since: float = 0.0
    full_since: float = -inf
    """Since when it can have all that is reserved; inf while it starts or comes back."""
    moves: int = 0
    """How often it was parked."""

    waits_since: float | None = None
    """Since when it stands in the line for a place."""
    waited_since: float | None = None
    """The same, while it is brought back, in case that fails."""
    not_before: float = 0.0
    """It could not come back though there seemed to be room: when that is tried again."""
    yields: bool = False
    """Somebody has waited long enough: it is parked after its running call, though others wait for it."""
    parks_for: list[tuple[ClientId, CallId]] = field(default_factory=list)
    """Who has asked for the move by hand."""
    unparks_for: list[tuple[ClientId, CallId]] = field(default_factory=list)

    @property
    def reserved(self) -> Bytes:
        return self.home if self.where == "resident" else self.left

    @property
    def with_driver(self) -> bool:
        """Its memory is the driver's: whatever touches it hangs."""
        return self.way == "driver" and (self.where == "parked" or self.move != NO_NUMBER)

    @property
    def stays_until(self) -> float:
        """No thrash: it is not parked again before it was there for as long as its last moves took."""
        moves_seconds = self.park_seconds + self.unpark_seconds
        stays = self.resident_since + max(policy.MIN_RESIDENT_SECONDS, moves_seconds)
        return max(stays, self.in_peace_until)

    @property
    def bring_back_seconds(self) -> float:
        return self.unpark_seconds or sum(self.home.values()) / policy.UNPARK_BYTES_PER_SECOND


@dataclass(frozen=True, slots=True)
class GpuView:
    """What a session has of GPUs."""

    reserved: Mapping[GpuId, int]
    """Bytes on each, while it is there; what must come free for it to come back, while it is parked."""
    measured: Mapping[GpuId, int]
    parked_bytes: int
    """In host memory."""
    never: str
    """Why it is not parked; empty where it may be."""
    moves: int
    park_seconds: float
    unpark_seconds: float
    waits_since: float | None
    """For a place."""


class Gpus:
    """The GPUs and their tenants.  `known` is empty before the first look, and where there are none."""

    def __init__(self, look: Callable[[int], object], now: Callable[[], float]) -> None:
        """`look(number)` is to order one, which comes back as `GpusSeen`."""
        self._order_look = look
        self._now = now
        self._ordered: dict[int, float] = {}
        """When the looks were that have not been answered."""
        self.shown_since = -inf
        """When the latest look was ordered that has shown anything."""
        self.known: dict[GpuId, GpuSeen] = {}
        self.why_none = ""
        """Why there are none, once somebody has looked."""
        self.tenants: dict[SessionId, Session] = {}
        self.line: dict[SessionId, Session] = {}
        """Those that wait for a place, in their order."""
        self.returning: dict[WorkerId, tuple[int, Bytes]] = {}
        """What ended processes had, and the look that is to show it gone."""
        self.learned: OrderedDict[int, int] = OrderedDict()
        self.last_look = NO_NUMBER
        self.answered_look = NO_NUMBER
        self.seen_look = NO_NUMBER
        """The latest that has shown anything."""
        self.fresh = False
        """Nobody looks while there are no sessions: what is known then is too old to go by."""
        self.last_move = NO_NUMBER
        self.stirred = False
        """Something has changed that may let somebody in."""

    @property
    def looked(self) -> bool:
        return self.fresh and bool(self.known or self.why_none)

    def next_move(self) -> int:
        self.last_move += 1
        return self.last_move

    def look(self) -> int:
        """Order a look; returns its number."""
        self.last_look += 1
        self._ordered[self.last_look] = self._now()
        self._order_look(self.last_look)
        return self.last_look

    # Who has how much

    def measured(self, session: Session, gpu: GpuId) -> int:
        """Where the driver does not say, a session is taken to have what is reserved for it, from the first
        look on that it can have had all of it."""
        seen = self.known.get(gpu)
        if seen is None or session.worker is None:
            return 0
        told, tenancy = seen.of.get(session.worker, 0), _of(session)
        if seen.exact or self.shown_since <= tenancy.full_since:
            return told
        return max(told, tenancy.reserved.get(gpu, 0))

    def held(self, session: Session, gpu: GpuId) -> int:
        """What counts as the session's."""
        tenancy = _of(session)
        measured = self.measured(session, gpu) if tenancy.where != "parked" else 0
        return max(tenancy.reserved.get(gpu, 0), measured)

    def has(self, session: Session, gpu: GpuId) -> int:
        """What the session has taken, where a look has shown it as it is; else what counts as its."""
        seen = self.known.get(gpu)
        rests = session.running is None and not session.queue
        since = session.idle_since if rests else _of(session).resident_since
        shown = seen is not None and seen.exact and self.shown_since > since
        return self.measured(session, gpu) if shown else self.held(session, gpu)

    def strangers_bytes(self, gpu: GpuId) -> int:
        """What no session here owns."""
        seen = self.known[gpu]
        owned = sum(self.measured(session, gpu) for session in self.tenants.values())
        for worker, (_, had) in self.returning.items():
            owned += max(seen.of.get(worker, 0), 0 if seen.exact else had.get(gpu, 0))
        return max(0, seen.used_bytes - owned)

    def unexplained_bytes(self, session: Session, gpu: GpuId) -> int:
        """What is used that counts as nobody else's; the session has no more of it."""
        others = sum(self.held(other, gpu) for other in self.tenants.values() if other is not session)
        return max(0, self.known[gpu].used_bytes - others - self.returning_bytes(gpu))

    def free_bytes(self, gpu: GpuId) -> int:
        """May be negative, where more was taken than was reserved."""
        held = sum(self.held(session, gpu) for session in self.tenants.values())
        taken = self.strangers_bytes(gpu) + held + self.returning_bytes(gpu)
        return self.known[gpu].total_bytes - taken

    def returning_bytes(self, gpu: GpuId) -> int:
        return sum(had.get(gpu, 0) for _, had in self.returning.values())

    def parked_bytes(self) -> int:
        """Host memory that parked sessions take, those on their way there included."""
        return sum(_of(session).host_bytes for session in self.tenants.values())

    def view(self, session: Session, tenancy: Tenancy) -> GpuView:
        return GpuView(
            reserved=dict(tenancy.home),
            measured={gpu: bytes for gpu in self.known if (bytes := self.measured(session, gpu))},
            parked_bytes=tenancy.host_bytes if tenancy.where == "parked" else 0,
            never=tenancy.never,
            moves=tenancy.moves,
            park_seconds=tenancy.park_seconds,
            unpark_seconds=tenancy.unpark_seconds,
            waits_since=tenancy.waits_since,
        )

    # Comings and goings

    def settle(self, session: Session, home: Bytes) -> None:
        """From now on so much is the session's."""
        tenancy = _of(session)
        tenancy.home, tenancy.where = home, "resident"
        tenancy.full_since = inf
        self.tenants[session.id] = session

    def leave(self, session: Session) -> None:
        """Its process is gone; what it had is given away once that was seen."""
        self.leave_line(session)
        if self.tenants.pop(session.id, None) is not None and session.worker is not None:
            had = {gpu: self.held(session, gpu) for gpu in {*_of(session).home, *self.known}}
            self.returning[session.worker] = self.look(), had
        self.stirred = True

    def join_line(self, session: Session, since: float) -> None:
        _of(session).waits_since = since
        self.line[session.id] = session
        self.stirred = True

    def leave_line(self, session: Session) -> None:
        if _of(session).waits_since is not None:
            _of(session).waits_since = None
            del self.line[session.id]
            self.stirred = True

    # Facts

    def update(self, event: GpusSeen, workers: dict[WorkerId, Session]) -> None:
        """A look was answered; what was known stays where it has shown nothing."""
        self.answered_look = max(self.answered_look, event.look)
        ordered = self._ordered.pop(event.look, -inf)
        self.fresh = True
        self.why_none = "" if event.gpus else event.why_none or "none was found"
        self.stirred = True
        if not event.gpus:
            return
        self.seen_look = max(self.seen_look, event.look)
        self.shown_since = max(self.shown_since, ordered)
        self.known = {seen.id: seen for seen in event.gpus}
        self.returning = {id: kept for id, kept in self.returning.items() if kept[0] > self.seen_look}
        for seen in event.gpus:
            for worker, bytes in seen.of.items():
                if (session := workers.get(worker)) is not None and bytes:
                    self._grow(session, seen.id, bytes)
        for session in self.tenants.values():
            self._see_what_is_left(session)

    def _see_what_is_left(self, session: Session) -> None:
        tenancy = _of(session)
        for gpu, seen in self.known.items() if tenancy.where == "parked" else ():
            if seen.exact:
                tenancy.left[gpu] = self.measured(session, gpu)
            else:
                tenancy.left[gpu] = min(tenancy.left.get(gpu, 0), self.unexplained_bytes(session, gpu))

    def _grow(self, session: Session, gpu: GpuId, bytes: int) -> None:
        """Who has said nothing is given what it takes."""
        if session.tenancy is None:
            session.tenancy = Tenancy(None, False, session.never_parks, learns=session.footprint)
            self.settle(session, {})
            session.tenancy.full_since = -inf
        tenancy = session.tenancy
        has_said = tenancy.ask is not None and tenancy.learns is None
        if tenancy.where != "resident" or has_said:
            return
        tenancy.home[gpu] = max(tenancy.home.get(gpu, 0), bytes)
        if tenancy.learns is not None:
            self._learn(tenancy.learns, tenancy.home[gpu] if len(tenancy.home) == 1 else SEVERAL)

    def _learn(self, key: int, bytes: int) -> None:
        before = self.learned.pop(key, bytes)
        self.learned[key] = SEVERAL if SEVERAL in (before, bytes) else max(before, bytes)
        if len(self.learned) > policy.REMEMBERED_FOOTPRINTS:
            self.learned.popitem(last=False)

    def look_again_seconds(self, sessions: bool) -> float:
        """How long the facts are good for; inf where there is nothing to look at."""
        if self.why_none:
            wanted = self.line or self.tenants or (self.known and sessions)
            return policy.LOOK_FOR_GPUS_SECONDS if wanted else inf
        hurry = self.line or self.returning
        return policy.LOOK_OFTEN_SECONDS if hurry else policy.LOOK_SECONDS if sessions else inf


def _of(session: Session) -> Tenancy:
    assert session.tenancy is not None, "a session without a tenancy among the tenants"
    return session.tenancy
