"""Spares: sessions that are up, `setup` included, before anybody asks for them.

A call that opens a session takes a spare that is alike in app, `setup` and environment and is ready.
From then on it is that call's session as if it had been opened by it: its age, idle time, name and
labels are the call's.  In its place another is started, which lives by the same idle time, as long as
there is a place for a process.  A spare that nobody takes expires like any idle session, and is not
replaced; nobody can call it by its id.
"""

from __future__ import annotations

import math

from warmd.daemon.core import effects as fx
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import CallArrived
from warmd.daemon.core.session import Phase, Session
from warmd.protocol.messages import Call, NewSession, SessionId

NO_OPTIONS = NewSession()


def find(book: Book, call: Call) -> Session | None:
    """A spare that is what the call asks for, and ready; one that is parked only if there is no other."""
    options = call.new or NO_OPTIONS
    if options.spare or call.app is None:
        return None
    alike = book.spares.get((call.app, bytes(call.setup), tuple(sorted(options.env.items()))), {})
    up = [spare for spare in alike.values() if spare.rests]
    return next((spare for spare in up if spare.phase is Phase.IDLE), up[0] if up else None)


def take(book: Book, spare: Session, event: CallArrived) -> None:
    """From now on it is the session that the call opens."""
    options = event.call.new or NO_OPTIONS
    waits_seconds = spare.idle_seconds if spare.idle_asked else None
    book.leave_spares(spare)
    book.held.drop(spare.opener, len(spare.setup))
    spare.opener, spare.setup = event.client, event.call.setup if options.name is not None else b""
    book.held.add(spare.opener, len(spare.setup))
    asked, lifetime = options.idle_seconds, options.lifetime_seconds
    spare.idle_seconds = spare.usual_idle_seconds if asked is None else asked
    spare.idle_asked = asked is not None
    spare.lifetime_seconds = min(lifetime or math.inf, spare.usual_lifetime_seconds)
    spare.created = book.now
    spare.name, spare.labels = options.name, options.labels
    book.enlist(spare)
    if book.has_room():
        _replace(book, spare, event, waits_seconds)


def _replace(book: Book, taken: Session, event: CallArrived, waits_seconds: float | None) -> None:
    another = Session(
        id=SessionId(f"sess_{event.fresh}"),
        app=taken.app,
        created=book.now,
        idle_seconds=math.inf if waits_seconds is None else waits_seconds,
        idle_asked=waits_seconds is not None,
        lifetime_seconds=book.limits.max_lifetime_seconds,
        opener=event.client,
        setup=event.call.setup,
        pickled=event.call.pickled,
        env=taken.env,
        spare=True,
    )
    book.add(another)
    book.hold_for_start(another)
    book.emit(fx.LookUp(another.id, another.app))
