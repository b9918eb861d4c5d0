"""Bodies that are too large, on a real connection: refused at once, and what comes after is understood."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.http.gatewayprocess import PATIENCE_SECONDS, GatewayProcess
from tests.http.test_files import announced, kept
from warmd.owndaemon import LocalClient

MOST = 100_000
CHUNK = b"%x\r\n%b\r\n" % (MOST, b"x" * MOST)


@pytest.fixture
def small(daemon: LocalClient, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(daemon.address, tmp_path, max_body_bytes=MOST, max_file_bytes=MOST) as found:
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
