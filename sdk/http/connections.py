"""One connection: what uvicorn leaves open to whoever has no key yet.

What comes and is no body (the line and headers of a request, what stands behind its last chunk) has a size;
and while nothing is being answered there is a time in which a whole head must come.  Neither cuts short an
answer that is under way.

There are only so many connections as leave descriptors for what the gateway itself opens: where there would
be more, one goes on which nothing is being answered, or whose answer nobody has read for long.
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
"""From the connection, or the first bytes behind an answer, to the end of the next head."""
UNREAD_SECONDS = 60.0
"""An answer of which nothing was read for so long makes room for others."""


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
        self._bare_bytes = 0
        """What has come since the last byte of a body, or the end of a head."""
        self._is_in_head = self._is_in_body = False
        self._idle_since = self.loop.time()
        self._unread_since: float | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_a_head()
        if len(self.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_none()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._bare_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._bare_bytes > MOST_HEAD_BYTES:
            self._is_too_much()
        elif self._deadline is None and not self._is_answering:
            self._expect_a_head()

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._bare_bytes, self._is_in_head, self._is_in_body = 0, False, True
        self._expect_none()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bare_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._bare_bytes, self._is_in_body = 0, False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()
        if self.transport.is_closing() or self._is_answering:
            return
        if self._bare_bytes > MOST_HEAD_BYTES:
            self._is_too_much()
        elif self._is_in_head or self._is_in_body:
            self._expect_a_head()

    def pause_writing(self) -> None:
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._unread_since = None
        super().resume_writing()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _gives_way_since(self) -> float | None:
        """None for one that is not to make room for others."""
        if self.transport.is_closing():
            return None
        if not self._is_answering:
            return self._idle_since
        unread = self._unread_since
        return unread if unread is not None and unread + UNREAD_SECONDS <= self.loop.time() else None

    def _expect_a_head(self) -> None:
        self._expect_none()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._is_late)

    def _expect_none(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_late(self) -> None:
        if not self._is_in_head:
            self.transport.close()
            return
        self._refuse(
            HttpProblem(
                "HEAD_STALLED",
                f"the request's line and headers have not come within {HEAD_SECONDS:g} s: send it again",
            )
        )

    def _is_too_much(self) -> None:
        if self._is_in_body:  # behind its last chunk
            self.transport.close()
        elif self._is_answering:
            self.flow.pause_reading()  # until that answer is complete
        else:
            self._refuse(
                HttpProblem(
                    "HEAD_TOO_LARGE",
                    f"the request's line and headers have {self._bare_bytes} bytes or more, the limit is "
                    f"{MOST_HEAD_BYTES}: send less in them, and more in the body",
                )
            )

    def _make_room(self) -> None:
        waiting = {
            other: since
            for other in self.connections
            if isinstance(other, Connection)
            and other is not self
            and (since := other._gives_way_since) is not None
        }
        if waiting:
            min(waiting, key=lambda other: waiting[other]).transport.abort()
            return
        self._refuse(
            HttpProblem(
                "TOO_MANY_CONNECTIONS",
                f"{most_connections()} connections are open, which is half of the gateway's descriptors "
                "(ulimit -n): close some, or ask again later",
            )
        )

    def _refuse(self, problem: HttpProblem) -> None:
        """Answer, though there is no whole request, and close."""
        answer = problem.response()
        head = f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}\r\n"
        headers = [*answer.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(b"%b%b\r\n%b" % (head.encode(), lines, bytes(answer.body)))
        self.transport.close()
