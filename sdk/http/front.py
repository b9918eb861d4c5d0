"""What each request passes first, whatever it asks for.

1. it gets an id (its own `X-Request-Id`, if that is a sound one), which goes into logs and calls
2. where browsers of the allowed origins ask whether they may, they are told
3. `/v1` before the path means nothing
4. it has a key, unless its path carries its own secret, or is nobody's; on an open gateway it has
   none, and must not come from a stranger's page
5. its key has not asked too often, and its body is not too large and does come
6. whatever goes wrong from here on is answered as a problem
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from warmd.http import origins
from warmd.http.bodies import Arrival
from warmd.http.keys import Caller
from warmd.http.limits import Rates
from warmd.http.logs import FACTS
from warmd.http.metrics import Metrics
from warmd.http.options import Options
from warmd.http.problems import HttpProblem
from warmd.protocol.errors import WarmdError, quoted
from warmd.protocol.names import is_request_id

OPEN_PATHS = ("/healthz", "/readyz", "/openapi.json", "/content/", "/api/inference/proxy", "/page/")
"""Those that are nobody's, or see to it themselves."""
_SECRET = re.compile(r"^(/content/[^/]+)/.*")
log = logging.getLogger("warmd.http")


class Front:
    """An ASGI application around another; `caller_of(token)` knows the keys."""

    def __init__(
        self,
        app: ASGIApp,
        options: Options,
        caller_of: Callable[[str | None], Caller],
        metrics: Metrics,
    ) -> None:
        self.app = app
        self._options = options
        self._caller_of = caller_of
        self._metrics = metrics
        self._rates = Rates(options.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, receive, send)
        began = time.perf_counter()
        try:
            await exchange.run()
        finally:
            self._metrics.request(scope, exchange.status, time.perf_counter() - began)
            exchange.log(time.perf_counter() - began)

    async def admit(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Raises HttpProblem for who may not come in."""
        path = scope["path"]
        if not self._is_for_all(path):
            if self._options.open:
                origins.check(self._options, headers)
            self.admit_as(scope, self._caller_of(_token(headers)))
        _check_protocol(headers)
        size = _declared_bytes(headers)
        if size > self.most_bytes(path):
            raise too_large(size, self.most_bytes(path), path)

    def _is_for_all(self, path: str) -> bool:
        is_metrics = path == "/metrics" and self._options.open_metrics
        return path == "/" or path.startswith(OPEN_PATHS) or is_metrics

    def admit_as(self, scope: Scope, caller: Caller) -> None:
        """Raises HttpProblem for who asks too often."""
        scope["caller"] = caller
        self._rates.check(caller)

    def most_bytes(self, path: str) -> int:
        return self._options.max_file_bytes if path.startswith("/content/") else self._options.max_body_bytes

    def cors(self, headers: Mapping[str, str]) -> dict[str, str]:
        """What a browser is told; nothing unless its page's origin is allowed."""
        if not self._options.cors_origins:
            return {}
        origin = headers.get("origin")
        if origin is None or not origins.listed(self._options, origin):
            return {"Vary": "Origin"}
        told = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "X-Request-Id, Retry-After",
            "Vary": "Origin",
        }
        if origin in self._options.cors_origins:
            # The clients' proxy mode asks for it.  There are no cookies here that it could mean.
            told["Access-Control-Allow-Credentials"] = "true"
        return told


