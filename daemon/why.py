"""`why`: what is the matter with a session or a call, under way or over, as facts and one sentence.

What is under way comes from the rule book, what is over from its views and the story.  For
something that runs or starts, a stack says where: it is taken only from what has taken a while,
since the signal for it can cut short a sleep in C code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from warmd.daemon.core.ladder import place_of
from warmd.daemon.core.standing import CallStanding, RoomStanding, Standing
from warmd.daemon.core.views import CallView, SessionView
from warmd.daemon.sentences import sentence
from warmd.daemon.story import LEFT, PastCall, Story
from warmd.protocol import names
from warmd.protocol.messages import CALL_ID_BYTES, CallId, SessionId
from warmd.protocol.work import WorkerId

STACK_AFTER_SECONDS = 0.5
MOST_HOLDERS = 5
MIN_CALL_DIGITS = 4
"""Of the beginning of a call's id."""
_PHASES = {True: "its app is imported and set up", False: "its process is being started"}

Facts = dict[str, Any]
Look = Callable[[WorkerId, Callable[[str], None]], None]


class Book(Protocol):
    """What is read of the broker."""

    story: Story

    def view(self, session: SessionId) -> SessionView | None: ...
    def views(self, include_dead: bool = False) -> list[SessionView]: ...
    def standing(self, session: SessionId) -> Standing | None: ...
    def call_standing(self, call: CallId) -> CallStanding | None: ...
    def call_view(self, call: str) -> CallView | None: ...
    def open_calls(self) -> list[CallId]: ...
    def settle_left(self) -> None: ...


class Why:
    """`look` takes the stack of a worker's main thread and calls back within 0.15 s."""

    def __init__(self, book: Book, look: Look, started: float) -> None:
        self._book = book
        self._look = look
        self._started = started

    def explain(self, text: str, now: float, done: Callable[[Facts], None]) -> None:
        """Call `done` with the facts, `text` being the sentence among them.

        Raises Invalid when `text` is the beginning of several ids.
        """
        self._book.settle_left()
        facts, worker = self._facts(text, now)

        def tell(stack: str = "") -> None:
            facts["at"] = place_of(stack)
            facts["stack"] = stack
            facts["text"] = sentence(facts)
            done(facts)

        since = facts.get("running_for") or facts.get("starting_for") or 0.0
        if worker is not None and since >= STACK_AFTER_SECONDS:
            self._look(worker, tell)
        else:
            tell()

    def _facts(self, text: str, now: float) -> tuple[Facts, WorkerId | None]:
        """What is known, and the worker whose stack would say more."""
        return (
            self._about_call(_whole_call(text), now)
            or self._about_session(text, now)
            or self._about_call(self._call_beginning(text), now)
            or ({"id": text, "kind": None, "state": "unknown", "uptime": now - self._started}, None)
        )

    def _about_call(self, id: CallId | None, now: float) -> tuple[Facts, WorkerId | None] | None:
        under_way = None if id is None else self._book.call_standing(id)
        if under_way is not None:
            return self._call_facts(under_way, now)
        if id is None:
            return None
        past, kept = self._book.story.call(id), self._book.call_view(id.hex())
        if kept is not None and (past is None or past.code == LEFT or past.alone):
            return _kept_facts(kept, now), None
        return None if past is None else (_past_facts(past, now), None)

    def _about_session(self, text: str, now: float) -> tuple[Facts, WorkerId | None] | None:
        view = self._session(text)
        if view is None:
            return None
        standing = self._book.standing(view.id)
        if standing is None or standing.died:
            return self._gone(view, now), None
        return self._session_facts(standing, now), view.worker

    def _session(self, text: str) -> SessionView | None:
        view = self._book.view(SessionId(text))
        if view is not None:
            return view
        views = self._book.views(include_dead=True)
        shown = [{"id": v.id, "name": v.name, "app": v.app, "state": v.state} for v in views]
        found = names.match(text, shown)
        return None if found is None else self._book.view(SessionId(found))

    def _call_beginning(self, text: str) -> CallId | None:
        if len(text) < MIN_CALL_DIGITS:
            return None
        known = [*self._book.open_calls(), *self._book.story.call_ids()]
        found = names.match_call(text, (id.hex() for id in known))
        return None if found is None else CallId(bytes.fromhex(found))

    def _session_facts(self, standing: Standing, now: float) -> Facts:
        view = standing.view
        return {
            **_identity(view),
            "state": view.state,
            "queued": standing.waiting,
            "reason": view.reason,
            **_idle_clock(view, now),
            **self._running_facts(standing, now),
            **_start_facts(standing, now),
            "gpu": self._gpu_facts(standing, now),
        }

    def _running_facts(self, standing: Standing, now: float) -> Facts:
        view, function = standing.view, standing.running_function
        in_session = None if view.kind == "pool" else view.id
        return {
            "function": function,
            "call": view.running_call,
            "running_for": None if view.running_since is None else now - view.running_since,
            "usual": None if function is None else self._book.story.usual_seconds(in_session, function),
        }

    def _gpu_facts(self, standing: Standing, now: float) -> Facts | None:
        """What it has on GPUs, what it waits for there and who is in the way, and how its move goes."""
        room, view = standing.room, standing.view.gpu
        if room is None or view is None:
            return None
        found = [self._book.standing(holder) for holder in room.holders[:MOST_HOLDERS]]
        return {
            "wanted": room.wanted,
            **_room_times(room, now),
            "in_the_way": room.in_the_way,
            "holders": [self._holder_facts(holder, now) for holder in found if holder is not None],
            "parked": view.parked_bytes,
            "kept": view.never or None,
            "unpark_seconds": view.unpark_seconds or None,
        }

    def _holder_facts(self, standing: Standing, now: float) -> Facts:
        view, running = standing.view, self._running_facts(standing, now)
        return {
            "id": view.id,
            "app": view.app,
            "state": view.state,
            "function": running["function"],
            "running_for": running["running_for"],
        }

    def _call_facts(self, call: CallStanding, now: float) -> tuple[Facts, WorkerId | None]:
        view, standing = call.view, call.session
        facts: Facts = {
            "id": view.id,
            "kind": "call",
            "state": view.state,
            "function": call.function,
            "app": call.app,
            "session": None if standing is None else standing.view.id,
            "position": view.position,
            "waited": now - call.arrived,
            "deadline_in": call.timeout_seconds - (now - call.arrived),
        }
        if standing is None:
            return facts, None
        facts |= self._running_facts(standing, now) | _start_facts(standing, now)
        facts |= {"session_state": standing.view.state, "gpu": self._gpu_facts(standing, now)}
        facts["running_function"], facts["function"] = facts["function"], call.function
        facts["session"] = standing.view.id if standing.view.kind == "session" else None
        return facts, standing.view.worker if view.state != "queued" else None

    def _gone(self, view: SessionView, now: float) -> Facts:
        story = self._book.story
        grave = story.grave(view)
        asked = story.ended_by(view) if view.state == "ended" else None
        return {
            **_identity(view),
            "state": "died" if view.state == "stopping" else view.state,
            "reason": view.reason,
            "ended_ago": None if grave.ended is None else now - grave.ended,
            "ended_by": asked.who if asked is not None else None,
            "signal": grave.signal,
            "exit_code": grave.exit_code,
            "last_line": grave.last_line,
            "function": grave.function,
        }


