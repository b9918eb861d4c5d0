"""Bodies that are too large or come too slowly, on a real connection: refused at once, or in time, and what
comes after is understood."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.types import Message

from tests.http.gatewayprocess import PATIENCE_SECONDS, GatewayProcess
from tests.http.test_files import announced, kept
from warmd.http import bodies
from warmd.http.bodies import Arrival
from warmd.http.problems import HttpProblem
from warmd.owndaemon import LocalClient

MOST = 100_000
CHUNK = b"%x\r\n%b\r\n" % (MOST, b"x" * MOST)


@pytest.fixture(scope="module")
def small(daemon: LocalClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("small")
    with GatewayProcess(daemon.address, folder, max_body_bytes=MOST, max_file_bytes=MOST) as found:
        yield found


@pytest.fixture
def connection(small: GatewayProcess) -> Iterator[socket.socket]:
    url = urlsplit(small.url)
    assert url.hostname is not None and url.port is not None
    with socket.create_connection((url.hostname, url.port), timeout=PATIENCE_SECONDS) as found:
        yield found


@pytest.fixture(params=["run", "upload"])
def request_line(request: pytest.FixtureRequest, small: GatewayProcess) -> str:
    if request.param == "run":
        return "POST /apps/run"
    return f"PUT {urlsplit(announced(small.client, filename='a')['upload_url']).path}"


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """The next answer, and nothing behind it is taken."""
    found = http.client.HTTPResponse(connection)
    found.begin()
    return found.status, found.read()


def refused(connection: socket.socket) -> None:
    status, body = answer(connection)
    told = json.loads(body)
    assert (status, told["code"]) == (413, "TOO_LARGE") and f"limit is {MOST}" in told["detail"]


def lives_on(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer(connection) == (200, b"ok\n")


@pytest.mark.parametrize("expects", ["", "Expect: 100-continue\r\n"])
def test_a_size_that_is_declared_is_refused_before_any_of_it_is_sent(
    connection: socket.socket, request_line: str, expects: str
) -> None:
    size = 3 * MOST
    head = f"{request_line} HTTP/1.1\r\nHost: localhost\r\n{expects}Content-Length: {size}\r\n\r\n"
    connection.sendall(head.encode())
    refused(connection)
    connection.sendall(bytes(size))  # who does not wait for the answer has sent it already
    lives_on(connection)


def test_one_that_comes_in_chunks_is_refused_where_it_passes_the_limit(
    small: GatewayProcess, connection: socket.socket, request_line: str
) -> None:
    head = f"{request_line} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head.encode() + CHUNK + b"1\r\nx\r\n")
    refused(connection)
    connection.sendall(CHUNK + b"0\r\n\r\n")
    lives_on(connection)
    assert not kept(small)


def test_as_much_as_is_allowed_is_taken(connection: socket.socket) -> None:
    body = json.dumps({"app": "nix", "input": ""})
    body = json.dumps({"app": "nix", "input": "x" * (MOST - len(body))})
    head = f"POST /apps/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body.encode())
    assert answer(connection)[0] == 404
    lives_on(connection)


@pytest.mark.parametrize("sent", [b"", b"x" * 10])
def test_one_that_stands_still_is_given_up_and_leaves_nothing(
    daemon: LocalClient, tmp_path: Path, sent: bytes
) -> None:
    with GatewayProcess(daemon.address, tmp_path, stall_seconds=0.3) as hasty:
        url = urlsplit(announced(hasty.client, filename="a")["upload_url"])
        with socket.create_connection((url.hostname, url.port), timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(
                b"PUT %b HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n" % url.path.encode()
            )
            connection.sendall(sent)
            status, body = answer(connection)
        assert (status, json.loads(body)["code"]) == (408, "BODY_STALLED")
        assert not [*tmp_path.rglob(".part-*")]


async def comes(pieces: int, size: int, seconds: float) -> int:
    """How many pieces of a body arrive that come so fast."""

    async def receive() -> Message:
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": bytes(size), "more_body": True}

    arrival, arrived = Arrival(), 0
    with contextlib.suppress(HttpProblem):
        while arrived < pieces:
            await arrival.next(receive)
            arrived += 1
    return arrived


async def test_one_that_comes_drop_by_drop_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(bodies, "LEAST_BYTES_PER_SECOND", 1000)
    assert await comes(100, 1, 0.05) <= 10
    assert await comes(20, 1000, 0.05) == 20
