"""Who hears of the progress of calls: conversations of their own, each with credit of its own.

A reader is told the latest value whenever it has room for one.  So a slow reader misses values, and the app
never waits for it.  The conversation ends well when the call ends, however that does.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from warmd.daemon.core import policy
from warmd.daemon.core.policy import Limits
from warmd.daemon.core.session import Job
from warmd.protocol.errors import Problem
from warmd.protocol.messages import CallId, ClientId, Failure, FromDaemon, Part, Result, SessionId


@dataclass(slots=True, eq=False)
class Watcher:
    client: ClientId
    id: CallId
    job: Job
    credit: int
    fresh: bool
    """There is a value that it has not been told."""
    told: int = 0


class Watchers:
    """All of them.  `behind`: clients that do not read what they are sent."""

    def __init__(
        self,
        limits: Limits,
        behind: Container[ClientId],
        send: Callable[[ClientId, FromDaemon], None],
    ) -> None:
        self.of_client: dict[ClientId, dict[CallId, Watcher]] = {}
        self.of_job: dict[CallId, list[Watcher]] = {}
        self._limits = limits
        self._behind = behind
        self._send = send

    def begin(self, client: ClientId, id: CallId, job: Job, window: int | None) -> Problem | None:
        """A client wants to hear of a call; why it cannot."""
        problem = self._objection(client, job, window)
        if problem is None:
            assert window is not None
            watcher = Watcher(client, id, job, window, bool(len(job.progress)))
            self.of_client.setdefault(client, {})[id] = watcher
            self.of_job.setdefault(job.id, []).append(watcher)
            self._tell(watcher)
        return problem

    def owns(self, client: ClientId, id: CallId) -> bool:
        return id in self.of_client.get(client, ())

    def news(self, job: Job) -> None:
        """The call has told how far it is."""
        for watcher in self.of_job.get(job.id, ()):
            watcher.fresh = True
            self._tell(watcher)

    def credit(self, client: ClientId, id: CallId, parts: int) -> None:
        watcher = self.of_client[client][id]
        watcher.credit = min(watcher.credit + parts, self._limits.max_stream_window)
        self._tell(watcher)

    def serve(self, client: ClientId) -> None:
        """The client takes more again."""
        for watcher in self.of_client.get(client, {}).values():
            self._tell(watcher)

    def leave(self, client: ClientId, id: CallId) -> None:
        """This reader, if it is one, wants to hear no more; the call goes on."""
        if self.owns(client, id):
            watcher = self.of_client[client][id]
            self._forget(watcher)
            text = "this reader has left; the call goes on"
            self._send(client, Failure(id, None, "CANCELLED", text, "no"))

    def client_gone(self, client: ClientId) -> None:
        for watcher in tuple(self.of_client.get(client, {}).values()):
            self._forget(watcher)

    def over(self, job: Job, session: SessionId | None) -> None:
        """The call has ended."""
        for watcher in tuple(self.of_job.get(job.id, ())):
            self._forget(watcher)
            self._send(watcher.client, Result(watcher.id, session, watcher.told))

    def _objection(self, client: ClientId, job: Job, window: int | None) -> Problem | None:
        limit = self._limits.max_stream_window
        if window is None or not 0 <= window <= limit:
            text = f"window is {window}: give the number of values to be told now, 0 to {limit}"
            return Problem("INVALID", f"{text} (max_stream_window)")
        if len(self.of_job.get(job.id, ())) >= policy.MAX_READERS:
            text = f"{policy.MAX_READERS} readers watch call {job.id.hex()} already: close one of them"
            return Problem("QUEUE_FULL", text, details={"limit": policy.MAX_READERS})
        if len(self.of_client.get(client, ())) >= policy.MAX_WATCHED:
            text = f"this client watches {policy.MAX_WATCHED} calls, which is the limit: close one of them"
            return Problem("QUEUE_FULL", text, details={"limit": policy.MAX_WATCHED})
        return None

    def _tell(self, watcher: Watcher) -> None:
        if watcher.fresh and watcher.credit and watcher.client not in self._behind:
            self._send(watcher.client, Part(watcher.id, watcher.told, watcher.job.progress))
            watcher.fresh = False
            watcher.credit -= 1
            watcher.told += 1

    def _forget(self, watcher: Watcher) -> None:
        others = self.of_job[watcher.job.id]
        others.remove(watcher)
        if not others:
            del self.of_job[watcher.job.id]
        mine = self.of_client[watcher.client]
        del mine[watcher.id]
        if not mine:
            del self.of_client[watcher.client]