def _whole_call(text: str) -> CallId | None:
    try:
        return CallId(bytes.fromhex(text)) if len(text) == 2 * CALL_ID_BYTES else None
    except ValueError:
        return None


def _identity(view: SessionView) -> Facts:
    facts: Facts = {"id": view.id, "kind": "session", "app": view.app, "name": view.name}
    return facts | {"pid": view.pid, "calls": view.calls}


def _idle_clock(view: SessionView, now: float) -> Facts:
    """`kept_by` is what else than its timeout decides how long an idle session lives."""
    expires = view.expires_at
    counts = expires is not None and expires != math.inf
    return {
        "idle_for": max(0.0, now - view.idle_since) if counts else None,
        "expires_in": max(0.0, expires - now) if counts and expires else None,
        "kept_by": _kept_by(view, now),
    }


def _kept_by(view: SessionView, now: float) -> str | None:
    return "a hold" if view.held_until > now and view.expires_at == view.held_until else None


def _room_times(room: RoomStanding, now: float) -> Facts:
    return {
        "waits_for": _ago(room.waits_since, now),
        "refused_in": _until(room.refused_at, now),
        "moving_for": _ago(room.moves_since, now),
        "given_up_in": _until(room.moves_until, now),
        "parked_for": _ago(room.parked_since, now),
    }


def _ago(then: float | None, now: float) -> float | None:
    return None if then is None else max(0.0, now - then)


def _until(then: float | None, now: float) -> float | None:
    return None if then in (None, math.inf) else max(0.0, then - now)


def _start_facts(standing: Standing, now: float) -> Facts:
    view = standing.view
    looking_up = view.state == "looking_up"
    starts = view.state in ("looking_up", "placing", "starting")
    return {
        "phase": "its app is looked up" if looking_up else _PHASES[view.pid is not None],
        "starting_for": max(0.0, now - standing.start_since) if starts else None,
        "start_limit": standing.start_limit_seconds,
    }


def _kept_facts(view: CallView, now: float) -> Facts:
    """Of a detached call that is done."""
    return {
        "id": view.id,
        "kind": "call",
        "state": "kept",
        "function": view.function,
        "session": view.session,
        "code": view.code,
        "ran": view.ran,
        "ended_ago": now - view.since,
    }


def _past_facts(past: PastCall, now: float) -> Facts:
    state = "left" if past.code == LEFT else "failed" if past.code else "done"
    timing: Mapping[str, Any] | None = None if past.timing is None else past.timing._asdict()
    return {
        "id": past.id.hex(),
        "kind": "call",
        "state": state,
        "function": past.function,
        "session": past.session,
        "code": past.code or None,
        "ran": past.ran,
        "message": past.message,
        "timing": timing,
        "took": past.ended - past.arrived,
        "ended_ago": now - past.ended,
    }
