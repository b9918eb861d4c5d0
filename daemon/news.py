"""The `watch` requests under way: each is a stream of what has changed in the daemon.

A part tells the state, not its history: the sessions as they are now that have changed since the part
before, and the calls that have ended.  So whoever has no credit, or does not read, misses nothing but
what was between, and costs nothing.

Nothing is looked at while nothing happens.  What has changed is found by comparing each living session
with what it was, which cannot overlook a change; at most each quarter of a second, and where there are
very many sessions so seldom that it takes one hundredth of the loop's time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from time import thread_time
from typing import Any, Literal, NamedTuple

from warmd.daemon.core.views import SessionView
from warmd.daemon.infos import array, packed_info, past_call_info, with_packed
from warmd.daemon.services import Services
from warmd.daemon.story import PastCall
from warmd.daemon.verbs import Refusal, invalid
from warmd.protocol import messages
from warmd.protocol.errors import Problem
from warmd.protocol.messages import CallId, ClientId, Request, SessionId

SOON_SECONDS = 0.02
"""After the first change: what comes of it is told together."""
PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 2.0
MOST_OF_THE_LOOP = 0.01
MOST_CALLS = 100
"""Of each kind in one part: good ends, and those that failed or waited for a start."""
MOST_AT_FIRST = 500
MOST_GONE = 200
MOST_WATCHERS = 64
MOST_WATCHERS_OF_CLIENT = 8


class Seen(NamedTuple):
    """A session as it was when somebody last looked, and in which look it had changed."""

    look: int
    view: SessionView


@dataclass(slots=True, eq=False)
class Watcher:
    client: ClientId
    id: CallId
    credit: int
    look: int = -1
    """The last one that it was told of."""
    calls: int = 0
    """It was told of those that ended before this one."""
    told: int = 0


@dataclass(slots=True)
class State:
    """What was seen in the last look."""

    look: int = 0
    living: dict[SessionId, Seen] = field(default_factory=dict)
    last_gone: SessionId | None = None
    gone: deque[Seen] = field(default_factory=lambda: deque(maxlen=MOST_GONE))

    def since(self, look: int) -> Iterator[SessionView]:
        yield from (seen.view for seen in self.gone if seen.look > look)
        yield from (seen.view for seen in self.living.values() if seen.look > look)


class News:
    """All of them; used by the loop's thread alone."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._watchers: dict[ClientId, dict[CallId, Watcher]] = {}
        self._behind: set[ClientId] = set()
        self._state = State()
        self._is_due = False
        self._not_before = 0.0

    def open(self, client: ClientId, request: Request) -> None:
        """Raises Refusal."""
        window = self._window(request)
        mine = self._watchers.get(client, {})
        if request.id in mine:
            raise invalid("the id is in use by another request to watch: choose 16 random bytes")
        if len(mine) >= MOST_WATCHERS_OF_CLIENT:
            raise _full(f"this client watches {len(mine)} times already", MOST_WATCHERS_OF_CLIENT)
        if (watching := sum(map(len, self._watchers.values()))) >= MOST_WATCHERS:
            raise _full(f"there are {watching} who watch already", MOST_WATCHERS)
        if not self._watchers:
            self._begin()
        calls = max(0, self._services.story.ended - MOST_AT_FIRST)
        self._watchers.setdefault(client, {})[request.id] = Watcher(client, request.id, window, calls=calls)
        self._changed()

    def owns(self, client: ClientId, id: CallId) -> bool:
        return id in self._watchers.get(client, ())

    def credit(self, client: ClientId, id: CallId, parts: int) -> None:
        watcher = self._watchers[client][id]
        watcher.credit = min(watcher.credit + max(0, parts), self._services.settings.max_stream_window)
        self._changed()

    def cancel(self, client: ClientId, id: CallId, _how: Literal["cancel", "abandon", "finish"]) -> None:
        self._forget(client, id)
        failure = messages.Failure(id, None, "CANCELLED", "the request was cancelled", "no")
        self._services.send(client, failure)

    def client_gone(self, client: ClientId) -> None:
        self._behind.discard(client)
        for id in tuple(self._watchers.get(client, ())):
            self._forget(client, id)

    def pause(self, client: ClientId, paused: bool) -> None:
        """The client is behind in its reading, or has caught up."""
        if paused:
            self._behind.add(client)
        else:
            self._behind.discard(client)
            self._changed()

    def _begin(self) -> None:
        """Somebody watches again."""
        self._state = State()
        self._services.tell_of_turns(self._changed)

    def _forget(self, client: ClientId, id: CallId) -> None:
        mine = self._watchers[client]
        del mine[id]
        if not mine:
            del self._watchers[client]
        if not self._watchers:
            self._services.tell_of_turns(None)
            self._state = State()

    def _window(self, request: Request) -> int:
        limit = self._services.settings.max_stream_window
        if request.window is None or not 0 <= request.window <= limit:
            text = f"watch is a stream, and its window {request.window}: give 0 to {limit} parts"
            raise invalid(f"{text} (max_stream_window)")
        return request.window

    def _changed(self) -> None:
        if not self._is_due and self._watchers:
            self._is_due = True
            when = max(self._services.now() + SOON_SECONDS, self._not_before)
            self._services.call_at(when, self._tell_all)

    def _tell_all(self) -> None:
        self._is_due = False
        now, began = self._services.now(), thread_time()
        ready = [
            watcher
            for mine in self._watchers.values()
            for watcher in mine.values()
            if watcher.credit and watcher.client not in self._behind
        ]
        if ready:
            self._look()
        packed: dict[SessionId, bytes] = {}
        for watcher in ready:
            self._tell(watcher, now, packed)
        pause = (thread_time() - began) / MOST_OF_THE_LOOP
        self._not_before = now + min(max(PAUSE_SECONDS, pause), LONGEST_PAUSE_SECONDS)

    def _look(self) -> None:
        """Find what has changed."""
        state, broker = self._state, self._services.broker
        broker.settle_left()
        state.look += 1
        before, state.living = state.living, {}
        for view in broker.views():
            seen = before.get(view.id)
            state.living[view.id] = seen if seen and seen.view == view else Seen(state.look, view)
        # Also one that came and went between two looks is told of.
        latest = takewhile(lambda view: view.id != state.last_gone, broker.gone())
        for view in reversed([*islice(latest, MOST_GONE)]):
            state.gone.append(Seen(state.look, view))
            state.last_gone = view.id

    def _tell(self, watcher: Watcher, now: float, packed: dict[SessionId, bytes]) -> None:
        """`packed`: the infos that others were told in this turn."""
        state, story, is_first = self._state, self._services.story, not watcher.told
        infos = [
            packed.get(view.id) or packed.setdefault(view.id, packed_info(view, now, story.grave(view).ended))
            for view in state.since(watcher.look)
        ]
        if infos or is_first or story.ended != watcher.calls:
            facts = {
                "calls": self._calls(watcher, now),
                "ended": 0 if is_first else story.ended - watcher.calls,
                "draining": self._services.broker.totals().draining,
            }
            body = with_packed(facts, "sessions", array(infos))
            self._services.send(watcher.client, messages.Part(watcher.id, watcher.told, body))
            watcher.told += 1
            watcher.credit -= 1
        watcher.look, watcher.calls = state.look, story.ended

    def _calls(self, watcher: Watcher, now: float) -> list[dict[str, Any]]:
        """The latest that have ended, in the order of their ends."""
        most = MOST_CALLS if watcher.told else MOST_AT_FIRST
        notable: list[PastCall] = []
        others: list[PastCall] = []
        for past in self._services.story.since(watcher.calls):
            is_notable = past.code or (past.timing is not None and past.timing.cold)
            (notable if is_notable else others).append(past)
        chosen = sorted([*notable[:most], *others[:most]])
        return [self._told(past, now) for past in chosen]

    def _told(self, past: PastCall, now: float) -> dict[str, Any]:
        session = self._services.broker.view(past.session) if past.session else None
        return past_call_info(past, session.app if session else past.app, now)


def _full(text: str, limit: int) -> Refusal:
    return Refusal(Problem("QUEUE_FULL", f"{text}, which is the limit: close one", details={"limit": limit}))
