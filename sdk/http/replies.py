"""JSON as the clients take it: in an envelope, or bare where the request asks for it.

Clients of today unwrap `data`, those of old want `success` beside it, and those in between send
`X-API-Version: 2` and take it bare.
"""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
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
    body = await request.body()
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise HttpProblem("INVALID", f"the body of {len(body)} bytes is no JSON: {error}") from None


def base_url(request: Request, options: Options) -> str:
    """What addresses of this gateway begin with, as this client reaches it."""
    return options.public_url.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"
