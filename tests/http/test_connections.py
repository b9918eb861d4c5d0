"""What those cost who have asked nothing yet: time, headers, connections."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.watch import until
from tests.http.gatewayprocess import PATIENCE_SECONDS, GatewayProcess
from warmd.http.connections import HEAD_SECONDS, MOST_HEAD_BYTES
from warmd.owndaemon import LocalClient

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
Reach = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def own(daemon: LocalClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(daemon.address, tmp_path_factory.mktemp("own"), head_seconds=0.3) as found:
        yield found


@pytest.fixture
def reach(own: GatewayProcess) -> Iterator[Reach]:
    opened: list[socket.socket] = []

    def one() -> socket.socket:
        url = own.client.base_url
        opened.append(socket.create_connection((url.host, url.port or 0), PATIENCE_SECONDS))
        return opened[-1]

    yield one
    for sock in opened:
        sock.close()


def answer(sock: socket.socket) -> bytes:
    """All that comes until the gateway closes the connection."""
    found = b""
    try:
        while some := sock.recv(65536):
            found += some
    except ConnectionResetError:
        pass  # it had not read all that was sent
    return found


def test_a_head_that_does_not_come_is_not_waited_for(reach: Reach) -> None:
    assert HEAD_SECONDS == 30.0, "in the test it is less"
    silent, half = reach(), reach()
    half.sendall(GET)
    assert answer(half).startswith(b"HTTP/1.1 408 ") and answer(silent) == b""


def test_a_second_head_on_a_connection_is_waited_for_as_long(reach: Reach) -> None:
    sock = reach()
    sock.sendall(GET + b"\r\n")
    assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    sock.sendall(GET)
    assert b"HEAD_STALLED" in answer(sock)


@pytest.mark.parametrize("line", [b"x" * (1 << 20), b"a: b\r\n" * (1 << 17)])
def test_a_head_has_a_size(own: GatewayProcess, reach: Reach, line: bytes) -> None:
    before = psutil.Process(own.process.pid).memory_info().rss
    sock = reach()
    sock.sendall(GET)
    with contextlib.suppress(ConnectionError):
        sock.sendall(200 * line)
        pytest.fail("it was taken")
    assert psutil.Process(own.process.pid).memory_info().rss < before + (8 << 20)
    whole = reach()
    whole.sendall(GET + b"X-Long: " + b"x" * (MOST_HEAD_BYTES + 1))
    assert b"HTTP/1.1 431 " in (said := answer(whole)) and str(MOST_HEAD_BYTES).encode() in said


def test_a_large_body_with_the_next_head_behind_it_is_none(reach: Reach) -> None:
    sock, body = reach(), b'{"app": "zoo", "function": "' + b"x" * MOST_HEAD_BYTES + b'"}'
    head = b"POST /apps/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    sock.sendall(head + body + GET)
    assert sock.recv(65536).startswith(b"HTTP/1.1 4")
    sock.sendall(b"Connection: close\r\n\r\n")
    assert b"HTTP/1.1 200 " in answer(sock)


def test_idle_connections_make_room(daemon: LocalClient, tmp_path: Path) -> None:
    crowded = GatewayProcess(daemon.address, tmp_path, descriptors=96)
    with contextlib.ExitStack() as opened, crowded as gateway:
        url = gateway.client.base_url

        def reached() -> socket.socket:
            return opened.enter_context(socket.create_connection((url.host, url.port or 0), PATIENCE_SECONDS))

        for _ in range(40):
            reached(), reached(), reached()
            asks = reached()
            asks.sendall(GET + b"Connection: close\r\n\r\n")
            assert answer(asks).startswith(b"HTTP/1.1 200 ")


def test_where_all_are_busy_the_next_is_told(daemon: LocalClient, tmp_path: Path) -> None:
    crowded = GatewayProcess(daemon.address, tmp_path, descriptors=96)
    with contextlib.ExitStack() as opened, crowded as gateway:
        url, told = gateway.client.base_url, b""
        body = b"POST /apps/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        for _ in range(100):
            busy = opened.enter_context(socket.create_connection((url.host, url.port or 0), PATIENCE_SECONDS))
            busy.sendall(body)
            if select.select([busy], [], [], 0.01)[0]:
                told = answer(busy)
                break
        assert told.startswith(b"HTTP/1.1 503 ") and b"TOO_MANY_CONNECTIONS" in told


@pytest.mark.parametrize("behind", [b"\r\n", GET])
def test_what_comes_behind_a_request_cuts_no_answer_short(
    reach: Reach, tmp_path: Path, behind: bytes
) -> None:
    """Not even where it is the next head, and late: the answer that is under way comes first."""
    gate = tmp_path / "gate"
    run = {"app": "zoo", "function": "wait_for", "session": "new", "input": {"path": str(gate)}}
    body = json.dumps({**run, "wait": True}).encode()
    sock = reach()
    sock.sendall(b"POST /apps/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
    sock.sendall(body)
    sock.sendall(behind)
    assert not select.select([sock], [], [], 1.0)[0], "it was not answered early"
    gate.touch()
    told = http.client.HTTPResponse(sock)
    told.begin()
    assert told.status == 200 and b'"output":"done"' in told.read()
    if behind == GET:
        assert b"HEAD_STALLED" in answer(sock)
    else:
        sock.sendall(GET + b"Connection: close\r\n\r\n")
        assert answer(sock).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_goes_on_behind_its_answer_has_a_time(reach: Reach) -> None:
    sock = reach()
    sock.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
    told = http.client.HTTPResponse(sock)
    told.begin()
    assert told.status == 404 and told.read()
    sock.sendall(b"1")
    assert answer(sock) == b""


@pytest.mark.parametrize("trailer", [b"a: b\r\n" * (1 << 16), b"a: " + b"x" * (1 << 19)])
def test_what_stands_behind_the_last_chunk_has_a_size(reach: Reach, trailer: bytes) -> None:
    sock = reach()
    sock.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            sock.sendall(trailer)
        pytest.fail("it was taken")


def test_answers_that_nobody_reads_make_room(daemon: LocalClient, tmp_path: Path) -> None:
    crowded = GatewayProcess(daemon.address, tmp_path, descriptors=96, unread_seconds=0.1)
    with contextlib.ExitStack() as opened, crowded as gateway:
        url, task = gateway.client.base_url, gateway.run("echo", "x" * 8_000_000)
        asked = f"GET /tasks/{task['id']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

        def told(request: bytes) -> bytes:
            sock = socket.create_connection((url.host, url.port or 0), PATIENCE_SECONDS)
            opened.enter_context(sock).sendall(request)
            return sock.recv(12)

        for _ in range(40):
            assert told(asked) == b"HTTP/1.1 200"
        assert until(lambda: told(GET + b"\r\n") == b"HTTP/1.1 200")
        for _ in range(40):
            assert until(lambda: told(asked) == b"HTTP/1.1 200")
