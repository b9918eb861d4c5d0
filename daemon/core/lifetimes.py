"""How long a session lives that nobody ends: its idle clock, holds, and its greatest age.

    idle      runs while nothing runs or waits; expires `idle_seconds` after the last call's end
    hold      until then it does not expire by idling, whatever the idle clock says
    lifetime  counts from the session's creation and from nothing else: then it takes no more calls,
              lets the running one finish, and expires

The lifetime is the stronger: a hold puts it off as little as calls do.
"""

from __future__ import annotations

from warmd.daemon.core import effects as fx
from warmd.daemon.core import ending, stopping
from warmd.daemon.core.book import Book
from warmd.daemon.core.events import HoldArrived, KeepaliveArrived
from warmd.daemon.core.session import Session, Verdict
from warmd.protocol.errors import Problem


def keepalive_arrived(book: Book, event: KeepaliveArrived) -> None:
    found = book.find(event.session)
    if isinstance(found, Problem):
        book.refuse(event.client, event.request, None, found)
        return
    found.idle_since = book.now
    if found.rests:
        book.set_idle_timer(found)
    book.emit(fx.Answer(event.client, event.request, (found.id,), many=False))


def hold_arrived(book: Book, event: HoldArrived) -> None:
    """Hold a session for so long from now; None releases it.  The last word counts."""
    found = book.find(event.session)
    problem = found if isinstance(found, Problem) else _objection(book, event.seconds)
    if problem is not None:
        book.refuse(event.client, event.request, None, problem)
        return
    assert isinstance(found, Session)
    found.held_until = 0.0 if event.seconds is None else book.now + event.seconds
    if found.rests:
        book.set_idle_timer(found)
    book.emit(fx.Answer(event.client, event.request, (found.id,), many=False))


def _objection(book: Book, seconds: float | None) -> Problem | None:
    most = book.limits.max_hold_seconds
    if seconds is None or 0 < seconds <= most:
        return None
    text = f"a hold of {seconds:g} s is not possible: it must be over 0 and at most {most:g} s (max_hold)"
    return Problem("INVALID", text, details={"limit": most})


def idled_too_long(book: Book, session: Session) -> None:
    reason = f"nothing called it for {session.idle_seconds:g} s (session_timeout)"
    if session.held_until > session.idle_since + session.idle_seconds:
        reason += " and until its hold was over"
    stopping.begin(book, session, Verdict("expired", reason))
    stopping.finish(book, session)


def lived_too_long(book: Book, session: Session) -> None:
    seconds = session.lifetime_seconds
    reason = f"it had lived for {seconds:g} s, the longest that it may (max_lifetime)"
    ending.end(book, session, Verdict("expired", reason), "finish")
