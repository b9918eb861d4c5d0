"""Sessions without a client library: what is told of them, and how they end."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.faults.watch import until
from tests.http.gatewayprocess import GatewayProcess
from warmd.owndaemon import LocalClient

JSON = {"content-type": "application/json"}


def session_of(gateway: GatewayProcess, **more: object) -> str:
    return str(gateway.run("run", session="new", **more)["session_id"])


def test_what_is_told_of_a_session(gateway: GatewayProcess, http: httpx.Client) -> None:
    id = session_of(gateway, session_timeout=20)
    told = http.get(f"/sessions/{id}").json()["data"]
    assert (told["id"], told["status"], told["app_id"], told["call_count"]) == (id, "active", "zoo", 1)
    assert told["idle_timeout"] == 20 and told["task_id"] is None
    assert told["created_at"] <= told["last_call_at"] < told["expires_at"]


def test_the_task_that_runs_is_told(gateway: GatewayProcess, http: httpx.Client, tmp_path: Path) -> None:
    task = gateway.begin("wait_for", {"path": str(tmp_path / "gate")}, session="new")
    url = f"/sessions/{task['session_id']}"
    until(lambda: http.get(url).json()["data"]["task_id"] == task["id"])
    (tmp_path / "gate").touch()


def test_living_ones_are_listed(gateway: GatewayProcess, http: httpx.Client) -> None:
    ids = {session_of(gateway) for _ in range(2)}
    gone = ids.pop()
    assert http.delete(f"/sessions/{gone}", headers=JSON).status_code == 204
    listed = {told["id"] for told in http.get("/sessions").json()["data"]}
    assert ids <= listed and gone not in listed


def test_keepalive_needs_no_body(gateway: GatewayProcess, http: httpx.Client) -> None:
    id = session_of(gateway, session_timeout=25)
    before = http.get(f"/sessions/{id}").json()["data"]["expires_at"]
    after = http.post(f"/sessions/{id}/keepalive", headers=JSON).json()["data"]["expires_at"]
    assert after > before


def test_an_end_is_for_good_and_may_be_asked_for_again(gateway: GatewayProcess, http: httpx.Client) -> None:
    id = session_of(gateway)
    for _ in range(2):
        answer = http.delete(f"/sessions/{id}", headers=JSON)
        assert (answer.status_code, answer.content) == (204, b"")
    assert http.get(f"/sessions/{id}").json()["data"]["status"] == "ended"
    for method, path, body in (
        ("POST", "/apps/run", {"app": "zoo", "session": id}),
        ("POST", f"/sessions/{id}/keepalive", None),
    ):
        answer = http.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (410, "SESSION_ENDED")
        assert "session not found" in answer.json()["detail"]


def test_an_idle_one_expires(gateway: GatewayProcess, http: httpx.Client) -> None:
    id = session_of(gateway, session_timeout=1)
    until(lambda: http.get(f"/sessions/{id}").json()["data"]["status"] == "expired")
    answer = http.post("/apps/run", json={"app": "zoo", "session": id})
    assert (answer.status_code, answer.json()["code"]) == (410, "SESSION_EXPIRED")
    assert "session not found" in answer.json()["detail"]


def test_one_whose_worker_died_is_gone(gateway: GatewayProcess, http: httpx.Client) -> None:
    id = gateway.run("die", session="new")["session_id"]
    answer = http.post("/apps/run", json={"app": "zoo", "session": id})
    assert (answer.status_code, answer.json()["code"]) == (410, "SESSION_DIED")
    assert "session not found" in answer.json()["detail"]
    assert http.get(f"/sessions/{id}").json()["data"]["status"] == "ended"


@pytest.mark.parametrize("path", ["", "/keepalive"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_one_that_never_was(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, f"/sessions/sess_{'0' * 32}{path}", headers=JSON)
    if (method == "POST") != (path != ""):
        assert answer.status_code == 405
    else:
        assert (answer.status_code, answer.json()["code"]) == (404, "SESSION_NOT_FOUND")


def test_another_app_does_not_get_it(gateway: GatewayProcess, http: httpx.Client) -> None:
    id = session_of(gateway)
    answer = http.post("/apps/run", json={"app": "counter", "session": id})
    assert (answer.status_code, answer.json()["code"]) == (409, "APP_MISMATCH")
    assert gateway.run("run", session=id)["output"]["n"] == 2


def test_whose_session_it_is_the_daemon_knows(
    daemon: LocalClient, gateway: GatewayProcess, tmp_path: Path
) -> None:
    mine, other = session_of(gateway), daemon.run(app="zoo", session="new").session_id
    assert daemon.sessions.get(mine).labels == {"http-key": "open"}
    with GatewayProcess(daemon.address, tmp_path) as second:
        assert second.run("run", session=mine)["output"]["n"] == 2
        listed = {told["id"] for told in second.client.get("/sessions").json()["data"]}
    assert {mine, other} <= listed  # an open gateway is everybody's
