"""A call or request that is under way in an `Exchange`, and who carries its large data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from warmd.protocol.errors import Problem
from warmd.protocol.messages import Attach, Call, CallId, Lent, Part, Request, Result
from warmd.protocol.parcels import Mapped, Region


class Carrier(Protocol):
    """Takes large data past the connection, where there is a way; set by the owner of the socket."""

    def lend(self, region: Region) -> Lent | None:
        """None when it has to go along with its message."""

    def settled(self) -> None:
        """The message that names what was lent last is made."""

    def borrow(self, lent: Lent) -> Mapped:
        """Raises WireError when it is not there.  The same again until the message is taken for good."""

    def handed_back(self, numbers: list[int], left: list[int]) -> None: ...


@dataclass(slots=True, eq=False)
class Pending:
    """A call or request that is under way, and what has come of it so far."""

    message: Call | Request | Attach
    begun: float
    due: float | None
    sent: bool = False
    lent: Lent | None = None
    """Where its input is, if that was lent."""
    accepted: bool = False
    session: str | None = None
    parts: deque[Part] = field(default_factory=deque)
    """Received and not yet taken."""
    next_number: int = 0
    """The number of the first part that was not taken."""
    unreturned: int = 0
    """Parts taken for which the daemon has not got its credit back."""
    unreturned_bytes: int = 0
    result: Result | None = None
    problem: Problem | None = None
    ended: float = 0.0
    watchers: list[Callable[[], None]] = field(default_factory=list)
    """Called at each change: a part, the acceptance, the end.  Must not raise."""

    @property
    def id(self) -> CallId:
        return self.message.id

    @property
    def call(self) -> CallId:
        """The call that this conversation is about."""
        return self.message.call if isinstance(self.message, Attach) else self.message.id

    @property
    def done(self) -> bool:
        """No more will come; parts may still be waiting to be taken."""
        return self.result is not None or self.problem is not None

    @property
    def unsent(self) -> bool:
        """The connection was found to be gone before the call was sent: another may take it."""
        return self.problem is not None and self.problem.code == "DAEMON_LOST" and not self.sent

    @property
    def expected(self) -> int:
        """The number of the next part to be received."""
        return self.parts[-1].number + 1 if self.parts else self.next_number

    def changed(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()