class _Exchange:
    """One request and its answer."""

    def __init__(self, front: Front, scope: Scope, receive: Receive, send: Send) -> None:
        self.front = front
        self.scope = scope
        self.status = 0
        self._receive = receive
        self._send = send
        self._headers = by_name(scope["headers"])
        self._left = 0
        self._body_is_over = False
        self._arrival = Arrival()
        asked = self._headers.get("x-request-id", "")
        self.request_id = asked if is_request_id(asked) else os.urandom(8).hex()
        scope["request_id"] = self.request_id
        scope["app"] = front  # so that the router raises where it finds no route
        self._cors = front.cors(self._headers)

    async def run(self) -> None:
        unversioned(self.scope)
        try:
            if self.scope["method"] == "OPTIONS" and "Access-Control-Allow-Origin" in self._cors:
                await _preflight(self._headers)(self.scope, self._receive, self._answer)
                return
            await self.front.admit(self.scope, self._headers)
            self._left = self.front.most_bytes(self.scope["path"])
            await self.front.app(self.scope, self._bounded, self._answer)
        except ClientDisconnect:
            return  # in the midst of its body: there is nobody to be answered
        except Exception as error:
            if self.status:
                raise  # half an answer: the server cuts the connection
            await problem_of(error, self.scope).response()(self.scope, self._receive, self._answer)

    async def _bounded(self) -> Message:
        if self._body_is_over:
            return await self._receive()
        message = await self._arrival.next(self._receive)
        self._body_is_over = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self._left -= size
        if self._left < 0:
            most = self.front.most_bytes(self.scope["path"])
            raise too_large(most - self._left, most, self.scope["path"])
        return message

    async def _answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {"X-Request-Id": self.request_id, **self._cors}
            message["headers"] = [*message.get("headers", ()), *raw(own)]
        await self._send(message)

    def log(self, seconds: float) -> None:
        if log.isEnabledFor(logging.INFO):
            caller = self.scope.get("caller")
            facts = {
                "request_id": self.request_id,
                "method": self.scope["method"],
                "path": shown(self.scope["path"]),
                "status": self.status,
                "seconds": round(seconds, 6),
                "key": caller.name if caller else None,
                "task": self.scope.get("task"),
            }
            log.info("request", extra={FACTS: facts})


def by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """A request's headers; of several of one name the first counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed([*headers])}


def raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as a server takes them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def unversioned(scope: Scope) -> None:
    """Takes a `/v1` from the beginning of the path."""
    if scope["path"].startswith("/v1/"):
        scope["path"] = scope["path"][3:]
        scope["raw_path"] = scope["path"].encode()


def _preflight(headers: Mapping[str, str]) -> Response:
    """What a page of an allowed origin may send: all that it asks for, which says no more than a star
    and holds for requests with credentials too."""
    allowed = {
        "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers", "Authorization"),
        "Access-Control-Max-Age": "600",
    }
    return Response(status_code=204, headers=allowed)


def problem_of(error: Exception, scope: Scope) -> HttpProblem:
    """How an error of this request is answered; what nobody foresaw is logged."""
    if isinstance(error, HttpProblem):
        return error
    if isinstance(error, WarmdError):
        return HttpProblem.of(error)
    if isinstance(error, HTTPException):
        return _of_router(error, scope)
    log.exception("a request failed", extra={FACTS: {"request_id": scope["request_id"]}})
    name = type(error).__name__
    return HttpProblem("INTERNAL", f"the gateway failed on this request: {name}; its log says more")


def _of_router(error: HTTPException, scope: Scope) -> HttpProblem:
    path = quoted(scope["path"], 100)
    if error.status_code == 404:
        return HttpProblem("NOT_FOUND", f"there is nothing at {path}: GET /openapi.json tells what there is")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        text = f"{scope['method']} means nothing at {path}: it takes {allowed}"
        return HttpProblem("METHOD_NOT_ALLOWED", text, headers={"Allow": allowed})
    return HttpProblem("INVALID", str(error.detail))


def too_large(size: int, most: int, path: str) -> HttpProblem:
    what, remedy = "body", "upload large data as files, or start the gateway with a larger --max-body-bytes"
    if path.startswith("/content/"):
        what, remedy = "file", "split it, or start the gateway with a larger --max-file-bytes"
    return HttpProblem("TOO_LARGE", f"the {what} has {size} bytes or more, the limit is {most}: {remedy}")


def shown(path: str) -> str:
    """A path for the log: without the secret that an address of a file carries."""
    return _SECRET.sub(r"\1/...", path) if path.startswith("/content/") else path


def _check_protocol(headers: Mapping[str, str]) -> None:
    """Raises HttpProblem for a body that httptools would take for another protocol's beginning."""
    other = headers.get("upgrade")
    if other is not None and ("content-length" in headers or "transfer-encoding" in headers):
        raise HttpProblem(
            "INVALID",
            f"Upgrade: {quoted(other, 40)}, and a body: only HTTP/1.1 is spoken here, so leave the header "
            "out (Java: version(HTTP_1_1); curl: --http1.1)",
            headers={"Connection": "close"},
        )


def _declared_bytes(headers: Mapping[str, str]) -> int:
    """What the body has, if that is said."""
    try:
        return int(headers.get("content-length", "0"))
    except ValueError:  # the server has seen that it is a number: it has thousands of digits
        return 0


def _token(headers: Mapping[str, str]) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token else None
