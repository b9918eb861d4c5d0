"""The line for GPU memory: who starts, or comes back, and when.

Who needs a place joins at the end, and after each event that may have changed something the line is
gone through from its head (`placement` has what can be done for each):

1. there is room: it starts, or is brought back.
2. there will be once idle ones are parked: they are, and it waits for that.  A spare gets no such
   treatment: it waits for what is on its way back, and else is not started at all.
3. there will be once busy ones are parked: when it has waited for `YIELD_AFTER_SECONDS`, these are
   parked after their running call, and what waits for them goes to the end of the line.
4. else it waits: for the ends of others, or for `gpu_wait`, after which it is refused.

A GPU that somebody waits for is not given to anybody behind.  So the first in line waits for its
patience, one running call and the moves at most, and nobody is passed by for ever.  Where only the
ends of others would help, those behind go first if they can be parked again.
"""

from __future__ import annotations

from math import inf

from warmd.daemon.core import parking, placement, policy, pools, starting, stopping, templates
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import AppFound, GpuId, GpusSeen
from warmd.daemon.core.gpus import Tenancy
from warmd.daemon.core.placement import Kind, Offer, tenancy_of
from warmd.daemon.core.roomtexts import in_the_way, refusal, too_large
from warmd.daemon.core.session import NOT_STARTED, Phase, Session, Verdict
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.work import AppSpec

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"


def app_found(book: Book, session: Session, event: AppFound) -> None:
    spec = event.spec
    if not starting.app_found(book, session, spec.asks):
        return
    tenancy = session.tenancy = _tenancy_of_start(book, session, spec)
    if tenancy is None:
        starting.begin(book, session)
        templates.start(book, session, spec)
        return
    book.move(session, Phase.PLACING)
    book.wait_for_room(session)
    if not book.gpus.looked:
        book.gpus.look()


def _tenancy_of_start(book: Book, session: Session, spec: AppSpec) -> Tenancy | None:
    """What it is to have before it starts; None where nothing is known, or its environment chooses."""
    chosen = VISIBLE_VARIABLE in session.env or VISIBLE_VARIABLE in spec.env
    never = "" if spec.asks.park else 'its app says so (park = "never")'
    if spec.asks.gpu is not None and not chosen:
        return Tenancy(spec.asks.gpu, placed=True, spec=spec, never=never)
    session.never_parks = never
    if not book.gpus.known:  # it costs to look at all of its setup
        return None
    session.footprint = hash(session.start_key)
    learned = book.gpus.learned.get(session.footprint)
    if not learned or chosen:
        return None
    return Tenancy(GpuAsk(bytes=learned), placed=True, spec=spec, never=never, learns=session.footprint)


def seen(book: Book, event: GpusSeen) -> None:
    book.gpus.update(event, book.workers)
    for session in list(book.gpus.tenants.values()):
        if session.phase is Phase.PARKING:
            parking.verify(book, session)


def look_due(book: Book) -> None:
    """The facts are old, or somebody may be parked now who might not before."""
    book.gpus.stirred = True
    if book.gpus.answered_look == book.gpus.last_look:
        book.gpus.look()


def tend(book: Book) -> None:
    """See who can be let in, and what is to be done for the others."""
    gpus = book.gpus
    gpus.stirred = False
    wakes = inf
    taken, hoped_for = set[GpuId](), set[GpuId]()
    for tenant in gpus.tenants.values():
        tenancy_of(tenant).yields = False
    for session in list(gpus.line.values()) if gpus.looked else []:
        if _is_wanted(book, session):
            wakes = min(wakes, _attend(book, session, taken, hoped_for))
    _serve_those_who_need_not_yield(book)
    _set_timer(book, min(wakes, book.now + gpus.look_again_seconds(bool(book.sessions))))


def _set_timer(book: Book, due: float) -> None:
    """Look again then, or when that was to be anyway: what happens meanwhile puts no look off."""
    if due < inf:
        before = book.deadlines.time_of(("gpus", None))
        book.deadlines.set(("gpus", None), due if before is None else min(before, due))
    else:
        book.deadlines.drop(("gpus", None))
        book.gpus.fresh = False


