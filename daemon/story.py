"""What is remembered of calls and sessions that are over, so that `why` can tell of them.

It hangs on the broker from outside, like the diary: it sees each event and what was ordered, and
changes nothing.  A warm call pays for a dictionary entry and a tuple.  Good ends and bad ones have
rings of their own, since a busy daemon would else push out a refusal within milliseconds.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple, TypeAlias

from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import REMEMBERED_SESSIONS
from warmd.daemon.core.views import SessionView
from warmd.daemon.logfile import CRASH
from warmd.protocol.errors import shorten
from warmd.protocol.messages import Call, CallId, ClientId, Failure, Result, SessionId, Timing
from warmd.protocol.work import WorkerId

REMEMBERED_CALLS = 1000
"""Of each kind: good ends, bad ones, and requests to end a session."""
MAX_OPEN_CALLS = 100_000
MAX_MESSAGE_BYTES = 600
MAX_NAME_BYTES = 256
"""Of a function, or an app, that was refused: no good name is longer."""
OpenCall: TypeAlias = tuple[float, str, ClientId, str | None, bool]
"""Of a call that was not answered yet: when it arrived, its function, who calls, the app if it was named,
whether it is detached."""
LEFT = "LEFT"
"""Instead of an error's code: its client went away, so that nobody was told how it ended."""


class PastCall(NamedTuple):
    """A call that is over.  Times are monotonic seconds of the daemon."""

    number: int
    """How many ended before it."""
    id: CallId
    ended: float
    arrived: float
    function: str
    session: SessionId | None
    timing: Timing | None
    code: str
    """Empty for a good end."""
    message: str
    ran: str
    app: str | None
    """As its caller named it; None where the session's id did."""
    first_part: float | None
    """When a generator gave its first part."""
    alone: bool
    """It was detached, and its caller had left before."""


class Ending(NamedTuple):
    """A request to end sessions, and whose it was."""

    at: float
    who: str
    session: SessionId | None
    app: str | None


@dataclass(slots=True)
class Grave:
    """What is known of a session's end beyond its view."""

    ended: float | None = None
    signal: str | None = None
    exit_code: int | None = None
    last_line: str = ""
    function: str = ""
    """That of the call that ran."""


