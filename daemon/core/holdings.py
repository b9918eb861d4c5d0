"""How many bytes of calls the rule book holds, and for whom.

Held are the bodies that nobody has taken yet: the input of a call until it is in its worker's
socket or answered, and `setup` and a pickled class for as long as a start may need them.  What a
worker's socket has not taken yet is bounded by itself: one call, and `dispatch_ahead` small ones.
"""

from __future__ import annotations

from warmd.daemon.core.policy import Limits
from warmd.protocol.errors import Problem
from warmd.protocol.messages import ClientId
from warmd.protocol.parcels import Value


class Holdings:
    """The counts.  What is charged to a client stays charged when it leaves, until it is given back."""

    def __init__(self) -> None:
        self.total = 0
        self.of: dict[ClientId, int] = {}

    def add(self, client: ClientId, count: int) -> None:
        if count:
            self.total += count
            self.of[client] = self.of.get(client, 0) + count

    def drop(self, client: ClientId, count: int) -> None:
        if not count:
            return
        self.total -= count
        rest = self.of[client] - count
        if rest:
            self.of[client] = rest
        else:
            del self.of[client]

    def refusal(self, limits: Limits, client: ClientId, count: int) -> Problem | None:
        """Why `count` more bytes of this client cannot be held, or None when they can."""
        mine = self.of.get(client, 0)
        if mine + count > limits.max_client_queued_bytes:
            held, limit = mine, limits.max_client_queued_bytes
            known = f"{mine} bytes of this client (max_client_queued_bytes: {limit})"
        elif self.total + count > limits.max_queued_bytes:
            held, limit = self.total, limits.max_queued_bytes
            known = f"{held} bytes (max_queued_bytes: {limit})"
        else:
            return None
        text = (
            f"the call has {count} bytes, and calls that wait have {known} already: "
            "wait for answers before sending more, or send paths instead of data"
        )
        return Problem("QUEUE_FULL", text, details={"limit": limit, "bytes": held + count})


def size_of(*bodies: Value) -> int:
    return sum(map(len, bodies))
