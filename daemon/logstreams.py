"""The `logs` requests under way: each is a stream of its log's chunks, as far as its credit reaches.

What a client does not read stays in the file (`pause`), so the streams cost no memory; how many
there may be is bounded, for each client and in all.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Literal

from warmd.daemon.logreaders import Follower
from warmd.daemon.services import Services
from warmd.daemon.verbs import Refusal, invalid
from warmd.protocol import messages, values
from warmd.protocol.errors import Problem
from warmd.protocol.messages import CallId, ClientId, Request, SessionId

log = logging.getLogger("warmd.logs")

MAX_STREAMS = 1024
MAX_STREAMS_OF_CLIENT = 256


class _LogStream:
    """One request: chunks go out as parts, then the end.  `forget` is called at the end."""

    follower: Follower

    def __init__(
        self, services: Services, client: ClientId, id: CallId, forget: Callable[[], object]
    ) -> None:
        self._services = services
        self._client = client
        self._id = id
        self._forget = forget
        self._parts = 0

    def deliver(self, chunk: bytes) -> None:
        self._services.send(self._client, messages.Part(self._id, self._parts, values.pack(chunk)))
        self._parts += 1

    def done(self, error: OSError | None) -> None:
        self._forget()
        if error is None:
            self._services.send(self._client, messages.Result(self._id, None, self._parts))
        else:
            text = f"the log cannot be read any further: {error}"
            self._services.send(self._client, messages.Failure(self._id, None, "INTERNAL", text, "maybe"))


class LogStreams:
    """All of them; used by the loop's thread alone."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._streams: dict[ClientId, dict[CallId, _LogStream]] = {}
        self._behind: set[ClientId] = set()
        """Clients that do not read what they are sent."""

    def open(
        self, client: ClientId, request: Request, session: SessionId, tail: int | None, follow: bool
    ) -> None:
        """Raises Refusal."""
        window = self._window(request)
        mine = self._streams.get(client, {})
        if request.id in mine:
            raise invalid("the id is in use by another request for logs: choose 16 random bytes")
        self._check_room(len(mine))
        stream = _LogStream(self._services, client, request.id, lambda: self._forget(client, request.id))
        stream.follower = self._follower(stream, session, tail, follow)
        self._streams.setdefault(client, {})[request.id] = stream
        stream.follower.pause(client in self._behind)
        stream.follower.add_credit(window)

    def owns(self, client: ClientId, id: CallId) -> bool:
        """Whether this is a stream of logs, so that credits and cancels for it belong here."""
        return id in self._streams.get(client, ())

    def credit(self, client: ClientId, id: CallId, parts: int) -> None:
        if self.owns(client, id) and parts > 0:
            self._streams[client][id].follower.add_credit(parts)

    def cancel(self, client: ClientId, id: CallId, how: Literal["cancel", "abandon", "finish"]) -> None:
        """At once; with `finish` what is written by now is told yet."""
        if not self.owns(client, id):
            return
        follower = self._streams[client][id].follower
        try:
            if how == "finish":
                follower.finish()
                return
        except OSError as error:
            log.warning("a log cannot be looked at: %s", error)
        follower.close()
        self._forget(client, id)
        self._services.send(
            client, messages.Failure(id, None, "CANCELLED", "the request was cancelled", "no")
        )

    def client_gone(self, client: ClientId) -> None:
        self._behind.discard(client)
        for stream in self._streams.pop(client, {}).values():
            stream.follower.close()

    def pause(self, client: ClientId, paused: bool) -> None:
        """The client is behind in its reading, or has caught up: its logs wait."""
        if paused:
            self._behind.add(client)
        else:
            self._behind.discard(client)
        for stream in self._streams.get(client, {}).values():
            stream.follower.pause(paused)

    def _window(self, request: Request) -> int:
        limit = self._services.settings.max_stream_window
        if request.window is None:
            raise invalid("logs is a stream: give the request a window, the number of parts to be sent now")
        if not 0 <= request.window <= limit:
            text = f"window is {request.window}: give 0 to {limit} parts (max_stream_window)"
            raise invalid(text)
        return request.window

    def _check_room(self, mine: int) -> None:
        if mine >= MAX_STREAMS_OF_CLIENT:
            text = f"this client has {mine} streams of logs, the limit is {MAX_STREAMS_OF_CLIENT}"
            raise _no_room(f"{text}: read one to its end, or close it", MAX_STREAMS_OF_CLIENT)
        if sum(map(len, self._streams.values())) >= MAX_STREAMS:
            text = f"all clients together have {MAX_STREAMS} streams of logs, which is the limit"
            raise _no_room(f"{text}: ask again when some have ended", MAX_STREAMS)

    def _follower(self, stream: _LogStream, session: SessionId, tail: int | None, follow: bool) -> Follower:
        try:
            return self._services.logs.follow(session, tail, follow, stream.deliver, stream.done)
        except (FileNotFoundError, ValueError):
            raise self._no_log(session) from None
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            text = f"the log cannot be opened now: {error.strerror}"
            text += "; close other streams of logs, end sessions, or give the daemon more (`ulimit -n`)"
            raise Refusal(Problem("QUEUE_FULL", text), session) from None

    def _no_log(self, session: SessionId) -> Refusal:
        if self._services.broker.view(session) is None:
            return Refusal(self._services.broker.missing_session(session), session)
        keep = self._services.settings.log_keep
        text = f"the log of session {session} is no longer kept: log_keep is {keep} ended sessions"
        return Refusal(Problem("SESSION_NOT_FOUND", text), session)

    def _forget(self, client: ClientId, id: CallId) -> None:
        mine = self._streams[client]
        del mine[id]
        if not mine:
            del self._streams[client]


def _no_room(text: str, limit: int) -> Refusal:
    return Refusal(Problem("QUEUE_FULL", text, details={"limit": limit}))
