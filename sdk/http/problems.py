"""What went wrong, as HTTP says it: a status, and a body of RFC 9457 that old clients can read too.

Clients look at the texts: what concerns a session that is gone says `session not found` in lower
case, and an app's own error never says "session" of ours (docs/http.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from warmd.protocol.errors import AppError, NoSession, WarmdError

STATUS = {
    "INVALID": 400,
    "UNAUTHORIZED": 401,
    "NOT_ALLOWED": 403,
    "NOT_FOUND": 404,
    "CALL_GONE": 404,
    "APP_NOT_FOUND": 404,
    "FUNCTION_NOT_FOUND": 404,
    "SESSION_NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "BODY_STALLED": 408,
    "HEAD_STALLED": 408,
    "APP_MISMATCH": 409,
    "SESSION_EXPIRED": 410,
    "SESSION_ENDED": 410,
    "SESSION_DIED": 410,
    "TOO_LARGE": 413,
    "BAD_RANGE": 416,
    "QUEUE_FULL": 429,
    "RATE_LIMITED": 429,
    "HEAD_TOO_LARGE": 431,
    "TOO_MANY_CONNECTIONS": 503,
    "NO_ROOM": 503,
    "DRAINING": 503,
    "SLOW_CONSUMER": 503,
    "DAEMON_UNAVAILABLE": 503,
    "DAEMON_LOST": 503,
    "FILES_BUSY": 503,
    "FILES_FULL": 507,
}
"""All others are 500.  Never 412: the clients take it for a list of requirements."""
RETRY_SECONDS = {
    "QUEUE_FULL": 1,
    "NO_ROOM": 5,
    "DRAINING": 5,
    "SLOW_CONSUMER": 1,
    "TOO_MANY_CONNECTIONS": 1,
    "DAEMON_UNAVAILABLE": 2,
    "DAEMON_LOST": 2,
    "FILES_BUSY": 5,
}

HOLDERS = ": GPU "
"""What follows it in a NO_ROOM names sessions and apps of others."""
LIVES_ON = ("QUEUE_FULL", "TIMEOUT", "CANCELLED")
"""Errors of calls whose session is well: who reads "session" gives it up, and opens another."""


class HttpProblem(Exception):
    """An answer other than the one that was asked for."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retry_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_seconds = RETRY_SECONDS.get(code) if retry_seconds is None else retry_seconds
        self.headers = headers or {}
        self.more = more

    @property
    def status(self) -> int:
        return STATUS.get(self.code, 500)

    @classmethod
    def of(cls, error: WarmdError) -> HttpProblem:
        """What the daemon, or the client library, refused."""
        more: dict[str, Any] = {"ran": error.ran, "session_id": error.session, "outcome": error.outcome}
        if "reason" in error.details:
            more["reason"] = error.details["reason"]
        return cls(error.code or "INTERNAL", text_of(error), **more)

    def response(self) -> Response:
        """The answer: `type` ends with the code, `error` is for clients of old."""
        title = HTTPStatus(self.status).phrase
        body = {
            "type": f"/errors/{self.code}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **{name: value for name, value in self.more.items() if value is not None},
            "success": False,
            "error": {"code": self.code, "message": self.detail},
        }
        headers = {**self.headers}
        if self.retry_seconds is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_seconds)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(orjson.dumps(body), self.status, headers, media_type="application/problem+json")


def text_of(error: WarmdError, of_pool: bool = False) -> str:
    """The error's text as these clients look for it.

    What a worker of the shared pool printed may be about another key's run, and is left out; so is who
    has the GPU memory that there is no room in.
    """
    if isinstance(error, NoSession):
        return f"session not found: {error.message}"
    if isinstance(error, AppError):
        return error.message
    if error.code == "WORKER_DIED":
        tail = f"; its last output was:\n{error.details.get('log_tail')}" if of_pool else ""
        return f"the session's worker died: {error.message.removesuffix(tail)}"
    if error.code == "NO_ROOM":
        return error.message.partition(HOLDERS)[0]
    if error.code in LIVES_ON:
        return re.sub(r"\bsession(s?)\b", r"worker\1", error.message)
    return error.message
