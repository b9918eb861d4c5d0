"""Webhooks: delivered at least once, tried again with patience, signed, and only where they may go."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.watch import until
from tests.http.gatewayprocess import PATIENCE_SECONDS, GatewayProcess
from warmd.http import webhooks
from warmd.http.metrics import Metrics
from warmd.http.problems import HttpProblem
from warmd.http.task import Facts, Status, Task
from warmd.http.webhooks import Webhooks
from warmd.owndaemon import LocalClient


def task(webhook: str | None = "http://hook.example/x?secret=1", output: bytes = b'"out"') -> Task:
    facts = Facts("me", "zoo", "echo", b'{"x":1}', 1.0, webhook=webhook, request_id="req-1")
    ended = Task("0" * 32, facts, None, output=output)
    ended.becomes(Status.COMPLETED)
    return ended


class Bench:
    """Webhooks whose receiver is a function, and whose waits are noted and over at once."""

    def __init__(
        self, folder: Path, answer: Callable[[httpx.Request], httpx.Response], hosts: tuple[str, ...] = ()
    ) -> None:
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        self.metrics = Metrics(None)  # type: ignore[arg-type]
        self._answer = answer
        self.hooks = Webhooks(
            folder, self.metrics, hosts, sleep=self._sleep, transport=httpx.MockTransport(self._received)
        )
        self.hooks.open()

    def _received(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def deliver(self, *tasks: Task) -> None:
        for one in tasks:
            self.hooks.ended(one)
        await asyncio.gather(*self.hooks._pending)
        await self.hooks.close()

    def count(self, result: str) -> float:
        return self.metrics.deliveries.labels(result)._value.get()  # type: ignore[no-any-return]


async def test_the_whole_task_arrives_signed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda _: httpx.Response(204))
    done = task()
    await bench.deliver(done)
    (request,) = bench.requests
    assert request.content == done.json() and json.loads(request.content)["output"] == "out"
    headers = request.headers
    assert (headers["x-warmd-task"], headers["x-request-id"]) == (done.id, "req-1")
    signed = f"{done.id}.{headers['webhook-timestamp']}.".encode() + request.content
    secret = base64.b64decode((tmp_path / "webhook-secret").read_text().strip().removeprefix("whsec_"))
    digest = hmac.digest(secret, signed, hashlib.sha256)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert (bench.count("delivered"), bench.waits) == (1, [])


async def test_who_wants_to_hear_nothing_hears_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda _: httpx.Response(204))
    await bench.deliver(task(webhook=None))
    assert not bench.requests


@pytest.mark.parametrize("trouble", [503, 500, 408, 429, httpx.ConnectError("refused")])
async def test_what_may_pass_is_tried_again(tmp_path: Path, trouble: int | Exception) -> None:
    answers = iter([trouble, trouble, 200])

    def answer(_: httpx.Request) -> httpx.Response:
        told = next(answers)
        if isinstance(told, Exception):
            raise told
        return httpx.Response(told)

    bench = Bench(tmp_path, answer)
    await bench.deliver(task())
    assert bench.waits == [5.0, 30.0] and bench.count("delivered") == 1
    assert len({request.headers["webhook-id"] for request in bench.requests}) == 1


@pytest.mark.parametrize("status", [400, 404, 410, 301, 307])
async def test_what_will_not_pass_is_given_up_and_redirects_are_not_followed(
    tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, lambda _: httpx.Response(status, headers={"Location": "http://inside.example/"}))
    await bench.deliver(task())
    assert (len(bench.requests), bench.count("refused")) == (1, 1)
    assert f"answered {status}" in caplog.text and "secret" not in caplog.text


async def test_after_the_last_try_it_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path, lambda _: httpx.Response(502))
    ended = task()
    await bench.deliver(ended)
    assert bench.waits == list(webhooks.WAITS_SECONDS)
    assert bench.count("failed") == 1
    *tries, last = [record.getMessage() for record in caplog.records]
    where = f"the webhook of {ended.id} at hook.example"
    assert tries == [f"{where}, try {n} of 5: it answered 502" for n in range(1, 5)]
    assert last == f"{where} was failed: it answered 502, in the last of 5 tries"


@pytest.mark.parametrize("url", ["http://hook.example/x?secret=1", "http://xn--/", "http://[::1/"])
async def test_what_may_no_longer_be_told_is_dropped(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, lambda _: httpx.Response(204), hosts=("other.example",))
    await bench.deliver(task(url))  # begun by a gateway that had another list, or none
    assert (bench.requests, bench.count("dropped")) == ([], 1)
    assert "was dropped: it is no address that --webhook-hosts" in caplog.text and "secret" not in caplog.text


async def test_a_receiver_that_does_not_answer_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TRY_SECONDS", 0.02)
    bench = Bench(tmp_path, lambda _: httpx.Response(200))

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            del request
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    bench.hooks._transport = Silent()
    await bench.deliver(task())
    assert bench.count("failed") == 1


async def test_what_is_pending_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MOST_PENDING", 2)
    bench = Bench(tmp_path, lambda _: httpx.Response(200))
    await bench.deliver(task(), task(), task())
    assert (bench.count("delivered"), bench.count("dropped")) == (2, 1)


async def test_what_is_pending_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MOST_PENDING_BYTES", 1000)
    bench = Bench(tmp_path, lambda _: httpx.Response(200))
    await bench.deliver(task(output=b"1" * 5000), task())
    assert (bench.count("delivered"), bench.count("dropped")) == (1, 1)


@pytest.mark.parametrize(
    ("url", "hosts", "passes"),
    [
        ("http://localhost:9/x", (), True),
        ("https://a.example.com/x", ("*.example.com",), True),
        ("https://Hook.example.com/x", ("hook.EXAMPLE.com",), True),
        ("https://example.com.evil/x", ("*.example.com",), False),
        ("https://evilexample.com/x", ("*.example.com",), False),
        ("http://hook@169.254.169.254/x", ("hook",), False),
        ("http://", (), False),
        ("http://[::1/", (), False),
        ("http://xn--/", (), False),
        ("ftp://example.com/x", (), False),
        ("http://example.com:65536/", (), False),
    ],
)
def test_where_webhooks_may_go(url: str, hosts: tuple[str, ...], passes: bool) -> None:
    if passes:
        webhooks.check(url, hosts)
    else:
        with pytest.raises(HttpProblem, match="webhook"):
            webhooks.check(url, hosts)


def test_the_secret_stays_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "new" / "webhook-secret"
    assert webhooks.signing_secret(path) == webhooks.signing_secret(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("whsec_\n")
    with pytest.raises(ValueError, match="remove it"):
        webhooks.signing_secret(path)


@contextmanager
def receiver() -> Iterator[tuple[str, queue.Queue[Any]]]:
    """A server of webhooks: its address, and what came."""
    came: queue.Queue[Any] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", came
        finally:
            server.shutdown()
            thread.join()


def test_a_run_tells_its_webhook_once(gateway: GatewayProcess) -> None:
    with receiver() as (url, came):
        told = gateway.run("echo", "hello", webhook=url)
        got = came.get(timeout=PATIENCE_SECONDS)
        assert (got["id"], got["status"], got["output"]) == (told["id"], 10, "hello")
        assert gateway.client.get(f"/tasks/{told['id']}").status_code == 200
        assert came.empty()


def test_the_next_gateway_tells_of_what_went_on_and_what_ended_in_between(
    daemon: LocalClient, tmp_path: Path
) -> None:
    gates = [tmp_path / "before", tmp_path / "after"]
    with receiver() as (url, came):
        ids = []
        with GatewayProcess(daemon.address, tmp_path / "first") as first:
            for gate in gates:
                body = {"app": "zoo", "function": "wait_for", "input": {"path": str(gate)}, "webhook": url}
                ids.append(first.client.post("/apps/run", json=body).json()["data"]["id"])
        gates[0].touch()
        call = ids[0].removeprefix("task_")
        until(lambda: daemon.calls.get(call)["state"] == "done")
        with GatewayProcess(daemon.address, tmp_path / "second"):
            ended = [came.get(timeout=PATIENCE_SECONDS)["id"]]
            gates[1].touch()
            while set(ended) != set(ids):
                ended.append(came.get(timeout=PATIENCE_SECONDS)["id"])


def test_gateways_that_start_together_have_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for n in range(20):
            assert len({*pool.map(webhooks.signing_secret, [tmp_path / str(n)] * 16)}) == 1
