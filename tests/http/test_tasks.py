"""Tasks without a client library: looked at, cancelled, found again, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import warmd
from tests.faults.watch import until, within
from tests.http.conftest import APPS
from tests.http.gatewayprocess import GatewayProcess
from warmd.http.keys import ANYBODY, Keys
from warmd.http.requests import run
from warmd.http.task import Facts, Task
from warmd.http.tasks import LOOK_SECONDS, Tasks
from warmd.owndaemon import LocalClient

JSON = {"content-type": "application/json"}


def cancel(http: httpx.Client, id: str) -> None:
    """As the clients do: they say JSON, and send nothing."""
    assert http.post(f"/tasks/{id}/cancel", headers=JSON).status_code == 200


def test_a_queued_task_is_cancelled_at_once_and_the_running_one_goes_on(
    gateway: GatewayProcess, http: httpx.Client, tmp_path: Path
) -> None:
    input = {"path": str(tmp_path / "gate")}
    running = gateway.begin("wait_for", input, session="new")
    queued = gateway.begin("run", session=running["session_id"])
    with within(1.0):
        cancel(http, queued["id"])
        until(lambda: gateway.task(queued["id"])["status"] == 12)
    assert gateway.task(queued["id"])["ran"] == "no"
    until(lambda: gateway.task(running["id"])["status"] == 7)
    (tmp_path / "gate").touch()
    until(lambda: gateway.task(running["id"])["status"] == 10)


def test_a_running_task_is_cancelled_and_its_session_lives_on(
    gateway: GatewayProcess, http: httpx.Client, tmp_path: Path
) -> None:
    task = gateway.begin("wait_for", {"path": str(tmp_path / "gate")}, session="new")
    until(lambda: gateway.task(task["id"])["status"] == 7)
    cancel(http, task["id"])
    until(lambda: gateway.task(task["id"])["status"] == 12)
    told = gateway.task(task["id"])
    assert (told["error"], told["error_code"], told["output"]) == ("task cancelled", "CANCELLED", None)
    assert gateway.run("run", session=task["session_id"])["output"]["n"] == 1
    cancel(http, task["id"])  # once more does no harm


def test_a_task_whose_session_starts_is_cancelled(
    gateway: GatewayProcess, http: httpx.Client, tmp_path: Path
) -> None:
    task = gateway.begin("run", session="new", setup={"gate": str(tmp_path / "gate")})
    until(lambda: gateway.task(task["id"])["status"] == 6)
    cancel(http, task["id"])
    until(lambda: gateway.task(task["id"])["status"] == 12)
    (tmp_path / "gate").touch()


def test_deleting_a_task_cancels_it(gateway: GatewayProcess, http: httpx.Client, tmp_path: Path) -> None:
    task = gateway.begin("wait_for", {"path": str(tmp_path / "gate")}, session="new")
    assert http.delete(f"/tasks/{task['id']}", headers=JSON).status_code == 200
    until(lambda: gateway.task(task["id"])["status"] == 12)


@pytest.mark.parametrize("path", ["", "/status", "/stream", "/logs"])
@pytest.mark.parametrize("id", ["task_" + "0" * 32, "task_1", "x%2F..", "task_" + "g" * 32])
def test_a_task_that_is_none_is_not_found(http: httpx.Client, id: str, path: str) -> None:
    answer = http.get(f"/tasks/{id}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_a_call_that_no_gateway_made_is_no_task(daemon: LocalClient, http: httpx.Client) -> None:
    call = daemon.submit(app="zoo", function="echo", input=1, detach=True)
    assert call.result().output == 1
    assert http.get(f"/tasks/task_{call.call_id}").status_code == 404


def test_the_status_alone(gateway: GatewayProcess, http: httpx.Client) -> None:
    task = gateway.run("echo", 1)
    told = http.get(f"/tasks/{task['id']}/status").json()["data"]
    assert told == {"id": task["id"], "status": 10, "updated_at": task["updated_at"]}


def test_the_answer_to_a_run_is_never_its_end(gateway: GatewayProcess) -> None:
    session = gateway.run("run", session="new")["session_id"]
    assert {gateway.begin("run", session=session)["status"] for _ in range(50)} == {2}


def test_the_version_before_the_path_means_nothing(http: httpx.Client) -> None:
    answer = http.post("/v1/apps/run", json={"app": "zoo", "function": "echo", "input": 1, "wait": True})
    id = answer.json()["data"]["id"]
    assert http.get(f"/v1/tasks/{id}").json()["data"]["output"] == 1


def test_some_clients_take_it_bare(http: httpx.Client) -> None:
    body = {"app": "zoo", "function": "echo", "input": 1, "wait": True}
    task = http.post("/apps/run", json=body, headers={"x-api-version": "2"}).json()
    assert task["output"] == 1 and "success" not in task
    assert http.get(f"/tasks/{task['id']}").json()["success"] is True


def test_logs_outlive_the_session(gateway: GatewayProcess, http: httpx.Client) -> None:
    task = gateway.run("say", {"text": "hello log"}, session="new")
    assert http.delete(f"/sessions/{task['session_id']}").status_code == 204
    (log,) = http.get(f"/tasks/{task['id']}/logs").json()["data"]
    assert "hello log" in log["content"]


def test_a_requests_id_is_in_the_log_of_its_session(http: httpx.Client) -> None:
    body = {"app": "zoo", "function": "log", "input": {"text": "told"}, "session": "new", "wait": True}
    task = http.post("/apps/run", json=body, headers={"X-Request-Id": "req-7"}).json()["data"]
    (log,) = http.get(f"/tasks/{task['id']}/logs").json()["data"]
    assert "INFO [req-7] told" in log["content"]


def test_logs_of_a_session_that_no_daemon_knows_are_empty(tmp_path: Path) -> None:
    folder = Path(__file__).parent / "apps"
    with (
        warmd.testing.daemon(app_folders=str(folder), log_keep=1) as daemon,
        GatewayProcess(daemon.address, tmp_path) as gateway,
    ):
        task = gateway.run("raise_error", {"text": "no such row"}, session="new")
        for session in (task["session_id"], gateway.run("run", session="new")["session_id"]):
            gateway.client.delete(f"/sessions/{session}")
        (log,) = gateway.client.get(f"/tasks/{task['id']}/logs").json()["data"]
        assert "raise ValueError(text)" in log["content"]


def test_what_ended_while_no_gateway_ran_is_found_with_its_end(daemon: LocalClient, tmp_path: Path) -> None:
    with GatewayProcess(daemon.address, tmp_path) as gateway:
        good = gateway.begin("wait_for", {"path": str(tmp_path / "gate")}, session="new")
        bad = gateway.begin("raise_error", {"text": "no such row"}, session=good["session_id"])
        gateway.stop(signal.SIGKILL)
    (tmp_path / "gate").touch()
    call = daemon.calls.get(bad["id"].removeprefix("task_"))
    until(lambda: daemon.calls.get(call.id).state == "done")
    with GatewayProcess(daemon.address, tmp_path) as gateway:
        told = gateway.task(good["id"])
        assert (told["status"], told["output"], told["input"]) == (10, "done", good["input"])
        told = gateway.task(bad["id"])
        assert (told["status"], told["error"]) == (11, "ValueError: no such row")


def test_a_full_queue_and_a_deadline_do_not_make_clients_give_up_the_session(tmp_path: Path) -> None:
    folder = Path(__file__).parent / "apps"
    with (
        warmd.testing.daemon(app_folders=str(folder), max_queue=1) as daemon,
        GatewayProcess(daemon.address, tmp_path) as gateway,
    ):
        input = {"path": str(tmp_path / "gate")}
        session = gateway.begin("wait_for", input, session="new")["session_id"]
        until(lambda: gateway.client.get(f"/sessions/{session}").json()["data"]["state"] == "busy")
        gateway.begin("run", session=session)
        refused = gateway.client.post("/apps/run", json={"app": "zoo", "session": session})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["code"] == "QUEUE_FULL" and "session" not in refused.json()["detail"]
        late = gateway.run("wait_for", input, timeout=0.1)
        assert late["error_code"] == "TIMEOUT" and "session" not in late["error"]


def test_another_keys_task_and_session_are_not_found(daemon: LocalClient, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    mine, theirs = ({"authorization": f"Bearer {keys.add(name)}"} for name in ("mine", "theirs"))
    with GatewayProcess(daemon.address, tmp_path, open=False) as gateway:
        body = {"app": "zoo", "session": "new", "wait": True}
        task = gateway.client.post("/apps/run", json=body, headers=mine).json()["data"]
        paths = [f"/tasks/{task['id']}{end}" for end in ("", "/status", "/stream", "/logs")]
        for path in (*paths, f"/sessions/{task['session_id']}"):
            assert gateway.client.get(path, headers=mine).status_code == 200
            assert gateway.client.get(path, headers=theirs).status_code == 404
        assert gateway.client.post(f"{paths[0]}/cancel", headers=theirs).status_code == 404
        body = {"app": "zoo", "session": task["session_id"]}
        answer = gateway.client.post("/apps/run", json=body, headers=theirs)
        assert (answer.status_code, answer.json()["code"]) == (404, "SESSION_NOT_FOUND")
        assert gateway.client.get("/sessions", headers=theirs).json()["data"] == []


def test_a_daemon_that_does_not_answer_holds_up_no_look(tmp_path: Path) -> None:
    with warmd.testing.daemon(app_folders=str(APPS)) as own, GatewayProcess(own.address, tmp_path) as gateway:
        task = gateway.begin("wait_for", {"path": str(tmp_path / "gate")}, session="new")
        until(lambda: gateway.task(task["id"])["status"] == 7)
        os.kill(own.daemon_pid, signal.SIGSTOP)
        try:
            with within(2 * LOOK_SECONDS):
                assert gateway.task(task["id"])["status"] == 7
            path = f"/tasks/{task['id']}/stream"
            with within(2 * LOOK_SECONDS), gateway.client.stream("GET", path) as stream:
                assert json.loads(next(stream.iter_lines()))["status"] == 7
        finally:
            os.kill(own.daemon_pid, signal.SIGCONT)
        (tmp_path / "gate").touch()
        until(lambda: gateway.task(task["id"])["status"] == 10)


async def test_a_run_that_is_begun_while_runs_are_taken_up_is_followed_once() -> None:
    facts = Facts("open", "zoo", "echo", b"1", 0.0, webhook="http://hook.example")
    info = {"id": "ab" * 16, "note": facts.note(), "function": "echo", "state": "running", "session": None}
    ends: list[Task] = []

    async def list_calls() -> list[Any]:
        return [info]

    async def result(*_: object) -> Any:
        return SimpleNamespace(output=1)

    async def encoded_end(*_: object) -> bytes:
        return b"1"

    async def submit(**_: object) -> Any:
        await tasks.resume()
        return SimpleNamespace(call_id=info["id"], session_id=None, result=result)

    client: Any = SimpleNamespace(submit=submit, calls=SimpleNamespace(list=list_calls, result=result))
    async def ended(_: str) -> None:
        return None

    parts: Any = SimpleNamespace(encoded_end=encoded_end, ended=ended)
    tasks = Tasks(client, parts, parts, parts, ends.append)
    task = await tasks.run(ANYBODY, run({"app": "zoo", "input": 1}), facts)
    async with asyncio.timeout(5.0):
        await asyncio.gather(*tasks._followers)
    assert ends == [task]
