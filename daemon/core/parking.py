"""A session's GPU memory goes to host memory, and comes back.

                 Offloaded: its own hooks did it -----------------------+
                |                                                       v
    Park -------+ Checkpointable -> Checkpoint -> Checkpointed -> a look that shows it -> PARKED
    (PARKING)   |                       |
                |                       +- MoveFailed: unharmed -> back to work
                + KeepsMemory: it works on -> back to work
                + ParkFailed, or no answer in time -> it dies, and says why

    Unpark, or Restore -> Unparked, or Restored -> back to work
    (UNPARKING)         -> KeepsMemory, MoveFailed: unharmed -> PARKED again, and waits as before
                        -> ParkFailed, MoveFailed: harmed, or lasting, no answer in time -> it dies

What was freed is never taken for granted: the park is over when a look that was ordered after it has
come, and what that shows counts as taken.  A session that runs something is never parked; what comes
meanwhile waits in its queue.
"""

from __future__ import annotations

from math import inf

from warmd.daemon.core import effects as fx
from warmd.daemon.core import policy, serving, stopping
from warmd.daemon.core.ahead import worker_of
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import (
    Checkpointed,
    GpuId,
    MoveFailed,
    ParkArrived,
    Restored,
    UnparkArrived,
)
from warmd.daemon.core.gpus import NO_NUMBER, Bytes, Tenancy
from warmd.daemon.core.placement import takes_of_host, tenancy_of
from warmd.daemon.core.roomtexts import gib
from warmd.daemon.core.session import Phase, Session
from warmd.protocol import gpus
from warmd.protocol.errors import Problem
from warmd.protocol.messages import CallId, ClientId


def begin(book: Book, session: Session) -> None:
    """Park one that rests; calls may wait for it already."""
    tenancy = _begin_move(book, session, Phase.PARKING)
    tenancy.way = ""
    tenancy.before = {gpu: book.gpus.has(session, gpu) for gpu in tenancy.home}
    tenancy.host_bytes = sum(tenancy.before.values())
    known = [gpu for gpu in tenancy.home if gpu in book.gpus.known]
    tenancy.strangers_before = {gpu: book.gpus.strangers_bytes(gpu) for gpu in known}
    book.emit(fx.Tell(worker_of(session), gpus.Park(tenancy.move)))


def bring_back(book: Book, session: Session, waited_since: float | None) -> None:
    """Its place is reserved: let it have its memory again."""
    tenancy = _begin_move(book, session, Phase.UNPARKING)
    tenancy.waited_since = waited_since
    if tenancy.way == "app":
        book.emit(fx.Tell(worker_of(session), gpus.Unpark(tenancy.move)))
    else:
        book.emit(fx.Restore(worker_of(session), tenancy.move, _limit_seconds(tenancy)))


def _begin_move(book: Book, session: Session, phase: Phase) -> Tenancy:
    tenancy = tenancy_of(session)
    book.move(session, phase)
    book.deadlines.drop(("idle", session.id))
    tenancy.move, tenancy.began, tenancy.look = book.gpus.next_move(), book.now, NO_NUMBER
    book.deadlines.set(("move", session.id), book.now + _limit_seconds(tenancy))
    return tenancy


def _limit_seconds(tenancy: Tenancy) -> float:
    return policy.MOVE_SECONDS + sum(tenancy.home.values()) / policy.MOVE_BYTES_PER_SECOND


def _moving(session: Session, move: int, *phases: Phase) -> Tenancy | None:
    """Its tenancy, if it is in this move; else the word comes too late."""
    tenancy = session.tenancy
    return tenancy if tenancy is not None and tenancy.move == move and session.phase in phases else None


# To host memory


def offloaded(book: Book, session: Session, said: gpus.Offloaded) -> None:
    tenancy = _moving(session, said.move, Phase.PARKING)
    if tenancy is not None and not tenancy.way:
        tenancy.way, tenancy.look = "app", book.gpus.look()


def checkpointable(book: Book, session: Session, said: gpus.Checkpointable) -> None:
    tenancy = _moving(session, said.move, Phase.PARKING)
    if tenancy is not None and not tenancy.way:
        tenancy.way = "driver"
        book.emit(fx.Checkpoint(worker_of(session), tenancy.move, _limit_seconds(tenancy)))


def checkpointed(book: Book, session: Session, event: Checkpointed) -> None:
    tenancy = _moving(session, event.move, Phase.PARKING)
    if tenancy is not None:
        tenancy.look = book.gpus.look()


def verify(book: Book, session: Session) -> None:
    """A look was answered: is it the one that shows what the move has freed?

    Where it has shown nothing, nothing counts as free until one does.
    """
    tenancy = tenancy_of(session)
    if not tenancy.look or book.gpus.answered_look < tenancy.look:
        return
    if book.gpus.seen_look >= tenancy.look:
        left = {gpu: _left(book, session, gpu) for gpu in tenancy.before}
        _be_parked(book, session, tenancy, left)
        _judge(book, tenancy)
    else:
        _be_parked(book, session, tenancy, dict(tenancy.before))
    book.answer_requests(session, tenancy.parks_for)
    tenancy.parks_for = []
    _wait_if_wanted(book, session)


