"""What an app's manifest asks for: it goes where the call that opened the session asked for nothing else.

The daemon's own bounds hold for it as they hold for calls.
"""

from __future__ import annotations

from math import inf

from warmd.daemon.core.book import Book
from warmd.daemon.core.policy import Limits
from warmd.daemon.core.session import Session
from warmd.protocol.errors import Problem
from warmd.protocol.units import spell_seconds
from warmd.protocol.work import Asks


def objection(limits: Limits, asks: Asks) -> Problem | None:
    """Why an app cannot have what it asks for."""
    bounds = (
        ("session_timeout", asks.idle_seconds, limits.max_session_timeout_seconds, "max_session_timeout"),
        ("max_lifetime", asks.lifetime_seconds, limits.max_lifetime_seconds, "max_lifetime"),
    )
    for key, asked, most, setting in bounds:
        if asked is not None and not 1.0 <= asked <= most:
            return Problem(
                "INVALID",
                f"its manifest asks for a {key} of {spell_seconds(asked)}: "
                f"it must be from 1s to {spell_seconds(most)} (the daemon's {setting})",
            )
    return None


def apply(book: Book, session: Session, asks: Asks) -> None:
    """The session goes by what its app asks for."""
    limits = book.limits
    session.usual_idle_seconds = asks.idle_seconds or limits.session_timeout_seconds
    if not session.idle_asked:
        # What the daemon itself keeps ready waits for as long as it takes.
        session.idle_seconds = inf if session.spare and asks.spares else session.usual_idle_seconds
    session.usual_lifetime_seconds = asks.lifetime_seconds or limits.max_lifetime_seconds
    session.lifetime_seconds = min(session.lifetime_seconds, session.usual_lifetime_seconds)
    book.set_lifetime_timer(session)
    session.start_seconds = asks.start_seconds or limits.start_timeout_seconds
