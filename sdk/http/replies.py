"""JSON as the clients take it: in an envelope, or bare where the request asks for it.

Clients of today unwrap `data`, those of old want `success` beside it, and those in between send
`X-API-Version: 2` and take it bare.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson
from starlette.datastructures import URL
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from warmd.http.options import Options
from warmd.http.problems import HttpProblem

BARE_VERSION = "2"
COPIED_BYTES = 64 * 1024
MOST_VALUES = 1_000_000
_HEAD = b'{"success":true,"status":200,"data":'
_TAIL = b',"messages":[]}'


def reply(request: Request, *pieces: bytes) -> Response:
    """An answer whose `pieces`, one behind the other, are JSON already."""
    if request.headers.get("x-api-version") != BARE_VERSION:
        pieces = (_HEAD, *pieces, _TAIL)
    if sum(map(len, pieces)) < COPIED_BYTES:
        return Response(b"".join(pieces), media_type="application/json")
    return _Pieces(pieces)


def reply_value(request: Request, value: Any) -> Response:
    return reply(request, orjson.dumps(value))


class _Pieces(Response):
    """A large answer of which each piece is sent as it is: many who ask for one output share it."""

    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        size = sum(map(len, pieces))
        super().__init__(headers={"content-length": str(size)}, media_type="application/json")
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def json_body(request: Request) -> Any:
    """What the request's body says.  Raises HttpProblem for what is no JSON, or too much of it."""
    body = await _body(request)
    _check_values(body)
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise HttpProblem("INVALID", f"the body of {len(body)} bytes is no JSON: {error}") from None


def _check_values(body: bytes) -> None:
    """Nobody else is served while JSON is read: its time is that of its values, not of its bytes."""
    if len(body) < MOST_VALUES:
        return
    values = sum(map(body.count, (b",", b"[", b"{")))
    if values > MOST_VALUES:
        raise HttpProblem(
            "TOO_LARGE",
            f"the body has {values} commas and brackets, the limit is {MOST_VALUES}: send so many values as "
            "a file (POST /files)",
        )


async def _body(request: Request) -> bytes:
    """Raises ClientDisconnect when the client goes in the midst of it."""
    blocks = []
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        blocks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(blocks)


def base_url(request: Request, options: Options) -> str:
    """What addresses of this gateway begin with, as this client reaches it."""
    if options.public_url:
        return options.public_url.rstrip("/")
    scope = request.scope
    return _base_url(scope["scheme"], tuple(scope["server"] or ()), request.headers.get("host"))


@lru_cache(maxsize=64)
def _base_url(scheme: str, server: tuple[str, int], host: str | None) -> str:
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    url = URL(scope={"scheme": scheme, "server": server or None, "path": "/", "headers": headers})
    return f"{url.scheme}://{url.netloc}"