def _left(book: Book, session: Session, gpu: GpuId) -> int:
    """What it still has there; where the driver does not say, what is nobody else's and was not before."""
    tenancy, seen = tenancy_of(session), book.gpus.known.get(gpu)
    had = tenancy.before[gpu]
    if seen is None or seen.exact:
        return min(book.gpus.measured(session, gpu), had)
    unexplained = book.gpus.unexplained_bytes(session, gpu) - tenancy.strangers_before.get(gpu, 0)
    return min(had, max(0, unexplained))


def _be_parked(book: Book, session: Session, tenancy: Tenancy, left: Bytes) -> None:
    _end_move(book, session, tenancy)
    book.move(session, Phase.PARKED)
    tenancy.where, tenancy.left, tenancy.full_since = "parked", left, -inf
    # Who has outgrown what it asked for needs all of it again.
    tenancy.home = {gpu: max(bytes, tenancy.before.get(gpu, 0)) for gpu, bytes in tenancy.home.items()}
    tenancy.park_seconds = book.now - tenancy.began
    tenancy.failures = 0
    tenancy.moves += 1
    book.gpus.stirred = True


def _judge(book: Book, tenancy: Tenancy) -> None:
    """Was it worth it?"""
    had = sum(tenancy.before.values())
    freed = had - sum(tenancy.left.values())
    tenancy.host_bytes = freed
    if freed < policy.LEAST_FREED * had:
        tenancy.never = f"its park has freed {gib(freed)} of {gib(had)} only"
        tenancy.parks_for, told = [], tenancy.parks_for
        book.refuse_requests(told, Problem("INVALID", tenancy.never))


def _wait_if_wanted(book: Book, session: Session, since: float | None = None) -> None:
    """It is parked: who waits for it, if anybody does?  `since`: they have waited before."""
    if session.pool is not None:
        book.untended[session.pool.key] = session.pool
    if (session.queue and session.pool is None) or tenancy_of(session).unparks_for:
        book.wait_for_room(session, since)
    else:
        book.set_idle_timer(session)


def keeps_memory(book: Book, session: Session, said: gpus.KeepsMemory) -> None:
    """Nothing was moved: it works on, or stays parked."""
    if (tenancy := _moving(session, said.move, Phase.PARKING)) is not None:
        if not tenancy.way:
            _stay(book, session, tenancy, said.message, lasting=True)
    elif (tenancy := _moving(session, said.move, Phase.UNPARKING)) is not None:
        _stay_parked(book, session, tenancy, said.message)


def move_failed(book: Book, session: Session, event: MoveFailed) -> None:
    if (tenancy := _moving(session, event.move, Phase.PARKING, Phase.UNPARKING)) is None:
        return
    if event.harmed:
        _lose(book, session, event.message)
    elif session.phase is Phase.PARKING:
        _stay(book, session, tenancy, event.message, event.lasting)
    elif event.lasting:
        _lose(book, session, event.message)
    else:
        _stay_parked(book, session, tenancy, event.message)


def park_failed(book: Book, session: Session, said: gpus.ParkFailed) -> None:
    if _moving(session, said.move, Phase.PARKING, Phase.UNPARKING) is not None:
        _lose(book, session, said.message)


def _stay(book: Book, session: Session, tenancy: Tenancy, message: str, lasting: bool) -> None:
    """It could not be parked, and is as it was."""
    _end_move(book, session, tenancy)
    tenancy.failures += 1
    tenancy.in_peace_until = book.now + _pause_seconds(tenancy)
    if lasting:
        tenancy.never = message
    tenancy.host_bytes = 0
    tenancy.parks_for, told = [], tenancy.parks_for
    text = f"session {session.id} could not be parked: {message}"
    book.refuse_requests(told, Problem("INVALID", text))
    _back_to_work(book, session)


def _stay_parked(book: Book, session: Session, tenancy: Tenancy, message: str) -> None:
    """It could not come back, and nothing is lost: that is tried again as long as somebody waits for it."""
    _end_move(book, session, tenancy)
    tenancy.failures += 1
    tenancy.trouble = message
    book.move(session, Phase.PARKED)
    tenancy.where, tenancy.full_since = "parked", -inf
    tenancy.not_before = book.now + _pause_seconds(tenancy)
    _wait_if_wanted(book, session, tenancy.waited_since)


def _pause_seconds(tenancy: Tenancy) -> float:
    """Until a move that has failed is tried again: longer each time."""
    return min(policy.TRY_AGAIN_SECONDS, 0.1 * 2.0 ** min(tenancy.failures, policy.MOST_DOUBLED))


def _lose(book: Book, session: Session, message: str) -> None:
    how = "handed back" if session.phase is Phase.PARKING else "brought back"
    stopping.die(book, session, f"its GPU memory could not be {how}: {message}")


