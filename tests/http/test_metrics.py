"""What is counted, and whether the gateway and its daemon are well."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import warmd
from tests.faults.watch import until
from tests.http.conftest import APPS
from tests.http.gatewayprocess import GatewayProcess
from warmd.http.metrics import Metrics


def samples(http: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(http: httpx.Client, name: str, **labels: str) -> float:
    return samples(http).get((name, frozenset(labels.items())), 0.0)


def test_requests_are_counted_by_template_never_by_path(gateway: GatewayProcess, http: httpx.Client) -> None:
    task = gateway.run("echo", 1)
    assert http.get(f"/tasks/{task['id']}").status_code == 200
    http.get("/nowhere/4711")
    http.request("PROPFIND", "/tasks/4711")
    found = samples(http)
    labels = frozenset({"route": "/tasks/{id}", "method": "GET", "status": "200"}.items())
    assert found["warmd_http_requests_total", labels] >= 1
    told = [value for _, labels in found for _, value in labels]
    assert not [text for text in told if task["id"] in text or "4711" in text or "PROPFIND" in text]
    nowhere = frozenset({"route": "none", "method": "GET", "status": "404"}.items())
    assert found["warmd_http_requests_total", nowhere] >= 1


def test_tasks_are_counted_by_their_end(gateway: GatewayProcess, http: httpx.Client) -> None:
    before = value(http, "warmd_http_tasks_total", app="zoo", end="failed")
    gateway.run("raise_error", {"text": "x"})
    assert value(http, "warmd_http_tasks_total", app="zoo", end="failed") == before + 1


def test_the_daemons_state_is_told_without_ids(gateway: GatewayProcess, http: httpx.Client) -> None:
    session = gateway.run("echo", 1, session="new")["session_id"]
    found = samples(http)
    assert found["warmd_up", frozenset()] == 1
    idle = frozenset({"app": "zoo", "kind": "session", "state": "idle"}.items())
    assert found["warmd_sessions", idle] >= 1
    assert found["warmd_worker_rss_bytes", frozenset({("app", "zoo")})] > 2**20
    assert session not in http.get("/metrics").text
    http.delete(f"/sessions/{session}")


class OnGpus:
    """A daemon with two GPUs, as the gateway's client tells of it."""

    def __init__(self) -> None:
        self.sessions = self

    async def status(self) -> dict[str, Any]:
        counted = {"version": "1", "dropped_messages": 0, "log_errors": 0}
        gpus = [{"index": index, "memory": 80, "used": used} for index, used in ((0, 60), (1, 0))]
        return {**counted, "gpus": gpus}

    async def list(self) -> list[dict[str, Any]]:
        plain = {"app": "llm", "kind": "session", "state": "idle", "memory": 1}
        there, away = {"memory": 30, "parked": 0}, {"memory": 5, "parked": 40}
        return [{**plain, "gpu": gpu} for gpu in (there, there, away, None)]


def test_gpu_memory_is_told_by_gpu_and_by_app() -> None:
    told = asyncio.run(Metrics(OnGpus()).exposition()).decode()  # type: ignore[arg-type]
    assert 'warmd_gpu_used_bytes{gpu="0"} 60.0' in told and 'warmd_gpu_total_bytes{gpu="1"} 80.0' in told
    assert 'warmd_gpu_memory_bytes{app="llm"} 65.0' in told
    assert 'warmd_gpu_parked_bytes{app="llm"} 40.0' in told


def test_open_streams_are_counted(http: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    body = {"app": "zoo", "function": "wait_for", "input": {"path": str(gate)}}
    id = http.post("/apps/run", json=body).json()["data"]["id"]
    with (
        httpx.Client(base_url=http.base_url, timeout=http.timeout) as reader,
        reader.stream("GET", f"/tasks/{id}/stream") as stream,
    ):
        lines = stream.iter_lines()
        next(lines)
        assert value(http, "warmd_http_open_streams") == 1
        gate.touch()
        assert '"done"' in [*lines][-1]
    assert value(http, "warmd_http_open_streams") == 0


def test_ready_and_healthy(http: httpx.Client) -> None:
    assert http.get("/healthz").text == http.get("/readyz").text == "ok\n"


@pytest.fixture
def without_daemon(tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        warmd.testing.daemon() as client,
        GatewayProcess(client.address, tmp_path) as gateway,
    ):
        assert gateway.client.get("/readyz").status_code == 200
        client.close()
        yield gateway.client


def test_without_its_daemon_the_gateway_says_so(without_daemon: httpx.Client) -> None:
    assert without_daemon.get("/healthz").status_code == 200
    ready = without_daemon.get("/readyz")
    assert (ready.status_code, ready.headers["content-type"]) == (503, "application/problem+json")
    assert int(ready.headers["retry-after"]) >= 1
    found = samples(without_daemon)
    assert found["warmd_up", frozenset()] == 0
    assert not [name for name, _ in found if name == "warmd_sessions"]


def test_a_daemon_that_is_stopping_is_not_ready(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with (
        warmd.testing.daemon(app_folders=str(APPS)) as client,
        GatewayProcess(client.address, tmp_path) as gateway,
    ):
        task = gateway.begin("wait_for", {"path": str(gate)}, session="new")
        until(lambda: gateway.task(task["id"])["status"] == 7)
        client.stop(drain="20s")
        ready = gateway.client.get("/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "DRAINING")
        assert int(ready.headers["retry-after"]) >= 1
        assert gateway.client.get("/healthz").status_code == 200
        refused = gateway.client.post("/apps/run", json={"app": "zoo", "function": "echo"})
        assert (refused.status_code, refused.json()["code"]) == (503, "DRAINING")
        assert value(gateway.client, "warmd_draining") == 1
        gate.touch()
