"""The client's half of a conversation, with the daemon's end in the test's hand."""

from __future__ import annotations

import itertools
import os
from typing import Any

from warmd.protocol.exchange import Exchange
from warmd.protocol.messages import (
    PROTOCOL,
    Call,
    CallId,
    FromDaemon,
    Hello,
    Lent,
    SessionId,
    Welcome,
)
from warmd.protocol.pending import Pending
from warmd.protocol.wire import FROM_CLIENT, FROM_DAEMON

SESSION = SessionId("sess_" + "0" * 32)
LIMIT = 1000


class Carrier:
    """Lends without a descriptor."""

    def __init__(self) -> None:
        self.back: list[int] = []
        self.left: list[int] = []
        self.borrowed: dict[int, Any] = {}
        self._numbers = itertools.count(1)

    def lend(self, region: Any) -> Lent:
        return Lent(next(self._numbers), len(region))

    def settled(self) -> None: ...

    def borrow(self, lent: Lent) -> Any:
        return self.borrowed.setdefault(lent.number, memoryview(bytes(lent.size)))

    def handed_back(self, numbers: list[int], left: list[int]) -> None:
        self.back += numbers
        self.left += left


class Wire:
    """An exchange with the daemon's end in the test's hand."""

    def __init__(self, welcomed: bool = True) -> None:
        self.exchange = Exchange(Hello(PROTOCOL, "1.2.3", 1, "test"))
        if welcomed:
            self.say(Welcome(PROTOCOL, "1.2.3", "boot", 1, LIMIT))
            self.sent()

    def say(self, message: FromDaemon, now: float = 0.0) -> None:
        self.exchange.received(FROM_DAEMON.pack(message), now)

    def sent(self) -> list[Any]:
        """What the exchange has to say since the last time."""
        said = []
        while self.exchange.outbox:
            pending, frames = self.exchange.outbox.popleft()
            if pending is not None:
                pending.sent = True
            said.append(FROM_CLIENT.unpack(frames))
        return said

    def call(self, patience: float | None = None, **fields: Any) -> Pending:
        pending = self.exchange.begin(call(**fields), 0.0, patience)
        self.sent()
        return pending

    def stream(self, window: int = 4, **fields: Any) -> Pending:
        return self.call(window=window, **fields)


def call(**fields: Any) -> Call:
    chosen = {"id": CallId(os.urandom(16)), "session": SESSION, "app": None, "function": "run", **fields}
    return Call(**chosen)


def numbers(wire: Wire, pending: Pending) -> list[int]:
    taken = []
    while (part := wire.exchange.take(pending)) is not None:
        taken.append(part.number)
    return taken
