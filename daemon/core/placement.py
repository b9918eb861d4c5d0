"""Where a session's GPU memory could go, and who would have to go for it.

For each GPU that would do:

    FITS     there is room now
    CLEARS   there is, once those who rest there were parked, or what is being parked already is gone
    LATER    there is, once those who run, or have come only just now, may be parked as well
    NEVER    the rest belongs to sessions that are not parked, or to other programs

The best kind wins; of two alike the one that costs less.  What parking somebody costs is its *value*:
the time to bring it back, against the time since it was used.  Those of the least value per byte go
first.  Nobody is parked whose bytes are not needed.

Workers of the shared pool and spares that cannot be parked are ended in their place: nobody was
promised that they stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf

from warmd.daemon.core import policy
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import GpuId
from warmd.daemon.core.gpus import Bytes, Tenancy
from warmd.daemon.core.session import Phase, Session

LEAST_SECONDS = 0.001
"""Since a session was used; then its value is finite."""


class Kind(IntEnum):
    FITS = 0
    CLEARS = 1
    LATER = 2
    NEVER = 3


@dataclass(frozen=True, slots=True)
class Offer:
    """What one GPU, or several, can do for a session."""

    kind: Kind
    home: Bytes
    cost: float = 0.0
    victims: tuple[Session, ...] = ()
    """Who rests and is to be parked; where others are `busy`, when the waiting has been long enough."""
    busy: tuple[Session, ...] = ()
    """Who is to be parked after its running call, then.  Those who rest do not wait for it: who are called in
    turn would never rest together."""
    wakes: float = inf
    """When one of those who have come only just now may be parked."""
    free: int = 0


@dataclass(slots=True)
class _Search:
    """The tenants of one GPU, sorted by what can be done about them."""

    coming: int = 0
    now: list[Session] = field(default_factory=list)
    busy: list[Session] = field(default_factory=list)
    later: list[Session] = field(default_factory=list)


def offer(book: Book, session: Session, taken: Iterable[GpuId] = ()) -> Offer | None:
    """The best that can be done; None where all its GPUs are `taken` by others in the line before it."""
    tenancy = tenancy_of(session)
    if len(tenancy.home) > 1 or (tenancy.ask is not None and tenancy.ask.whole > 1):
        return _of_several(book, session, tenancy, set(taken))
    offers = [_on(book, session, gpu) for gpu in candidates(book, tenancy) if gpu not in taken]
    return min(offers, key=lambda one: (one.kind, one.cost, -one.free), default=None)


def candidates(book: Book, tenancy: Tenancy) -> list[GpuId]:
    """The GPUs that would do if they were empty; those of its home, once it has one."""
    if tenancy.home:
        return [gpu for gpu in tenancy.home if gpu in book.gpus.known]
    return [id for id, seen in book.gpus.known.items() if need(book, tenancy, id) <= seen.total_bytes]


def need(book: Book, tenancy: Tenancy, gpu: GpuId) -> int:
    """The bytes that it is to have there.  Who has a GPU to itself gets what others cannot give up."""
    ask, total = tenancy.ask, book.gpus.known[gpu].total_bytes
    if ask is not None and ask.whole:
        others = [tenancy_of(one) for one in book.gpus.tenants.values() if one.tenancy is not tenancy]
        stays = sum(other.left.get(gpu, 0) for other in others)
        strangers = min(book.gpus.strangers_bytes(gpu), int(total * policy.MOST_OF_STRANGERS))
        return max(1, total - strangers - stays)
    if gpu in tenancy.home:
        return tenancy.home[gpu]
    assert ask is not None, "a start that waits for no known amount"
    return ask.bytes or max(1, int(ask.share * total))


def tenancy_of(session: Session) -> Tenancy:
    assert session.tenancy is not None, "only tenants are placed"
    return session.tenancy


def _of_several(book: Book, session: Session, tenancy: Tenancy, taken: set[GpuId]) -> Offer | None:
    ask = tenancy.ask
    count = len(tenancy.home) or (ask.whole if ask is not None else 0)
    found = [_on(book, session, gpu) for gpu in candidates(book, tenancy) if gpu not in taken]
    best = sorted(found, key=lambda one: (one.kind, one.cost, -one.free))[:count]
    if len(best) < count:
        return None
    kind, home = max(one.kind for one in best), {gpu: at for one in best for gpu, at in one.home.items()}
    if kind is Kind.NEVER:
        return Offer(kind, home)
    return Offer(
        kind,
        home,
        sum(one.cost for one in best),
        tuple({victim.id: victim for one in best for victim in one.victims}.values()),
        tuple({busy.id: busy for one in best for busy in one.busy}.values()),
        min(one.wakes for one in best),
    )


def _on(book: Book, session: Session, gpu: GpuId) -> Offer:
    tenancy = tenancy_of(session)
    wanted, free = need(book, tenancy, gpu), book.gpus.free_bytes(gpu)
    home = {gpu: wanted}
    short = wanted - tenancy.reserved.get(gpu, 0) - free
    if short <= 0:
        return Offer(Kind.FITS, home, free=free)
    search = _sorted_tenants(book, session, gpu)
    short -= search.coming
    victims, rest = _chosen(book, gpu, search.now, short)
    if rest <= 0:
        return Offer(Kind.CLEARS, home, _cost(book, victims), tuple(victims), free=free)
    chosen, rest = _chosen(book, gpu, [*search.now, *search.later, *search.busy], short)
    if rest > 0:
        return Offer(Kind.NEVER, home, rest, free=free)
    resting, busy = (tuple(one for one in chosen if one in kind) for kind in (search.now, search.busy))
    wakes = min((tenancy_of(one).stays_until for one in chosen if one in search.later), default=inf)
    return Offer(Kind.LATER, home, _cost(book, chosen), resting, busy, wakes, free)


def _sorted_tenants(book: Book, session: Session, gpu: GpuId) -> _Search:
    search = _Search(coming=book.gpus.returning_bytes(gpu))
    for tenant in book.gpus.tenants.values():
        if tenant is session or not book.gpus.held(tenant, gpu):
            continue
        if tenant.stuck:
            continue
        if tenant.running is None and tenant.phase in (Phase.PARKING, Phase.STOPPING):
            search.coming += frees(book, tenant, gpu)
        elif tenant.phase not in (Phase.PARKED, Phase.STOPPING) and may_go(tenant):
            stays = tenancy_of(tenant).stays_until > book.now
            rests = tenant.phase is Phase.IDLE
            (search.later if stays else search.now if rests else search.busy).append(tenant)
    return search


def may_go(session: Session) -> bool:
    return not tenancy_of(session).never or session.kind != "session"


def frees(book: Book, session: Session, gpu: GpuId) -> int:
    """What a park of it is expected to free there; all of it, where it is ended."""
    tenancy = tenancy_of(session)
    stays = tenancy.left.get(gpu, 0) if session.phase is not Phase.STOPPING and not tenancy.never else 0
    return max(0, book.gpus.held(session, gpu) - stays)


def _chosen(book: Book, gpu: GpuId, tenants: list[Session], short: int) -> tuple[list[Session], int]:
    """Those of the least value per byte, as many as are needed, and what is short even so."""
    host = host_bytes_left(book)
    chosen: list[Session] = []
    for tenant in sorted(tenants, key=lambda one: _value(book, one) / max(1, frees(book, one, gpu))):
        takes = 0 if tenancy_of(tenant).never else takes_of_host(book, tenant)
        if short > 0 and takes <= host:
            chosen.append(tenant)
            short, host = short - frees(book, tenant, gpu), host - takes
    for tenant in list(chosen):
        if short + frees(book, tenant, gpu) <= 0:
            chosen.remove(tenant)
            short += frees(book, tenant, gpu)
    return chosen, short


def host_bytes_left(book: Book) -> int:
    return book.limits.park_bytes - book.gpus.parked_bytes()


def takes_of_host(book: Book, session: Session) -> int:
    """Bytes of host memory that its park may take."""
    return sum(book.gpus.has(session, gpu) for gpu in tenancy_of(session).home)


def _value(book: Book, session: Session) -> float:
    """Seconds to bring it back, against the seconds since it was used."""
    used = session.idle_since if session.phase is Phase.IDLE else book.now
    return tenancy_of(session).bring_back_seconds / max(LEAST_SECONDS, book.now - used)


def _cost(book: Book, sessions: Iterable[Session]) -> float:
    return sum(_value(book, session) for session in sessions)
