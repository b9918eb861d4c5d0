"""The proxy route: what is passed on, under which key, and who is kept out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, Router

from warmd.http import origins
from warmd.http.front import Front
from warmd.http.keys import Caller
from warmd.http.logs import JsonLines
from warmd.http.metrics import Metrics
from warmd.http.options import Options
from warmd.http.problems import HttpProblem
from warmd.http.proxy import PATH, Proxy

BASE = "http://127.0.0.1:8470"
TARGET = "https://api.inference.sh"
PAGE = "http://localhost:5173"
PROXY_CALLER = Caller("id-of-web", "web", frozenset({"run"}))


def nobody(_: str | None) -> Caller:
    raise HttpProblem("UNAUTHORIZED", "a key is needed")


def named(name: str) -> Caller:
    if name != "web":
        raise HttpProblem("NOT_ALLOWED", f"there is no key {name!r}")
    return PROXY_CALLER


async def seen(request: Request) -> JSONResponse:
    told = {
        "path": request.url.path,
        "id": request.path_params.get("id"),
        "query": request.url.query,
        "caller": request.scope["caller"].name,
        "headers": dict(request.headers),
        "body": (await request.body()).decode(),
    }
    return JSONResponse(told)


def client(**given: Any) -> httpx.AsyncClient:
    """Asks a gateway whose only route says what came to it."""
    options = Options(**{"proxy_key": "web", "cors_origins": (PAGE,), **given})
    router = Router([Route("/tasks/{id}", seen, methods=["GET", "POST"])], redirect_slashes=False)
    front = Front(router, options, nobody, Metrics(None))  # type: ignore[arg-type]
    router.routes.append(Proxy(router, front, options, named).route())
    return httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url=BASE)


@pytest.fixture
async def web() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as found:
        yield found


def target(path: str, host: str = TARGET) -> dict[str, str]:
    return {"x-inf-target-url": host + path}


@pytest.mark.parametrize("host", [TARGET, BASE, "http://localhost:1", "http://[::1]:8470"])
async def test_a_request_is_passed_on_under_the_proxys_key(web: httpx.AsyncClient, host: str) -> None:
    headers = {
        **target("/v1/tasks/a%20b?fields=x&y=2", host),
        "Cookie": "secret=1",
        "Authorization": "Bearer page",
        "X-API-Version": "2",
    }
    got = (await web.post(PATH, content=b'{"n":1}', headers=headers)).json()
    assert (got["id"], got["query"]) == ("a b", "fields=x&y=2")
    assert (got["caller"], got["body"]) == ("web", '{"n":1}')
    assert got["headers"]["x-api-version"] == "2"
    assert not {"cookie", "authorization", "x-inf-target-url"} & set(got["headers"])


async def test_a_stream_may_say_its_target_in_the_query(web: httpx.AsyncClient) -> None:
    got = await web.get(PATH, params={"__inf_target": f"{TARGET}/tasks/7?a=1"})
    assert (got.json()["id"], got.json()["query"]) == ("7", "a=1")
    refused = await web.post(PATH, params={"__inf_target": f"{TARGET}/tasks/7"})
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID")


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://evil.example/tasks/1", 403),
        ("https://api.inference.sh.evil.example/tasks/1", 403),
        ("https://api.inference.sh@evil.example/tasks/1", 403),
        ("http://[oops/tasks/1", 400),
        (f"{TARGET}{PATH}", 400),
        (f"{TARGET}/v1{PATH}", 400),
        (TARGET, 400),
        (f"{TARGET}/nowhere", 404),
        (f"{TARGET}/tasks/1/", 404),
    ],
)
async def test_only_this_gateway_can_be_asked(web: httpx.AsyncClient, url: str, status: int) -> None:
    answer = await web.get(PATH, headers={"x-inf-target-url": url})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_without_a_proxy_key_there_is_no_proxy() -> None:
    async with client(proxy_key="") as web:
        answer = await web.get(PATH, headers=target("/tasks/1"))
    assert answer.status_code == 404 and "--proxy-key" in answer.json()["detail"]


def test_a_key_that_there_is_not_is_found_at_the_start() -> None:
    with pytest.raises(HttpProblem, match="no key 'nix'"):
        client(proxy_key="nix")


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Origin": PAGE, "Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": BASE, "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Host": "evil.example:8470", "Origin": "http://evil.example:8470"}, False),
        ({"Host": "evil.example:8470"}, False),
    ],
)
async def test_a_strangers_page_cannot_use_it(
    web: httpx.AsyncClient, headers: dict[str, str], passes: bool
) -> None:
    answer = await web.get(PATH, headers={**target("/tasks/1"), **headers})
    assert answer.status_code == (200 if passes else 403), answer.text


async def test_an_open_gateway_is_closed_to_strangers_pages_too() -> None:
    options = Options(open=True)
    front = Front(Router([Route("/tasks/{id}", seen)]), options, lambda _: PROXY_CALLER, Metrics(None))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url=BASE) as web:
        assert (await web.get("/tasks/1")).status_code == 200
        assert (await web.get("/tasks/1", headers={"Origin": "https://evil.example"})).status_code == 403
        assert (await web.get("/tasks/1", headers={"Host": "evil.example"})).status_code == 403


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("gpu-box:8470", True),
        ("warmd.example.com", True),
        ("10.0.0.7:8470", True),
        ("[::1]:8470", True),
        ("LOCALHOST", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("[::1", False),
    ],
)
def test_the_hosts_that_are_ours(host: str, own: bool) -> None:
    options = Options(host="gpu-box", public_url="https://warmd.example.com")
    assert origins.is_own_host(options, host) is own


async def test_a_page_of_another_origin_that_is_allowed_may_send_credentials(web: httpx.AsyncClient) -> None:
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-inf-target-url",
    }
    told = await web.options(PATH, headers=asked)
    assert told.status_code == 204
    assert told.headers["access-control-allow-headers"] == "content-type,x-inf-target-url"
    answer = await web.get(PATH, headers={**target("/tasks/1"), "Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-credentials"] == "true"


async def test_the_log_tells_of_the_target(web: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "warmd.http")
    await web.get(PATH, headers=target("/tasks/7?token=abc"))
    line = json.loads(JsonLines().format(caplog.records[-1]))
    assert (line["path"], line["key"]) == ("/tasks/7", "web")
