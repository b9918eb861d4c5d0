"""What a request says, and where it reached the gateway."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from warmd.http.options import Options
from warmd.http.problems import HttpProblem
from warmd.http.replies import base_url, json_body


def request(*messages: Message, host: str | None = None, **scope: Any) -> Request:
    left = iter(messages)

    async def receive() -> Message:
        return next(left)

    headers = [] if host is None else [(b"host", host.encode())]
    default = {
        "type": "http",
        "path": "/",
        "scheme": "http",
        "server": ("127.0.0.1", 8470),
        "headers": headers,
    }
    return Request({**default, **scope}, receive)


def block(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_may_come_in_blocks() -> None:
    told = await json_body(
        request(block(b'{"a"', True), {"type": "http.request", "more_body": True}, block(b":1}", False))
    )
    assert told == {"a": 1}
    with pytest.raises(HttpProblem, match="the body of 4 bytes is no JSON"):
        await json_body(request(block(b'{"a"', False)))


async def test_who_goes_in_the_midst_of_a_body_has_said_nothing() -> None:
    with pytest.raises(ClientDisconnect):
        await json_body(request(block(b"1", True), {"type": "http.disconnect"}))


@pytest.mark.parametrize(
    ("host", "scope", "base"),
    [
        ("box:81", {}, "http://box:81"),
        ("box", {"scheme": "https"}, "https://box"),
        ("[::1]:8470", {}, "http://[::1]:8470"),
        ("a b/c", {}, "http://127.0.0.1:8470"),
        (None, {}, "http://127.0.0.1:8470"),
        (None, {"server": ("::1", 80)}, "http://[::1]"),
    ],
)
def test_addresses_begin_as_the_client_reached_the_gateway(
    host: str | None, scope: dict[str, Any], base: str
) -> None:
    assert base_url(request(host=host, **scope), Options()) == base
    assert base_url(request(host=host, **scope), Options(public_url="https://x/y/")) == "https://x/y"
