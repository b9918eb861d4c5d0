"""How much of what each client was sent it has not read, so that it can be bounded.

libzmq queues for a client without a bound, and tells nobody how much.  Two things tell:

* After each MiB goes a `Ping`.  Its `Pong` says that all before it was received.
* A large body is lent to libzmq, which gives it back when the last of it is in the kernel.  So it
  is known to be out of the daemon, though the client's program may not have come to it: one that
  submits much and collects late is no slow reader, only one that is stopped or never receives is.
  Where much is unacknowledged, all but the smallest bodies are lent.

A client that is behind and goes on asking for more without reading is cut off: else the refusals
alone would gather without a bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from warmd.daemon.loop import Loop, Timer
from warmd.protocol.messages import ClientId, FromDaemon, Ping

PING_EVERY_BYTES = 1 << 20
LENT_BYTES = 1 << 20
"""From here on a body is lent to libzmq: copying 256 MiB would also hold the loop."""
LENT_SOON_BYTES = 4096
"""The same for a client that has acknowledged little of late."""
MESSAGE_BYTES = 128
"""What libzmq needs for a message besides its bytes."""
LOOK_AGAIN_SECONDS = 0.02
"""While somebody is behind, or waits for his memory: nothing wakes the loop when libzmq gives a body back."""


class Tracker(Protocol):
    @property
    def done(self) -> bool: ...


class Reading:
    """One client's: what it was sent, and how far it is known to have read."""

    __slots__ = (
        "_bodies", "_limit", "_pinged", "_pings", "_read", "behind", "copied", "lend_from", "look_at", "sent",
        "sent_before",
    )  # fmt: skip

    def __init__(self, limit_bytes: int) -> None:
        self.sent = 0
        """Bytes, in all."""
        self.copied = 0
        """Those of them that are not in bodies lent."""
        self.look_at = min(PING_EVERY_BYTES, limit_bytes)
        """When so much is sent, `Readers.look` is to be called."""
        self.lend_from = LENT_BYTES
        self.behind = False
        self.sent_before = 0
        """What was sent when it fell behind."""
        self._limit = limit_bytes
        self._read = 0
        self._pinged = 0
        self._pings: deque[tuple[int, int]] = deque()
        self._bodies: deque[tuple[int, Tracker, object]] = deque()

    def lent(self, size: int, tracker: Tracker, owner: object = None) -> None:
        """`owner` is kept until the body is in the kernel."""
        self._bodies.append((size, tracker, owner))

    @property
    def borrows(self) -> bool:
        """Whether there is a body whose owner waits for its end."""
        return any(owner is not None for _, _, owner in self._bodies)

    def unread(self) -> int:
        """Bytes that may lie in this process."""
        bodies = self._bodies
        while bodies and bodies[0][1].done:
            bodies.popleft()
        return self.copied - self._read + sum(size for size, tracker, _ in bodies if not tracker.done)

    def next_ping(self) -> Ping | None:
        """To be sent now, if enough was sent since the last one."""
        if self.sent - self._pinged < PING_EVERY_BYTES:
            return None
        self._pinged = self.sent
        number = self._pings[-1][0] + 1 if self._pings else self.sent
        self._pings.append((number, self.copied))
        return Ping(number)

    def acknowledged(self, number: int) -> None:
        """All before that ping was received; one that was never sent says nothing."""
        if any(number == sent for sent, _ in self._pings):
            while self._pings[0][0] != number:
                self._pings.popleft()
            self._read = self._pings.popleft()[1]
        self._set_marks()

    def looked(self, unread: int) -> None:
        self.look_at = self.sent + max(1, min(PING_EVERY_BYTES, self._limit - unread))
        self._set_marks()

    def _set_marks(self) -> None:
        much = self.copied - self._read > self._limit // 4
        self.lend_from = LENT_SOON_BYTES if much else LENT_BYTES


class Readers:
    """Tells who is behind (`behind(client, unread bytes)`), who has caught up, and who is hopeless."""

    def __init__(
        self,
        loop: Loop,
        limit_bytes: int,
        send: Callable[[ClientId, FromDaemon], None],
        behind: Callable[[ClientId, int], object],
        caught_up: Callable[[ClientId], object],
        hopeless: Callable[[ClientId], object],
    ) -> None:
        self._loop = loop
        self._limit = limit_bytes
        self._send = send
        self._tell_behind = behind
        self._tell_caught_up = caught_up
        self._tell_hopeless = hopeless
        self._behind: dict[ClientId, Reading] = {}
        self._borrowing: set[Reading] = set()
        self._timer: Timer | None = None

    def new(self) -> Reading:
        return Reading(self._limit)

    def look(self, client: ClientId, reading: Reading) -> None:
        """After a send beyond `look_at`: ping it, and see whether it is behind."""
        unread = reading.unread()
        reading.looked(unread)
        ping = reading.next_ping()
        if ping is not None:
            self._send(client, ping)
        if reading.behind:
            if reading.sent - reading.sent_before > self._limit:
                self._tell_hopeless(client)
        elif unread > self._limit:
            reading.behind = True
            reading.sent_before = reading.sent
            self._behind[client] = reading
            self._tell_behind(client, unread)
            self._look_later()

    def acknowledged(self, client: ClientId, reading: Reading, number: int) -> None:
        """A pong has come."""
        reading.acknowledged(number)
        if reading.behind:
            self._look_at_one(client, reading)

    def borrows(self, reading: Reading) -> None:
        """A body was lent that has an owner: let go of that soon after it is in the kernel."""
        self._borrowing.add(reading)
        self._look_later()

    def forget(self, client: ClientId) -> None:
        self._behind.pop(client, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_in(LOOK_AGAIN_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        for client, reading in list(self._behind.items()):
            self._look_at_one(client, reading)
        for reading in list(self._borrowing):
            reading.unread()
            if not reading.borrows:
                self._borrowing.discard(reading)
        if self._behind or self._borrowing:
            self._look_later()

    def _look_at_one(self, client: ClientId, reading: Reading) -> None:
        unread = reading.unread()
        if unread <= self._limit // 2:
            reading.behind = False
            self._behind.pop(client, None)
            reading.looked(unread)
            self._tell_caught_up(client)