def _is_wanted(book: Book, session: Session) -> bool:
    """Whether anybody still waits for it; a worker of the pool may have come too late."""
    alone = session.phase is Phase.PLACING and session.pool is None
    if alone or session.queue or tenancy_of(session).unparks_for:
        return session.id in book.gpus.line
    if session.phase is Phase.PLACING:
        starting.give_up_unwanted(book, session)
    else:
        book.leave_line(session)
        book.set_idle_timer(session)
    return False


def _attend(book: Book, session: Session, taken: set[GpuId], hoped_for: set[GpuId]) -> float:
    """Do what can be done for one in the line; returns when to look again.

    `taken`: by those before it; `hoped_for`: by those who wait for ends, to whom it would be one more
    in the way if it stayed.
    """
    tenancy = tenancy_of(session)
    if session.phase is Phase.PLACING and (text := _impossible(book, tenancy)):
        starting.fail(book, session, "START_FAILED", text)
        return inf
    offer = placement.offer(book, session, taken if placement.may_go(session) else taken | hoped_for)
    if session.spare and session.phase is Phase.PLACING:
        _attend_spare(book, session, offer)
        return inf
    if offer is None or book.now < tenancy.not_before:
        taken.update(placement.candidates(book, tenancy))
        return tenancy.not_before if offer is not None else inf
    if offer.kind is Kind.FITS:
        _let_in(book, session, offer)
        return inf
    (hoped_for if offer.kind is Kind.NEVER else taken).update(offer.home)
    patience_ends = (tenancy.waits_since or 0.0) + policy.YIELD_AFTER_SECONDS
    if offer.busy and book.now < patience_ends:
        return min(offer.wakes, patience_ends)
    for victim in offer.victims:
        _clear(book, victim)
    for busy in offer.busy:
        tenancy_of(busy).yields = True
    return offer.wakes


def _attend_spare(book: Book, session: Session, offer: Offer | None) -> None:
    """It waits for nothing but what is on its way back, and is in nobody's way while it does."""
    if offer is not None and offer.kind is Kind.FITS:
        _let_in(book, session, offer)
    elif offer is None or offer.kind > Kind.CLEARS or offer.victims:
        starting.fail(book, session, "NO_ROOM", f"a spare parks nobody, and {in_the_way(book, session)}")


def _impossible(book: Book, tenancy: Tenancy) -> str:
    """Why it would never fit, though nobody else were there."""
    if not book.gpus.known:
        return f"it asks for a GPU, and none is to be seen here: {book.gpus.why_none}"
    count = tenancy.ask.whole if tenancy.ask is not None else 1
    return too_large(book, tenancy) if len(placement.candidates(book, tenancy)) < max(1, count) else ""


def _let_in(book: Book, session: Session, offer: Offer) -> None:
    waited_since = tenancy_of(session).waits_since
    book.leave_line(session)
    book.gpus.settle(session, offer.home)
    if session.phase is Phase.PLACING:
        spec = tenancy_of(session).spec
        assert spec is not None, "a start without what to start"
        starting.begin(book, session)
        templates.start(book, session, spec)
    else:
        parking.bring_back(book, session, waited_since)


def _clear(book: Book, session: Session) -> None:
    """Take its GPU memory from one that rests; not where those before it have filled host memory."""
    if not tenancy_of(session).never:
        if placement.host_bytes_left(book) >= placement.takes_of_host(book, session):
            parking.begin(book, session)
        return
    stopping.begin(book, session, Verdict("ended", "its GPU memory was needed, and nobody used it"))
    stopping.finish(book, session)


def _serve_those_who_need_not_yield(book: Book) -> None:
    """Calls wait for them, and they were to make room; that is not needed any more, or is done by now."""
    for tenant in list(book.gpus.tenants.values()):
        if tenant.phase is Phase.IDLE and tenant.queue:
            parking.go_on(book, tenant)


def overdue(book: Book, session: Session) -> None:
    """It has waited for `gpu_wait`: those who wait for it are told what is in the way."""
    text = refusal(book, session)
    book.leave_line(session)
    if session.phase in NOT_STARTED:
        starting.fail(book, session, "NO_ROOM", text)
        return
    parking.refuse_requests(book, session, "NO_ROOM", text)
    if session.pool is not None:
        pools.cannot_come_back(book, session.pool, text)
    else:
        book.fail_queue(session.queue, "NO_ROOM", text)
    book.rest(session)