def overdue(book: Book, session: Session) -> None:
    seconds = _limit_seconds(tenancy_of(session))
    _lose(book, session, f"it took longer than {seconds:.0f} s")


# And back


def unparked(book: Book, session: Session, said: gpus.Unparked) -> None:
    if (tenancy := _moving(session, said.move, Phase.UNPARKING)) is not None:
        _be_back(book, session, tenancy)


def restored(book: Book, session: Session, event: Restored) -> None:
    if (tenancy := _moving(session, event.move, Phase.UNPARKING)) is not None:
        _be_back(book, session, tenancy)


def _be_back(book: Book, session: Session, tenancy: Tenancy) -> None:
    _end_move(book, session, tenancy)
    tenancy.way = ""
    tenancy.failures, tenancy.trouble = 0, ""
    tenancy.host_bytes = 0
    tenancy.unpark_seconds = book.now - tenancy.began
    tenancy.resident_since = tenancy.full_since = book.now
    _back_to_work(book, session)


def _end_move(book: Book, session: Session, tenancy: Tenancy) -> None:
    book.deadlines.drop(("move", session.id))
    tenancy.move = tenancy.look = NO_NUMBER


def _back_to_work(book: Book, session: Session) -> None:
    tenancy = tenancy_of(session)
    book.answer_requests(session, tenancy.unparks_for)
    tenancy.unparks_for = []
    book.gpus.stirred = True
    if session.queue:
        serving.serve_next(book, session)
        return
    # A move is no use of it: the idle clock goes on from where it was.
    book.move(session, Phase.IDLE)
    book.set_idle_timer(session)


def go_on(book: Book, session: Session) -> None:
    """It was to yield to others, and need not."""
    book.deadlines.drop(("idle", session.id))
    serving.serve_next(book, session)


# By hand


def park_arrived(book: Book, event: ParkArrived) -> None:
    found = book.find(event.session)
    problem = found if isinstance(found, Problem) else _objection(book, found)
    if problem is not None:
        book.refuse(event.client, event.request, None, problem)
        return
    assert isinstance(found, Session)
    tenancy = tenancy_of(found)
    if found.phase is Phase.PARKED:
        book.answer_requests(found, [(event.client, event.request)])
        return
    tenancy.parks_for.append((event.client, event.request))
    if found.phase is Phase.IDLE:
        begin(book, found)


def _objection(book: Book, session: Session) -> Problem | None:
    tenancy = session.tenancy
    if tenancy is None or not tenancy.home:
        return Problem("INVALID", f"session {session.id} has no GPU memory, as far as is known")
    if tenancy.never:
        return Problem("NOT_ALLOWED", f"session {session.id} is not parked: {tenancy.never}")
    if session.phase not in (Phase.IDLE, Phase.PARKING, Phase.PARKED) or session.queue:
        text = f"session {session.id} is {session.phase.value}: only one that nobody waits for can be parked"
        return Problem("INVALID", text)
    takes, most = takes_of_host(book, session), book.limits.park_bytes
    if session.phase is Phase.IDLE and book.gpus.parked_bytes() + takes > most:
        text = f"{gib(takes)} more host memory would be over park_memory ({gib(most)}): end a parked session"
        return Problem("NO_ROOM", text, details={"limit": most})
    return None


def unpark_arrived(book: Book, event: UnparkArrived) -> None:
    found = book.find(event.session)
    if isinstance(found, Problem):
        book.refuse(event.client, event.request, None, found)
        return
    if found.phase not in (Phase.PARKING, Phase.PARKED, Phase.UNPARKING):
        book.answer_requests(found, [(event.client, event.request)])
        return
    tenancy_of(found).unparks_for.append((event.client, event.request))
    if found.phase is Phase.PARKED:
        book.wait_for_room(found)


def refuse_requests(book: Book, session: Session, code: str, text: str) -> None:
    """Nobody's `park` or `unpark` comes true any more."""
    tenancy = tenancy_of(session)
    told = [*tenancy.parks_for, *tenancy.unparks_for]
    tenancy.parks_for, tenancy.unparks_for = [], []
    book.refuse_requests(told, Problem(code, text))


def client_gone(book: Book, client: ClientId) -> None:
    """Nobody is there to be answered; what nobody else waits for does not stand in the line any more."""
    for session in book.gpus.tenants.values():
        tenancy = tenancy_of(session)
        if tenancy.parks_for or tenancy.unparks_for:
            tenancy.parks_for = [one for one in tenancy.parks_for if one[0] != client]
            tenancy.unparks_for = [one for one in tenancy.unparks_for if one[0] != client]
            book.gpus.stirred = True


def forget_request(session: Session, request: CallId) -> None:
    """It was answered otherwise."""
    tenancy = tenancy_of(session)
    tenancy.parks_for = [one for one in tenancy.parks_for if one[1] != request]
    tenancy.unparks_for = [one for one in tenancy.unparks_for if one[1] != request]
