"""Runs over HTTP: the answer at once, the end, the refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.gatewayprocess import GatewayProcess


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


@pytest.mark.parametrize(("query", "status"), [("wait=true", 10), ("wait=1", 10), ("wait=no", 2), ("", 2)])
def test_the_query_may_ask_to_wait(http: httpx.Client, query: str, status: int, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    if status == 10:
        gate.touch()
    body = {"app": "zoo", "function": "wait_for", "input": {"path": str(gate)}}
    assert http.post(f"/apps/run?{query}", json=body).json()["data"]["status"] == status
    gate.touch()


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