class Story:
    """`who` says which program a client is; the server sets it."""

    def __init__(self) -> None:
        self.who: Callable[[ClientId], str] = lambda _client: ""
        self.ended = 0
        """How many calls so far."""
        self.left: set[CallId] = set()
        """Detached calls that go on, or have ended, without their caller."""
        self._open: dict[CallId, OpenCall] = {}
        self._first_parts: dict[CallId, float] = {}
        self._good: deque[tuple[Any, ...]] = deque(maxlen=REMEMBERED_CALLS)
        self._bad: deque[tuple[Any, ...]] = deque(maxlen=REMEMBERED_CALLS)
        self._endings: deque[Ending] = deque(maxlen=REMEMBERED_CALLS)
        self._dying: dict[WorkerId, Grave] = {}
        self._graves: OrderedDict[SessionId, Grave] = OrderedDict()

    def saw(self, event: ev.Event, effects: Sequence[fx.Effect], now: float) -> None:
        """One event has been handled."""
        kind = type(event)
        if kind is ev.CallArrived:
            self._arrived(event, now)  # type: ignore[arg-type]
        elif kind in _NOTES:
            _NOTES[kind](self, event, effects, now)
        for effect in effects:
            if type(effect) is fx.Send:
                message = effect.message
                if type(message) is Result:
                    self._returned(message, now)
                elif type(message) is Failure:
                    self._failed(message, now)
            elif type(effect) is fx.Forget:
                self._bury(effect, now)

    def refused(self, call: Call, said: Failure, now: float) -> None:
        """A call has been refused before the broker saw it."""
        app = shorten(call.app.name, MAX_NAME_BYTES) if call.app else None
        opened = (now, shorten(call.function, MAX_NAME_BYTES), ClientId(b""), app, call.detach)
        self._bury_call(self._bad, opened, now, *_failure(said))

    def call(self, id: CallId) -> PastCall | None:
        return next((past for past in self._past(self._bad, self._good) if past.id == id), None)

    def call_ids(self) -> Iterator[CallId]:
        return (past.id for past in self._past(self._bad, self._good))

    def since(self, number: int) -> Iterator[PastCall]:
        """The calls that have ended from that number on, as far as they are remembered: of each kind the
        latest first."""
        for ring in (self._bad, self._good):
            for entry in reversed(ring):
                if entry[0] < number:
                    break
                yield PastCall(*entry)

    def yielded(self, call: CallId, now: float) -> None:
        """A generator has given its first part."""
        if call in self._open:
            self._first_parts[call] = now

    def usual_seconds(self, session: SessionId | None, function: str) -> float | None:
        """The median time that a function took in this session lately."""
        found = [
            past.timing.run
            for past in self._past(self._good)
            if past.session == session and past.function == function and past.timing
        ]
        return median(found) if found else None

    def grave(self, view: SessionView) -> Grave:
        """Of a session that is gone, or whose processes are being cleared away."""
        dying = None if view.worker is None else self._dying.get(view.worker)
        return self._graves.get(view.id) or dying or Grave()

    def ended_by(self, view: SessionView) -> Ending | None:
        """The first request that this session was ended by."""
        return next((ending for ending in self._endings if _concerns(ending, view)), None)

    def _past(self, *rings: deque[tuple[Any, ...]]) -> Iterator[PastCall]:
        return (PastCall(*entry) for ring in rings for entry in reversed(ring))

    def _arrived(self, event: ev.CallArrived, now: float) -> None:
        opened, call = self._open, event.call
        if call.id not in opened:
            app = call.app.name if call.app else None
            opened[call.id] = (now, call.function, event.client, app, call.detach)
        if len(opened) > MAX_OPEN_CALLS:
            self._first_parts.pop(oldest := next(iter(opened)), None)
            self.left.discard(oldest)
            del opened[oldest]

    def _returned(self, said: Result, now: float) -> None:
        opened = self._open.pop(said.id, None)
        if opened is not None:
            self._bury_call(self._good, opened, now, said.id, said.session, said.timing, "", "", "yes")

    def _failed(self, said: Failure, now: float) -> None:
        opened = self._open.pop(said.id, None)
        if opened is not None:
            self._bury_call(self._bad, opened, now, *_failure(said))

    def _left(self, event: ev.ClientGone, _effects: Sequence[fx.Effect], now: float) -> None:
        """Its detached calls go on: they are `left`, until somebody asks what became of them."""
        for id in [id for id, opened in self._open.items() if opened[2] == event.client]:
            if self._open[id][4]:
                self.left.add(id)
            else:
                self.lost(id, now)

    def lost(self, id: CallId, now: float) -> None:
        """Nobody is told how this call ends."""
        opened = self._open.pop(id, None)
        if opened is not None:
            self._bury_call(self._bad, opened, now, id, None, None, LEFT, "", "maybe")

    def ended_alone(self, final: Result | Failure, ended: float) -> None:
        """So a detached call has ended, whose caller had left."""
        opened = self._open.pop(final.id, None)
        if opened is None:
            return
        if isinstance(final, Result):
            facts = (final.id, final.session, final.timing, "", "", "yes")
            self._bury_call(self._good, opened, ended, *facts, alone=True)
        else:
            self._bury_call(self._bad, opened, ended, *_failure(final), alone=True)

    def _bury_call(
        self,
        ring: deque[tuple[Any, ...]],
        opened: OpenCall,
        now: float,
        id: CallId,
        session: SessionId | None,
        timing: Timing | None,
        code: str,
        message: str,
        ran: str,
        alone: bool = False,
    ) -> None:
        first = self._first_parts.pop(id, None) if self._first_parts else None
        arrived, function, _, app, _ = opened
        ring.append(
            (self.ended, id, now, arrived, function, session, timing, code, message, ran, app, first, alone)
        )
        self.ended += 1

    def _asked_to_end(self, event: ev.EndArrived, _effects: Sequence[fx.Effect], now: float) -> None:
        self._endings.append(Ending(now, self.who(event.client), event.session, event.app))

    def _exited(self, event: ev.WorkerExited, effects: Sequence[fx.Effect], now: float) -> None:
        grave = Grave(now, event.signal, event.exit_code, _last_line(event.log_tail))
        for effect in effects:
            message = effect.message if type(effect) is fx.Send else None
            if type(message) is Failure and message.code == "WORKER_DIED":
                grave.function = self._function_of(message.id)
        self._dying[event.worker] = grave

    def _function_of(self, call: CallId) -> str:
        opened = self._open.get(call)
        return opened[1] if opened else ""

    def _bury(self, effect: fx.Forget, now: float) -> None:
        self._graves[effect.session] = self._dying.pop(effect.worker, Grave(now))
        if len(self._graves) > REMEMBERED_SESSIONS:
            self._graves.popitem(last=False)


def _failure(said: Failure) -> tuple[CallId, SessionId | None, None, str, str, str]:
    text = shorten(said.message, MAX_MESSAGE_BYTES)
    return said.id, said.session, None, said.code, text, said.ran


def _concerns(ending: Ending, view: SessionView) -> bool:
    if ending.session is not None:
        return ending.session == view.id
    return ending.app in (None, view.app) and ending.at >= view.created


def _last_line(log_tail: str) -> str:
    """What tells most: the line with which a crash begins, else the last one."""
    lines = [line for line in log_tail.splitlines() if line.strip()]
    crash = next((line for line in lines if line.startswith(CRASH)), None)
    return crash or (lines[-1] if lines else "")


_NOTES: Mapping[type, Callable[[Story, Any, Sequence[fx.Effect], float], None]] = {
    ev.ClientGone: Story._left,
    ev.EndArrived: Story._asked_to_end,
    ev.WorkerExited: Story._exited,
}
