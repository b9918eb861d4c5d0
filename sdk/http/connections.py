"""One connection: what uvicorn leaves open to whoever has no key yet.

The head of a request (its line and headers) has a size and a time; so has a connection that asks nothing.
And there are only so many connections as leave descriptors for what the gateway itself opens: where there
would be more, that one goes on which nothing was asked for longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from warmd.http.problems import HttpProblem

MOST_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
"""From the connection, or the head's first bytes, to its last."""


def most_connections() -> int:
    """The other half is for the files that these read and write, and for the daemon."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2


def want_descriptors() -> None:
    """Have as many as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's, with limits."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._is_in_head = self._is_all_head = True
        self._head_bytes = 0
        self._idle_since = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing is being asked."""
        return self._is_in_head and (self.cycle is None or self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()
        if len(self.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # What holds other things too may end with a head's beginning: that is not counted.
        self._is_all_head = self._is_in_head
        super().data_received(data)
        if not self._is_all_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(
                HttpProblem(
                    "HEAD_TOO_LARGE",
                    f"the request's line and headers have {self._head_bytes} bytes or more, the limit is "
                    f"{MOST_HEAD_BYTES}: send less in them, and more in the body",
                )
            )
        elif self._deadline is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        self._is_in_head = self._is_all_head = False
        self._head_bytes = 0
        self._head_is_here()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def on_message_complete(self) -> None:
        self._is_in_head = True
        super().on_message_complete()

    def _wait_for_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._is_late)

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_late(self) -> None:
        if self._head_bytes:
            self._refuse(
                HttpProblem(
                    "HEAD_STALLED",
                    f"the request's line and headers have not come within {HEAD_SECONDS:g} s: send it again",
                )
            )
        else:
            self.transport.close()

    def _make_room(self) -> None:
        others = [other for other in self.connections if isinstance(other, Connection) and other._may_go]
        others.remove(self)
        if others:
            min(others, key=lambda other: other._idle_since).transport.close()
            return
        self._refuse(
            HttpProblem(
                "TOO_MANY_CONNECTIONS",
                f"{most_connections()} connections are open, which is half of the gateway's descriptors "
                "(ulimit -n): close some, or ask again later",
            )
        )

    @property
    def _may_go(self) -> bool:
        return self.is_idle and not self.transport.is_closing()

    def _refuse(self, problem: HttpProblem) -> None:
        """Answer, though there is no whole request, and close."""
        answer = problem.response()
        head = f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}\r\n"
        headers = [*answer.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(b"%b%b\r\n%b" % (head.encode(), lines, bytes(answer.body)))
        self.transport.close()
