"""Runs over HTTP: the answer at once, the end, the refusals."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.faults.watch import until
from tests.http.gatewayprocess import GatewayProcess
from warmd.http.replies import MOST_VALUES
from warmd.owndaemon import LocalClient


def post(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/apps/run", json={"app": "zoo", **body})


def test_a_run_is_answered_at_once_with_its_session(http: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    told = post(http, function="wait_for", input={"path": str(gate)}, session="new").json()
    assert told["success"] is True
    task = told["data"]
    assert (task["status"], task["output"], task["function"]) == (2, None, "wait_for")
    assert task["session_id"].startswith("sess_")
    gate.touch()
    last = http.get(f"/tasks/{task['id']}/stream").text.splitlines()[-1]
    assert '"status":10' in last and '"output":"done"' in last


def test_a_run_can_be_waited_for(gateway: GatewayProcess) -> None:
    task = gateway.run("run", {"x": 1}, session="new")
    assert task["output"] == {"input": {"x": 1}, "n": 1, "config": None}
    again = gateway.run("run", [2], session=task["session_id"])
    assert (again["output"]["n"], again["session_id"]) == (2, task["session_id"])


@pytest.mark.parametrize(
    ("app", "function"), [("zoo", "echo"), ("me/zoo@latest:echo", None), ("x/me/zoo@7a:echo", None)]
)
def test_an_app_has_one_version_and_its_function_may_stand_behind_it(
    http: httpx.Client, app: str, function: str | None
) -> None:
    body = {"app": app, "function": function, "input": "said", "wait": True}
    assert http.post("/apps/run", json=body).json()["data"]["output"] == "said"


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"app": "nix"}, 404, "APP_NOT_FOUND", "there is no app 'nix'"),
        ({"app": "zoo", "sesion": "new"}, 400, "INVALID", "did you mean 'session'"),
        ({"app": "/etc/x.py"}, 400, "INVALID", "the name of an app"),
        ({"app": 3}, 400, "INVALID", "the daemon knows, got 3"),
        ({"app": "zoo", "session": "new", "session_timeout": 5000}, 400, "INVALID", "session_timeout"),
        ({"app": "zoo", "session": "sess_1"}, 404, "SESSION_NOT_FOUND", "session not found: sess_1"),
        ({"app": "zoo", "webhook": "ftp://x"}, 400, "INVALID", "webhook"),
        ({"app": "zoo", "run_at": "2030-01-01"}, 400, "INVALID", "run_at"),
        ({"input": 1}, 400, "INVALID", "app: missing; give the name"),
        ([], 400, "INVALID", "expected an object"),
    ],
)
def test_what_is_refused_names_the_value_and_the_remedy(
    http: httpx.Client, body: Any, status: int, code: str, says: str
) -> None:
    answer = http.post("/apps/run", json=body)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert says in problem["detail"]
    assert problem["type"].endswith(f"/errors/{code}")


def test_a_function_that_is_none_fails_the_run(gateway: GatewayProcess) -> None:
    task = gateway.run("nix")
    assert (task["status"], task["error_code"], task["ran"]) == (11, "FUNCTION_NOT_FOUND", "no")
    assert "no function 'nix'" in task["error"]


def test_an_apps_error_is_its_type_and_text_and_the_rest_is_in_the_logs(
    gateway: GatewayProcess, http: httpx.Client
) -> None:
    task = gateway.run("raise_error", {"text": "no such row"}, session="new")
    assert (task["status"], task["error"]) == (11, "ValueError: no such row")
    (log,) = http.get(f"/tasks/{task['id']}/logs").json()["data"]
    assert log["log_type"] == 1 and "raise ValueError(text)" in log["content"]


def test_the_death_of_a_worker_says_session(gateway: GatewayProcess) -> None:
    task = gateway.run("die", session="new")
    assert task["status"] == 11 and "session" in task["error"] and "SIGKILL" in task["error"]


@pytest.mark.parametrize(("session", "told"), [("new", True), (None, False)])
def test_what_a_shared_worker_printed_is_for_nobodys_eyes(
    gateway: GatewayProcess, session: str | None, told: bool
) -> None:
    """It may be about the run of another key."""
    task = gateway.run("die", {"says": "hunter2"}, session=session)
    assert ("hunter2" in task["error"]) is told and "SIGKILL" in task["error"]


@pytest.mark.parametrize(("wait", "status"), [("true", 10), ("20s", 10), ("20", 10), ("false", 2)])
def test_the_address_may_say_how_long_to_wait(http: httpx.Client, wait: str, status: int) -> None:
    body = {"app": "zoo", "function": "echo", "input": 1, "session": "new"}
    task = http.post("/apps/run", params={"wait": wait}, json=body).json()["data"]
    assert task["status"] == status


def test_no_time_to_wait_is_refused(http: httpx.Client) -> None:
    answer = http.post("/apps/run", params={"wait": "soon"}, json={"app": "zoo"})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID")
    assert "'soon'" in answer.json()["detail"]


@pytest.mark.parametrize("depth", [260, 900])
def test_an_input_may_be_nested_only_so_deep(http: httpx.Client, depth: int) -> None:
    body = '{"app": "zoo", "function": "echo", "input": ' + "[" * depth + "]" * depth + "}"
    answer = http.post("/apps/run", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID")
    assert "nested" in answer.json()["detail"]


def test_a_body_may_have_only_so_many_values(http: httpx.Client) -> None:
    """While they are read nobody else is served."""
    body = '{"app": "zoo", "input": [' + "[]," * MOST_VALUES + "1]}"
    answer = http.post("/apps/run", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    assert f"the limit is {MOST_VALUES}" in answer.json()["detail"]


def test_those_who_do_not_read_a_large_answer_share_it(daemon: LocalClient, tmp_path: Path) -> None:
    with GatewayProcess(daemon.address, tmp_path) as gateway, contextlib.ExitStack() as opened:
        task = gateway.run("echo", "x" * 20_000_000)
        assert gateway.task(task["id"])["output"] == task["output"]
        url, before = gateway.client.base_url, resident(gateway)
        for _ in range(8):
            lazy = opened.enter_context(socket.create_connection((url.host, url.port or 0)))
            lazy.sendall(f"GET /tasks/{task['id']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert lazy.recv(20).startswith(b"HTTP/1.1 200")
        assert resident(gateway) - before < 20_000_000


def resident(gateway: GatewayProcess) -> int:
    return int(psutil.Process(gateway.process.pid).memory_info().rss)


def test_the_body_says_whether_to_wait_before_the_address_does(http: httpx.Client, tmp_path: Path) -> None:
    body = {"app": "zoo", "function": "wait_for", "input": {"path": str(tmp_path / "gate")}, "wait": False}
    assert http.post("/apps/run", params={"wait": "true"}, json=body).json()["data"]["status"] == 2
    (tmp_path / "gate").touch()


def test_a_wait_that_is_over_before_the_run_tells_how_far_it_is(
    gateway: GatewayProcess, http: httpx.Client, tmp_path: Path
) -> None:
    input = {"n": 2, "folder": str(tmp_path)}
    body = {"app": "zoo", "function": "step_by_step", "input": input, "session": "new", "wait": "2s"}
    task = http.post("/apps/run", json=body).json()["data"]
    assert (task["status"], task["output"]) == (7, {"i": 0})
    for n in range(2):
        (tmp_path / str(n)).touch()
    until(lambda: gateway.task(task["id"])["status"] == 10)
