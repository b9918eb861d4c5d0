"""Spares in the simulated world: who is one, and what it is when a call has taken it."""

from __future__ import annotations

from math import inf
from typing import Any

from tests.core.fakes import Heard


class Spares:
    """The part of the stage that has to do with sessions that nobody has asked for yet.

    `spares`: their ids, and the idle time that each was started with.
    """

    def sees_spare(self: Any, session: str) -> None:
        """A session is being started: is it one?"""
        view = self.broker.view(session)
        if view is not None and view.kind == "spare":
            self.spares[session] = view.idle_seconds

    def sees_taken(self: Any, heard: Heard, before: dict[str, float]) -> None:
        """A call that opens a session may have been given a spare, which lives by that call from now on."""
        session = heard.session
        options = heard.call.new
        if heard.call.session != "new" or session not in before or (options and options.spare):
            return
        (fake,) = [one for one in self.workers.values() if one.spawn.session == session and not one.failed]
        start = (fake.spawn.spec.name, fake.spawn.setup, dict(fake.spawn.env))
        asked = (heard.call.app.name, heard.call.setup, dict(options.env) if options else {})
        assert start == asked and fake.ready, "a spare of another kind was taken, or one that was not up"
        idle, lifetime = (options.idle_seconds, options.lifetime_seconds) if options else (None, None)
        del self.spares[session]
        fake.idle_seconds = self._usual_idle_seconds() if idle is None else idle
        fake.lives_until = self.now + min(lifetime or inf, self._longest_life_seconds())
        self.opener[session], self.born[session] = heard, self.now
        if not fake.given:
            fake.restart_idle_clock(self.now)

    def _idle_seconds(self: Any, session: str) -> float:
        """What the call that opened the session asked for; workers of the pool have the default."""
        if session in self.spares:
            return self._spare_seconds(session)
        options = self.opener[session].call.new if session.startswith("sess_") else None
        asked = options.idle_seconds if options else None
        return self._usual_idle_seconds() if asked is None else asked

    def _spare_seconds(self: Any, session: str) -> float:
        """How long a spare waits: as it was asked for, or for good where the manifest wants it."""
        seconds: float = self.broker.view(session).idle_seconds
        asked = {one.call.new.idle_seconds for one in self.history if one.call.new}
        known = asked | {inf if self.asks.spares else self._usual_idle_seconds()}
        assert seconds in known, "a spare with an idle time that nobody has given"
        self.spares[session] = seconds
        return seconds

    def _usual_idle_seconds(self: Any) -> float:
        return self.asks.idle_seconds or self.limits.session_timeout_seconds

    def _longest_life_seconds(self: Any) -> float:
        return self.asks.lifetime_seconds or self.limits.max_lifetime_seconds

    def _lifetime_seconds(self: Any, session: str) -> float:
        opened = session.startswith("sess_") and session not in self.spares
        options = self.opener[session].call.new if opened else None
        asked = options.lifetime_seconds if options else None
        return min(self._longest_life_seconds(), asked or inf)
