"""The client's half of a conversation with the daemon, without any I/O.

Whoever owns the socket sends what is in `outbox`, hands over what was received, and says when
time has passed or the connection is gone; the `Exchange` keeps the books: which answer belongs to
which call, whether a stream is whole, how many parts may still come, and when patience ends.
`Client` and `AsyncClient` differ only in how they wait.

It must survive an interruption: Ctrl-C raises KeyboardInterrupt between any two bytecodes of the
main thread.  So the owner keeps a received message until `received` has returned and hands it over
again if it did not, and everything here may be done twice: a part or an end that was seen before is
ignored.  A message to be sent leaves the outbox before it is sent: a call is lost rather than run
twice.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Literal

from warmd.protocol.errors import Problem, Ran
from warmd.protocol.messages import (
    PROTOCOL,
    WINDOW_BYTES,
    Accepted,
    Attach,
    Body,
    Call,
    CallId,
    Cancel,
    Credit,
    Failure,
    FromClient,
    FromDaemon,
    Goodbye,
    HandBack,
    Hello,
    Lent,
    Part,
    Parts,
    Ping,
    Pong,
    Refused,
    Request,
    Result,
    Welcome,
)
from warmd.protocol.parcels import Mapped, Region
from warmd.protocol.pending import Carrier, Pending
from warmd.protocol.regions import parted, whole
from warmd.protocol.wire import FROM_CLIENT, FROM_DAEMON, WireError

PATIENCE_SECONDS = 2.5
"""How long after its time-out a call is given up here.  The daemon answers within 2 s; if it has
not, it is stopped or hangs."""
SPARE_DUES = 64
READING = frozenset(
    (
        "sessions.list", "sessions.get", "calls.get", "calls.list", "calls.watch", "why", "logs",
        "apps.list", "apps.describe", "status",
    )
)  # fmt: skip
"""Requests that change nothing, so that nobody need ask whether they were carried out."""


class Exchange:
    """One connection's calls, from its `Hello` to its loss.  Not thread-safe."""

    def __init__(self, hello: Hello) -> None:
        self.outbox: deque[tuple[Pending | None, list[Body]]] = deque()
        self.welcome: Welcome | None = None
        self.refusal: Problem | None = None
        """Why there is no connection: the daemon refused it, or it speaks another protocol."""
        self.lost: str | None = None
        """Why there is no connection any more."""
        self.goodbye: str | None = None
        self.carrier: Carrier | None = None
        self._version = hello.version
        self._live: dict[CallId, Pending] = {}
        self._held: dict[CallId, Pending] = {}
        """Begun before the daemon has said welcome."""
        self._dues: list[tuple[float, int, CallId]] = []
        self._sequence = count()
        self._post(hello)

    @property
    def under_way(self) -> int:
        """How many calls have not ended."""
        return len(self._live)

    @property
    def busy(self) -> bool:
        """Whether there is a call that has not ended."""
        return bool(self._live)

    def begin(self, message: Call | Request | Attach, now: float, patience: float | None) -> Pending:
        """Start a call or request, which is to be answered within `patience` seconds (None: the
        daemon's own limit for a call, no limit for a request).  What cannot be sent ends at once,
        with `ran` = no."""
        pending = Pending(message, begun=now, due=None)
        if isinstance(message, Attach):
            pending.next_number = message.offset
        self._live[message.id] = pending
        if patience is not None:
            self._expect(pending, patience)
        if self.lost is not None:
            self._end(pending, self._loss(pending, self.lost), now)
        elif self.welcome is None:
            self._held[message.id] = pending
        else:
            self._post_pending(pending, self.welcome, now)
        return pending

    def cancel(self, pending: Pending, how: Literal["cancel", "abandon", "finish"] = "cancel") -> None:
        """Ask for the end of a call; it is still answered."""
        if pending.done or pending.id not in self._live:
            return
        if self._held.pop(pending.id, None):
            self._end(
                pending, Problem("CANCELLED", "the call was cancelled before it was sent"), pending.begun
            )
        else:
            self._post(Cancel(pending.id, how))

    def drop(self, call: CallId, how: Literal["cancel", "abandon"] = "cancel") -> None:
        """Cancel a call, and ignore all that still comes of it: nobody waits any more."""
        pending = self._live.get(call)
        if pending is not None:
            self.cancel(pending, how)
            if pending.lent is not None and self.carrier is not None:
                # If it was interrupted nobody knows whether the daemon has heard of it.
                self.carrier.handed_back([], [pending.lent.number])
            self._live.pop(call, None)

    def take(self, pending: Pending) -> Part | None:
        """The next part of a stream, if it is here; gives the daemon credit for another.

        Credit goes out when half the window was taken, in parts or in bytes: a message for each part
        would cost more than the parts.
        """
        if not pending.parts:
            return None
        pending.next_number = pending.parts[0].number + 1
        part = pending.parts.popleft()
        pending.unreturned += 1
        pending.unreturned_bytes += len(part.value)
        if not pending.done and self._is_due(pending):
            self._post(Credit(pending.id, pending.unreturned))
            pending.unreturned = pending.unreturned_bytes = 0
        return part

    def _is_due(self, pending: Pending) -> bool:
        half = (pending.message.window or 1) <= 2 * pending.unreturned
        return half or pending.unreturned_bytes * 2 >= WINDOW_BYTES

    def received(self, frames: Sequence[Body], now: float) -> None:
        """A message has come.  Raises WireError for what is none: the connection is of no use then."""
        message = whole(FROM_DAEMON.unpack(frames), self._borrow)
        if isinstance(message, (Part, Parts, Result, Failure, Accepted)):
            pending = self._live.get(message.id)
            if pending is not None:
                self._progress(pending, message, now)
        else:
            self._conversation(message, now)

    def deadline(self) -> float | None:
        """When `time_passed` is due."""
        while self._dues and self._dues[0][2] not in self._live:
            heapq.heappop(self._dues)
        return self._dues[0][0] if self._dues else None

    def time_passed(self, now: float) -> None:
        """End the calls whose answers are overdue.  To be called only when all that has come was
        handed over: a reader who was away longer than that must still find his parts."""
        while (due := self.deadline()) is not None and due <= now:
            pending = self._live[self._dues[0][2]]
            ran: Ran = "maybe" if pending.sent else "no"
            seconds = due - pending.begun - PATIENCE_SECONDS
            self.cancel(pending)
            text = (
                f"no answer within {seconds:g} s and {PATIENCE_SECONDS:g} s more: the daemon is stopped, "
                "overloaded or hangs"
            )
            self._end(pending, Problem("TIMEOUT", text, ran), now)

    def connection_lost(self, reason: str, now: float) -> None:
        """End everything.  The reason completes a sentence: "the connection to the daemon is lost: ..."."""
        if self.lost is None:
            self.lost = f"{reason} (it had said: {self.goodbye})" if self.goodbye else reason
        self.outbox.clear()
        self._held.clear()
        for pending in list(self._live.values()):
            self._end(pending, self._loss(pending, self.lost), now)

    def _loss(self, pending: Pending, reason: str) -> Problem:
        if self.refusal is not None:
            return self.refusal
        ran: Ran = "maybe" if pending.sent else "no"
        known = "; it may have run" if pending.sent else "; it did not run, it was not sent"
        message = pending.message
        if isinstance(message, Attach) or (isinstance(message, Request) and message.verb in READING):
            known = ""
        return Problem("DAEMON_LOST", f"the connection to the daemon is lost: {reason}{known}", ran)

    def _conversation(self, message: FromDaemon, now: float) -> None:
        if isinstance(message, Welcome):
            self._welcomed(message, now)
        elif isinstance(message, Refused):
            self._refused(f"the daemon refused the connection: {message.message}", message, now)
        elif isinstance(message, Goodbye):
            self.goodbye = message.reason
        elif isinstance(message, Ping):
            self._post(Pong(message.number))
        elif isinstance(message, HandBack) and self.carrier is not None:
            self.carrier.handed_back(message.numbers, message.left)

    def _welcomed(self, welcome: Welcome, now: float) -> None:
        if welcome.protocol != PROTOCOL:
            self._refused("the daemon speaks another protocol", welcome, now)
            return
        if self.welcome is not None and self.welcome != welcome:
            raise WireError("another daemon answers on this connection")
        if welcome.max_message_bytes < 0 or not welcome.call_timeout_seconds > 0:
            raise WireError("its limits are none")  # NaN too, which no deadline is before or after
        self.welcome = welcome
        for pending in tuple(self._held.values()):
            self._post_pending(pending, welcome, now)
            self._held.pop(pending.id, None)

    def _refused(self, text: str, theirs: Welcome | Refused, now: float) -> None:
        versions = (
            f"daemon: warmd {theirs.version}, protocol {theirs.protocol}; "
            f"this client: warmd {self._version}, protocol {PROTOCOL}"
        )
        differ = theirs.protocol != PROTOCOL
        remedy = "; run both from the same version, and `warmd stop` the old daemon" if differ else ""
        self.refusal = Problem("DAEMON_UNAVAILABLE", f"{text} ({versions}{remedy})")
        self.connection_lost(text, now)

    def _progress(
        self, pending: Pending, message: Part | Parts | Result | Failure | Accepted, now: float
    ) -> None:
        if isinstance(message, Result):
            self._finished(pending, message, now)
        elif isinstance(message, Part):
            self._part(pending, message, now)
        elif isinstance(message, Parts):
            self._parts(pending, message, now)
        elif isinstance(message, Accepted):
            pending.session = message.session
            pending.accepted = True
            pending.changed()
        else:
            pending.session = message.session or pending.session
            ran: Ran = message.ran if message.ran in ("no", "yes") else "maybe"  # type: ignore[assignment]
            self._end(pending, Problem(message.code, message.message, ran, message.details), now)

    def _part(self, pending: Pending, part: Part, now: float) -> None:
        if part.number == pending.expected:
            pending.parts.append(part)
            pending.changed()
        elif part.number > pending.expected:
            self._post(Cancel(pending.id, "abandon"))
            self._broken(pending, f"part {part.number} came instead of {pending.expected}", now)

    def _parts(self, pending: Pending, parts: Parts, now: float) -> None:
        values, begin = memoryview(parts.values), 0
        if sum(parts.sizes) != len(values) or min(parts.sizes, default=0) < 0:
            raise WireError("the sizes of parts are not those of their values")
        for number, size in enumerate(parts.sizes, parts.number):
            self._part(pending, Part(parts.id, number, values[begin : begin + size]), now)
            begin += size

    def _finished(self, pending: Pending, result: Result, now: float) -> None:
        if result.parts != pending.expected:
            self._broken(pending, f"{pending.expected} parts came, {result.parts} were sent", now)
            return
        pending.session = result.session or pending.session
        pending.result = result
        self._over(pending, now)

    def _broken(self, pending: Pending, what: str, now: float) -> None:
        text = f"the stream is broken, which is a fault of the daemon or of this client: {what}"
        self._end(pending, Problem("DAEMON_LOST", text, "maybe"), now)

    def _end(self, pending: Pending, problem: Problem, now: float) -> None:
        if not pending.done:
            pending.problem = problem
        self._over(pending, now)

    def _over(self, pending: Pending, now: float) -> None:
        pending.ended = now
        pending.changed()
        # Last, for then the same message handed over again finds nothing to do.
        self._live.pop(pending.id, None)

    def _expect(self, pending: Pending, patience: float) -> None:
        """Have the call end by itself if no answer comes."""
        pending.due = pending.begun + patience + PATIENCE_SECONDS
        heapq.heappush(self._dues, (pending.due, next(self._sequence), pending.id))
        if len(self._dues) > 2 * len(self._live) + SPARE_DUES:
            # One long call at the head would keep an entry of every short one behind it.
            self._dues = [entry for entry in self._dues if entry[2] in self._live]
            heapq.heapify(self._dues)

    def _post_pending(self, pending: Pending, welcome: Welcome, now: float) -> None:
        message, limit = pending.message, welcome.max_message_bytes
        if pending.due is None and isinstance(message, Call):
            self._expect(pending, welcome.call_timeout_seconds)
        size = (
            len(message.input) + len(message.setup) + len(message.pickled) if isinstance(message, Call) else 0
        )
        if size > limit:
            text = (
                f"the input has {size} bytes, the daemon's limit is {limit} (max_message_bytes): "
                "send a path instead of the data, or several smaller calls"
            )
            self._end(pending, Problem("TOO_LARGE", text, details={"limit": limit}), now)
            return
        try:
            self._post(message, pending)
        except WireError as error:
            self._end(pending, Problem("INVALID", str(error)), now)

    def hand_back(self, message: HandBack) -> None:
        """Nobody here reads these segments of the daemon's any more."""
        if self.lost is None:
            self._post(message)

    def _post(self, message: FromClient, pending: Pending | None = None) -> None:
        message = parted(message, self._lend)
        if pending is not None and isinstance(message, Call):
            pending.lent = message.lent
            if message.lent is not None and self.carrier is not None:
                self.carrier.settled()
        try:
            self.outbox.append((pending, FROM_CLIENT.pack(message)))
        except WireError:
            if isinstance(message, Call) and message.lent is not None and self.carrier is not None:
                self.carrier.handed_back([message.lent.number], [])
            raise

    def _lend(self, region: Region) -> Lent | None:
        return None if self.carrier is None else self.carrier.lend(region)

    def _borrow(self, lent: Lent) -> Mapped:
        if self.carrier is None:
            raise WireError(f"segment {lent.number} is named, and there is no lane")
        return self.carrier.borrow(lent)
