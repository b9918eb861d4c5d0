"""Sessions that wait for each other in a circle, which would end at a deadline at best.

A program inside an app can be a client too.  While it has calls under way, its session waits for
the sessions of those calls.  A new call from session C to session T closes a circle if T is C, or
waits for C through any number of others: it is refused at once.

Calls that nobody need wait for (detached ones) close no circle.  A call to the shared pool waits for
the worker that runs it; before that for none in particular, so a circle through a call that waits for
the pool is only ended by a deadline.
"""

from __future__ import annotations

from collections.abc import Iterator

from warmd.daemon.core.book import Book
from warmd.daemon.core.session import Session
from warmd.protocol.errors import Problem
from warmd.protocol.messages import Call, ClientId, SessionId

MAX_SHOWN = 5


def objection(book: Book, client: ClientId, call: Call, target: Session) -> Problem | None:
    """Why this client must not call `target`: its own session would wait for itself."""
    caller = book.inside.get(client)
    if caller is None or call.detach or not _runs(book, caller):
        return None
    way = _way(book, target.id, caller)
    if way is None:
        return None
    shown = " -> ".join([caller, *way[:MAX_SHOWN], *(["..."] * (len(way) > MAX_SHOWN))])
    text = (
        f"session {caller} would wait for itself for ever ({shown}): call the method directly, "
        "use another session, or submit the call with detach=True and do not wait for it"
    )
    return Problem("INVALID", text)


def _runs(book: Book, session: SessionId) -> bool:
    """Else a thread of its app makes the call, for which no call of the session waits."""
    live = book.sessions.get(session)
    return live is not None and live.running is not None


def _way(book: Book, start: SessionId, end: SessionId) -> list[SessionId] | None:
    """From `start` to `end` along what each session waits for; None when there is no such way."""
    ways = {start: [start]}
    unseen = [start]
    while unseen:
        here = unseen.pop()
        if here == end:
            return ways[here]
        for there in _awaited_by(book, here):
            if there not in ways:
                ways[there] = [*ways[here], there]
                unseen.append(there)
    return None


def _awaited_by(book: Book, session: SessionId) -> Iterator[SessionId]:
    for client, home in book.inside.items():
        if home == session:
            for job in book.jobs_of.get(client, {}).values():
                if job.session is not None and job.kept is None:
                    yield job.session.id
