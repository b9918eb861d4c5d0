"""What each request passes first: ids, limits, bodies, origins, and what the log tells."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import Message

from warmd.http.front import Front
from warmd.http.keys import Caller
from warmd.http.limits import Rates
from warmd.http.logs import JsonLines
from warmd.http.metrics import Metrics
from warmd.http.options import Options
from warmd.http.problems import HttpProblem

ME = Caller("id", "me", frozenset({"run", "read"}))
PAGE = "http://localhost:5173"


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


async def breaks(_request: Request) -> Response:
    raise RuntimeError("a secret of the code")


def caller_of(token: str | None) -> Caller:
    if token != "good":
        raise HttpProblem("UNAUTHORIZED", "give a key")
    return ME


def front(**given: Any) -> Front:
    routes = [
        Route("/echo", echo, methods=["GET", "POST"]),
        Route("/content/{id}/{secret}", echo),
        Route("/breaks", breaks),
    ]
    return Front(Router(routes, redirect_slashes=False), Options(**given), caller_of, Metrics(None))  # type: ignore[arg-type]


def client(**given: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(front(**given)),
        base_url="http://127.0.0.1:8470",
        headers={"Authorization": "Bearer good"},
    )


def test_a_bucket_fills_with_time() -> None:
    at = [100.0]
    rates = Rates(2.0, lambda: at[0])
    for _ in range(4):
        rates.check(ME)
    with pytest.raises(HttpProblem) as caught:
        rates.check(ME)
    assert caught.value.retry_seconds == pytest.approx(0.5)
    rates.check(replace(ME, id="b"))
    at[0] += 0.5
    rates.check(ME)
    with pytest.raises(HttpProblem):
        rates.check(ME)
    at[0] += 1000.0
    for _ in range(4):
        rates.check(ME)
    with pytest.raises(HttpProblem):
        rates.check(ME)


def test_a_key_may_have_a_rate_of_its_own() -> None:
    slow, free = replace(ME, rate=0.5), replace(ME, id="free", rate=0.0)
    rates = Rates(100.0, lambda: 100.0)
    rates.check(slow)
    with pytest.raises(HttpProblem, match=r"more than 0\.5 times a second \(the rate of this key\)"):
        rates.check(slow)
    for _ in range(1000):
        rates.check(free)


async def test_who_asks_too_often_is_told_when_to_come_again() -> None:
    async with client(rate=0.5) as web:
        assert (await web.get("/echo")).status_code == 200
        answer = await web.get("/echo")
    assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_body_is_too_large_whether_it_says_so_or_not() -> None:
    async def chunks() -> Any:
        for _ in range(3):
            yield b"x" * 50

    async with client(max_body_bytes=100) as web:
        assert (await web.post("/echo", content=b"x" * 100)).status_code == 200
        for body in (b"x" * 101, chunks()):
            answer = await web.post("/echo", content=body)
            assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
        assert (await web.post("/echo", content=b"x")).text == "x"


async def exchange(messages: list[Message]) -> list[Message]:
    """What is answered to a body that comes in these pieces, and then no further."""
    sent: list[Message] = []
    left = iter(messages)

    async def receive() -> Message:
        if (message := next(left, None)) is not None:
            return message
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/echo", "raw_path": b"/echo", "query_string": b"",
        "headers": [(b"authorization", b"Bearer good")],
    }  # fmt: skip
    await front()(scope, receive, send)
    return sent


async def test_a_body_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmd.http.bodies.STALL_SECONDS", 0.02)
    sent = await exchange([{"type": "http.request", "body": b"x", "more_body": True}])
    assert sent[0]["status"] == 408


async def test_who_goes_in_the_midst_of_a_body_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    sent = await exchange(
        [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
    )
    assert not sent and "failed" not in caplog.text


@pytest.mark.parametrize(("asked", "kept"), [("job-7:a", True), ("a b", False), ("x" * 65, False)])
async def test_a_sound_request_id_is_kept(asked: str, kept: bool) -> None:
    async with client() as web:
        answer = await web.get("/echo", headers={"X-Request-Id": asked})
    assert (answer.headers["x-request-id"] == asked) is kept
    assert len(answer.headers["x-request-id"]) <= 64


async def test_of_several_headers_of_one_name_the_first_counts() -> None:
    async with client() as web:
        answer = await web.get("/echo", headers=[("X-Request-Id", "first"), ("X-Request-Id", "second")])
    assert answer.headers["x-request-id"] == "first"


async def test_no_origin_is_allowed_unless_it_is_listed() -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    async with client() as web:
        assert "access-control-allow-origin" not in (await web.get("/echo", headers=asked)).headers
    async with client(cors_origins=(PAGE,)) as web:
        assert (await web.options("/echo", headers=asked)).status_code == 204
        refused = await web.get("/echo", headers={**asked, "Authorization": "Bearer bad"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == PAGE
        stranger = await web.get("/echo", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers
    async with client(cors_origins=("*",)) as web:
        told = (await web.get("/echo", headers=asked)).headers
        assert told["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in told


async def test_the_log_has_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "warmd.http")
    async with client() as web:
        await web.get("/echo?token=hidden", headers={"X-Request-Id": "id-1"})
        await web.get("/content/file_1/hidden")
    lines = [JsonLines().format(record) for record in caplog.records if record.name == "warmd.http"]
    first, second = map(json.loads, lines)
    assert (first["request_id"], first["path"], first["key"], first["status"]) == ("id-1", "/echo", "me", 200)
    assert second["path"] == "/content/file_1/..."
    assert "hidden" not in "".join(lines) and "good" not in "".join(lines)


async def test_what_nobody_foresaw_is_a_problem_and_tells_nothing_of_the_code() -> None:
    async with client() as web:
        answer = await web.get("/breaks")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert "secret" not in answer.text


async def test_odd_headers_are_no_faults_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async with client(open=True) as web:
        answer = await web.get("/echo", headers={"Origin": "http://["})
        assert (answer.status_code, answer.json()["code"]) == (403, "NOT_ALLOWED")
        answer = await web.get("/echo", headers={"Content-Length": "0" * 5000})
        assert answer.status_code == 200
    assert not [record for record in caplog.records if record.exc_info]


async def test_what_is_not_there_is_named() -> None:
    async with client() as web:
        answer = await web.get("/nowhere")
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        assert "'/nowhere': GET /openapi.json" in answer.json()["detail"]
        answer = await web.delete("/echo")
        assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert "POST" in answer.headers["allow"] and answer.headers["allow"] in answer.json()["detail"]


async def test_another_protocol_is_not_spoken() -> None:
    async with client() as web:
        answer = await web.post("/echo", content=b"x", headers={"Connection": "Upgrade", "Upgrade": "h2c"})
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID")
        assert "'h2c', and a body" in answer.json()["detail"] and answer.headers["connection"] == "close"
        answer = await web.get("/echo", headers={"Connection": "Upgrade", "Upgrade": "h2c"})
        assert answer.status_code == 200
