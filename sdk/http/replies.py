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

from warmd.http.options import Options
from warmd.http.problems import HttpProblem

BARE_VERSION = "2"
_HEAD = b'{"success":true,"status":200,"data":'
_TAIL = b',"messages":[]}'


def reply(request: Request, body: bytes, status: int = 200) -> Response:
    """An answer whose `body` is JSON already."""
    if request.headers.get("x-api-version") != BARE_VERSION:
        body = _HEAD + body + _TAIL
    return Response(body, status, media_type="application/json")


def reply_value(request: Request, value: Any, status: int = 200) -> Response:
    return reply(request, orjson.dumps(value), status)


async def json_body(request: Request) -> Any:
    """What the request's body says.  Raises HttpProblem for what is no JSON."""
    body = await _body(request)
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise HttpProblem("INVALID", f"the body of {len(body)} bytes is no JSON: {error}") from None


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
