"""The shared pool: calls without a session go to any idle worker of the same app and `setup`.

A pool grows by a worker for each call that waits and has none starting for it, up to
`max_pool_workers`; it shrinks because its workers expire like idle sessions.  The most recently
used worker is taken first, so that a pool too large for its load does expire.
"""

from __future__ import annotations

from warmd.daemon.core import effects as fx
from warmd.daemon.core import serving
from warmd.daemon.core.book import Book
from warmd.daemon.core.holdings import size_of
from warmd.daemon.core.session import NOT_STARTED, UP, Job, Phase, Pool, PoolKey, Session
from warmd.protocol.messages import Body, ClientId, SessionId


def _is_coming(member: Session) -> bool:
    """It will soon take a call."""
    return member.phase in NOT_STARTED or member.phase is Phase.UNPARKING or member.waits_for_room


def _is_up(member: Session) -> bool:
    """It will take a call without another's help."""
    return member.phase in UP and (member.phase is not Phase.PARKED or member.waits_for_room)


def open_pool(book: Book, key: PoolKey, pickled: Body, opener: ClientId) -> Pool:
    """A pool for calls that are like the first one; it holds what its workers start from."""
    pool = book.pools[key] = Pool(key, opener, pickled)
    book.held.add(opener, size_of(key[1], pickled))
    return pool


def _close_pool(book: Book, pool: Pool) -> None:
    del book.pools[pool.key]
    book.held.drop(pool.opener, size_of(pool.key[1], pool.pickled))


def submit(book: Book, pool: Pool, job: Job) -> None:
    """`job`, already registered, waits in the pool's queue; get it served."""
    pool.grows = pool.grows or not pool.queue
    pool.queue.append(job)
    if pool.found:
        book.accept(job)
    idle = [member for member in pool.members.values() if member.phase is Phase.IDLE]
    if idle:
        serving.serve_next(book, max(idle, key=lambda member: member.last_call or member.ready_at))
    else:
        tend(book, pool)


def tend(book: Book, pool: Pool) -> None:
    """Bring back, or start, the workers that waiting calls need; refuse the calls when there can be none."""
    alive = sum(member.phase is not Phase.STOPPING for member in pool.members.values())
    coming = sum(map(_is_coming, pool.members.values()))
    for member in pool.members.values():
        if member.phase is Phase.PARKED and not member.waits_for_room and len(pool.queue) > coming:
            book.wait_for_room(member)
            coming += 1
    most = book.limits.max_pool_workers if pool.grows else 1
    while len(pool.queue) > coming and alive < most and book.has_room():
        _open_member(book, pool)
        alive, coming = alive + 1, coming + 1
    if pool.queue and not pool.members:
        book.fail_queue(pool.queue, "NO_ROOM", no_room(book), limit=book.limits.max_sessions)
    if not pool.members and not pool.queue and pool.key in book.pools:
        _close_pool(book, pool)


def start_failed(book: Book, pool: Pool, code: str, message: str, **details: object) -> None:
    """A worker did not come up: without another that did, the app does not start for anybody.

    With one, the calls wait for that, and the start is not tried again before they are served: an
    app that can run only once would else be started as fast as it fails.
    """
    pool.grows = not any(map(_is_up, pool.members.values()))
    if pool.grows:
        book.fail_queue(pool.queue, code, message, **details)


def cannot_come_back(book: Book, pool: Pool, message: str) -> None:
    """A parked worker has found no room: without another that works, nobody is served."""
    comes = (Phase.STARTING, Phase.IDLE, Phase.BUSY, Phase.UNPARKING)
    if not any(member.phase in comes for member in pool.members.values()):
        book.fail_queue(pool.queue, "NO_ROOM", message)


def no_room(book: Book) -> str:
    return (
        f"all {book.limits.max_sessions} places for processes are taken (max_sessions): "
        "end a session, wait for one to expire, or raise the setting"
    )


def _open_member(book: Book, pool: Pool) -> None:
    app, setup, env = pool.key
    book.last_pool_member += 1
    member = Session(
        # No call can name a pool worker, so its id need not be a secret; it differs where ids are shortened.
        id=SessionId(f"pool_{book.last_pool_member:08x}".ljust(37, "0")),
        app=app,
        created=book.now,
        idle_seconds=book.limits.session_timeout_seconds,
        lifetime_seconds=book.limits.max_lifetime_seconds,
        opener=pool.opener,
        setup=setup,
        pickled=pool.pickled,
        env=dict(env),
        pool=pool,
        queue=pool.queue,
    )
    book.add(member)
    book.emit(fx.LookUp(member.id, app))
