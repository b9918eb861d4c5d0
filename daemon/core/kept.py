"""What is kept of detached calls, and who reads it.

A detached call has no client that it could lose: what it gives goes into a record, and each
*reader* is served from there, at its own pace.  Its caller is only the first reader.

    parts    numbers first .. next-1; the earlier ones were dropped
    final    the one end; from then on the call is kept for `detached_keep_seconds`
    readers  each with the number that it is at and its own credit; without a window it waits for
             the end alone

In one event a reader is told a slice of what it has room for; the rest follows in later ones, a slice
for all who wait for their turn (`unserved`), so that nobody else's call waits for thousands of parts.

All that is kept counts, with what the keeping itself costs, and is never over `detached_max_bytes`
between two events: whole calls go first, those that ended first before all; then the oldest parts
of the running call that has most.  Readers do not count: who is slower than that is told so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container
from typing import Literal

from warmd.daemon.core import policy
from warmd.daemon.core.deadlines import Deadlines
from warmd.daemon.core.policy import Limits
from warmd.daemon.core.record import PACKED_NONE, Grave, Kept, Reader, final_bytes, owned
from warmd.protocol.errors import Problem
from warmd.protocol.messages import (
    Accepted,
    CallId,
    ClientId,
    Failure,
    FromDaemon,
    Part,
    Result,
    SessionId,
)
from warmd.protocol.parcels import Value

_WHY_GONE = {
    "time": "that time is over",
    "room": "that room was needed for later ones",
    "size": "it gave more than that by itself: have it return a path, or raise detached_max_bytes",
}


class Keep:
    """All detached calls, from their arrival until nobody can ask for them any more."""

    def __init__(
        self,
        limits: Limits,
        started: float,
        deadlines: Deadlines,
        behind: Container[ClientId],
        send: Callable[[ClientId, FromDaemon], None],
        now: Callable[[], float],
    ) -> None:
        self.calls: dict[CallId, Kept] = {}
        self.ended: OrderedDict[CallId, Kept] = OrderedDict()
        """Those of them that are done, the first to end first."""
        self.graves: OrderedDict[CallId, Grave] = OrderedDict()
        self.readers: dict[ClientId, dict[CallId, Reader]] = {}
        self.unserved: dict[Reader, None] = {}
        """Those that have more coming than one event may tell, in the order of their turns."""
        self.bytes = 0
        self._limits = limits
        self._started = started
        self._deadlines = deadlines
        self._behind = behind
        self._send = send
        self._now = now

    def open(self, call: CallId, function: str, note: str = "") -> Kept:
        """A detached call has arrived."""
        kept = self.calls[call] = Kept(call, function, note)
        return kept

    def admit(self, kept: Kept, session: SessionId | None) -> None:
        """It is known where the call will run: its readers are told."""
        kept.session, kept.admitted = session, True
        for reader in kept.readers:
            self._send(reader.client, Accepted(reader.id, session))

    def add(self, kept: Kept, value: Value) -> None:
        """One more part."""
        self._count(kept, kept.parts.add(owned(value)))
        for reader in tuple(kept.readers):
            self._serve(reader)
        self._make_room(kept)

    def end(self, kept: Kept, final: Result | Failure, now: float) -> None:
        """The call is over; from now on its time runs."""
        if isinstance(final, Result):
            final = Result(final.id, final.session, final.parts, final.timing, owned(final.value))
        kept.final, kept.ended, kept.session = final, now, final.session or kept.session
        self._count(kept, final_bytes(final, kept.note))
        self.ended[kept.id] = kept
        self._deadlines.set(("kept", kept.id), now + self._limits.detached_keep_seconds)
        for reader in tuple(kept.readers):
            self._serve(reader)
        self._make_room(kept)

    def overdue(self, call: CallId) -> None:
        """Nothing is kept longer."""
        self._forget(self.ended[call], "time")

    def close(self, text: str) -> None:
        """The daemon stops, and what it keeps goes with it."""
        for kept in tuple(self.ended.values()):
            for reader in tuple(kept.readers):
                self._fail(reader, Problem("CALL_GONE", f"call {kept.id.hex()}: {text}", "maybe"))
            self._deadlines.drop(("kept", kept.id))
            self._remove(kept)
        self._deadlines.drop(("unserved", None))

    # Readers

    def attach(self, kept: Kept, client: ClientId, id: CallId, at: int, window: int | None) -> None:
        """One more reader, from part number `at` on, which is kept or to come."""
        reader = Reader(client, id, kept, at, window)
        self.readers.setdefault(client, {})[id] = reader
        kept.readers.append(reader)
        if kept.admitted:
            self._send(client, Accepted(id, kept.session))
        self._serve_in_turn(reader)

    def reader(self, client: ClientId, id: CallId) -> Reader | None:
        readers = self.readers.get(client)
        return None if readers is None else readers.get(id)

    def credit(self, client: ClientId, id: CallId, parts: int) -> None:
        """A reader, if it is one, has room for more."""
        reader = self.reader(client, id)
        if reader is not None and reader.credit is not None:
            reader.credit = min(reader.credit + parts, self._limits.max_stream_window)
            self._serve_in_turn(reader)

    def serve(self, client: ClientId) -> None:
        """The client, which was behind in its reading (`readers.py`), takes more again."""
        for reader in self.readers.get(client, {}).values():
            if self._has_news(reader):
                self.unserved[reader] = None
        self.go_on()

    def go_on(self) -> None:
        """A slice for those who wait for their turn."""
        room = policy.TOLD_AT_ONCE_BYTES
        while self.unserved and room > 0:
            reader = next(iter(self.unserved))
            room = self._tell(reader, room)
            self.unserved.pop(reader, None)
            if self._has_news(reader):
                self.unserved[reader] = None
        self._go_on_later()

    def give_up_next(self, why: str) -> None:
        """Whose turn it is cannot be served; the others can."""
        for reader in tuple(self.unserved)[:1]:
            self._fail(reader, Problem("INTERNAL", why, "maybe"))
        self._go_on_later()

    def _go_on_later(self) -> None:
        if self.unserved:
            self._deadlines.set(("unserved", None), self._now() + policy.TELL_AGAIN_SECONDS)

    def detach(self, client: ClientId, id: CallId) -> None:
        """A reader, if it is one, wants to hear no more; the call goes on."""
        reader = self.reader(client, id)
        if reader is not None:
            self._fail(reader, Problem("CANCELLED", "this reader has left; the call goes on", "maybe"))

    def leave(self, client: ClientId) -> None:
        """The client is gone, and with it its readers."""
        for reader in self.readers.pop(client, {}).values():
            reader.kept.readers.remove(reader)
            self.unserved.pop(reader, None)

    # What is said of what is not kept

    def missing(self, call: CallId, now: float) -> Problem:
        """The answer to one who asks for a call that is not here."""
        grave = self.graves.get(call)
        if grave is None:
            text = (
                f"call {call.hex():.64} is unknown to this daemon, which started {now - self._started:.0f} s "
                "ago: no detached call of that id came to it since, or it is too long ago to be remembered"
            )
            return Problem("CALL_GONE", text, "maybe")
        limits = self._limits
        how = f"ended with {grave.code}" if grave.code else "ended well"
        why = _WHY_GONE[grave.why]
        text = (
            f"what call {call.hex()} gave is no longer kept: it {how} {now - grave.ended:.0f} s ago; "
            f"detached calls are kept for {limits.detached_keep_seconds:g} s (detached_keep) and with "
            f"at most {limits.detached_max_bytes} bytes in all (detached_max_bytes), and {why}"
        )
        return Problem("CALL_GONE", text, "maybe", {"limit": limits.detached_max_bytes})

    def dropped(self, kept: Kept, wanted: int) -> Problem:
        """The answer to one who asks for a part that had to go."""
        rest = f"the first that is still kept is {kept.first}" if kept.first < kept.next else "none is kept"
        text = (
            f"part {wanted} of call {kept.id.hex()} is no longer kept, {rest}: all detached calls together "
            f"keep at most {self._limits.detached_max_bytes} bytes (detached_max_bytes)"
        )
        details = {"limit": self._limits.detached_max_bytes, "first_part": kept.first}
        return Problem("CALL_GONE", text, "maybe", details)

    @staticmethod
    def beyond(kept: Kept, wanted: int) -> Problem:
        """The answer to one who asks for a part that cannot be."""
        text = f"offset is {wanted}: call {kept.id.hex()} has {kept.next} parts, so give 0 to {kept.next}"
        return Problem("INVALID", text)

    # Serving

    def _serve(self, reader: Reader) -> None:
        """Tell it what it has room for, unless it waits for its turn; much of it later."""
        if reader not in self.unserved:
            self._tell(reader, policy.TOLD_AT_ONCE_BYTES)
            if self._has_news(reader):
                self._serve_later(reader)

    def _serve_in_turn(self, reader: Reader) -> None:
        """The same behind others who wait: where one client asks for much again and again."""
        if not self.unserved:
            self._serve(reader)
        elif self._has_news(reader):
            self._serve_later(reader)

    def _serve_later(self, reader: Reader) -> None:
        self.unserved[reader] = None
        if ("unserved", None) not in self._deadlines:
            self._go_on_later()

    def _has_news(self, reader: Reader) -> bool:
        """Whether there is something that it can be told now."""
        kept, final = reader.kept, reader.kept.final
        if self.reader(reader.client, reader.id) is not reader:
            return False
        if reader.credit is not None and reader.at < kept.next:
            return reader.credit > 0 and reader.client not in self._behind
        return isinstance(final, Failure) or (final is not None and not self._waits_for(reader, final))

    def _tell(self, reader: Reader, room: int) -> int:
        """Tell it its parts, and the end when there is nothing before that; what is left of `room`."""
        while room > 0 and self._has_news(reader):
            kept, final = reader.kept, reader.kept.final
            room -= policy.TOLD_PART_BYTES
            if reader.credit is not None and reader.at < kept.next:
                part = kept.parts.get(reader.at) or b""
                reader.credit -= 1
                self._send(reader.client, Part(reader.id, reader.at, part))
                reader.at += 1
                room -= len(part)
            elif isinstance(final, Failure):
                self._fail(reader, Problem(final.code, final.message, final.ran, final.details))  # type: ignore[arg-type]
            else:
                assert final is not None, "there were no news"
                room -= len(self._value_for(reader, final) or b"")
                self._conclude(reader, final)
        return room

    def _waits_for(self, reader: Reader, final: Result) -> bool:
        """It does not read, and what it is to be given is large: that is kept here for the time being."""
        size = len(self._value_for(reader, final) or b"")
        return reader.client in self._behind and size > policy.ALWAYS_SENT_BYTES

    def _value_for(self, reader: Reader, final: Result) -> Value | None:
        """What the end of the call says to this reader; None where that had to go."""
        kept = reader.kept
        if reader.credit is not None or len(final.value):
            return final.value
        return kept.parts.get(kept.next - 1) if kept.next else PACKED_NONE

    def _conclude(self, reader: Reader, final: Result) -> None:
        kept, value = reader.kept, self._value_for(reader, final)
        if reader.at > kept.next:
            self._fail(reader, self.beyond(kept, reader.at))
        elif value is None:
            self._fail(reader, self.dropped(kept, kept.next - 1))
        else:
            parts = 0 if reader.credit is None else final.parts
            self._quit(reader)
            self._send(reader.client, Result(reader.id, final.session, parts, final.timing, value))

    def _fail(self, reader: Reader, problem: Problem) -> None:
        self._quit(reader)
        details = dict(problem.details)
        session = reader.kept.session
        self._send(
            reader.client, Failure(reader.id, session, problem.code, problem.message, problem.ran, details)
        )

    def _quit(self, reader: Reader) -> None:
        reader.kept.readers.remove(reader)
        self.unserved.pop(reader, None)
        mine = self.readers[reader.client]
        del mine[reader.id]
        if not mine:
            del self.readers[reader.client]

    # Room

    def _count(self, kept: Kept, more: int) -> None:
        kept.bytes += more
        self.bytes += more

    def _make_room(self, latest: Kept) -> None:
        """Drop what is oldest until the rest fits; of the call that is served now, only parts if possible."""
        while self.bytes > self._limits.detached_max_bytes:
            oldest = next(iter(self.ended.values()), latest)
            if oldest is not latest:
                self._forget(oldest, "room")
                continue
            most = max(self.calls.values(), key=lambda kept: len(kept.parts) and kept.bytes)
            if most.parts:
                self._drop_oldest_parts(most)
            else:
                self._forget(latest, "size" if latest.bytes > self._limits.detached_max_bytes else "room")

    def _drop_oldest_parts(self, kept: Kept) -> None:
        """As many as have to go, or all."""
        self._count(kept, -kept.parts.drop(self.bytes - self._limits.detached_max_bytes))
        for reader in tuple(kept.readers):
            if reader.credit is not None and reader.at < kept.first:
                self._fail(reader, self.dropped(kept, reader.at))

    def _forget(self, kept: Kept, why: Literal["time", "room", "size"]) -> None:
        self._deadlines.drop(("kept", kept.id))
        self.graves[kept.id] = Grave(kept.code, kept.ended, why)
        if len(self.graves) > policy.REMEMBERED_CALLS:
            self.graves.popitem(last=False)
        self._remove(kept)
        for reader in tuple(kept.readers):
            self._fail(reader, self.missing(kept.id, kept.ended))

    def _remove(self, kept: Kept) -> None:
        del self.calls[kept.id]
        del self.ended[kept.id]
        self.bytes -= kept.bytes
