"""Who sees what: a key what it has made, an admin all, nobody else anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http.gatewayprocess import GatewayProcess
from warmd.http.keys import Keys
from warmd.owndaemon import LocalClient

SCOPES = {"ann": ("run", "read"), "bob": ("run", "read"), "looks": ("read",), "root": ("admin",)}
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
RUN = {"app": "zoo", "function": "run", "wait": True}


@pytest.fixture(scope="module")
def closed(daemon: LocalClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(daemon.address, tmp_path_factory.mktemp("closed"), open=False) as found:
        yield found


@pytest.fixture(scope="module")
def by(closed: GatewayProcess) -> dict[str, dict[str, str]]:
    """The headers of each key."""
    keys = Keys(closed.folder / "keys")
    return {name: {"Authorization": f"Bearer {keys.add(name, scopes)}"} for name, scopes in SCOPES.items()}


@pytest.fixture(scope="module")
def task(closed: GatewayProcess, by: dict[str, dict[str, str]]) -> Any:
    """One of ann's, in a session of its own."""
    answer = closed.client.post("/apps/run", json={**RUN, "session": "new"}, headers=by["ann"])
    return answer.json()["data"]


@pytest.mark.parametrize("path", ["/tasks", "/sessions", "/tasks/task_1", "/metrics", "/nix"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wk_x"}, {"Authorization": "Basic eDp5"}])
def test_without_a_key_nothing_is_told(closed: GatewayProcess, path: str, headers: dict[str, str]) -> None:
    answer = closed.client.get(path, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["code"] == "UNAUTHORIZED"


def test_health_needs_no_key(closed: GatewayProcess) -> None:
    assert closed.client.get("/healthz").status_code == closed.client.get("/readyz").status_code == 200


def test_what_is_anothers_is_as_if_it_were_not(
    closed: GatewayProcess, by: dict[str, dict[str, str]], task: Any
) -> None:
    session = task["session_id"]
    asked: list[tuple[str, str, int]] = [
        ("GET", f"/tasks/{task['id']}", 200),
        ("GET", f"/tasks/{task['id']}/stream", 200),
        ("GET", f"/tasks/{task['id']}/logs", 200),
        ("GET", f"/sessions/{session}", 200),
        ("POST", f"/sessions/{session}/keepalive", 200),
    ]
    for method, path, status in asked:
        statuses = [closed.client.request(method, path, headers=by[who]).status_code for who in by]
        theirs = 403 if method == "POST" else 404
        assert statuses == [status, 404, theirs, status], path
    refused = closed.client.post("/apps/run", json={**RUN, "session": session}, headers=by["bob"])
    nowhere = closed.client.post("/apps/run", json={**RUN, "session": "sess_1"}, headers=by["bob"])
    assert refused.status_code == nowhere.status_code == 404
    assert refused.json()["detail"].replace(session, "sess_1") == nowhere.json()["detail"]


def test_lists_tell_what_is_ones_own(
    closed: GatewayProcess, by: dict[str, dict[str, str]], task: Any
) -> None:
    for path, id in (("/sessions", task["session_id"]), ("/tasks", task["id"])):
        seen = {who: _ids(closed.client.get(path, headers=by[who])) for who in by}
        assert id in seen["ann"] and id in seen["root"]
        assert id not in seen["bob"] and id not in seen["looks"]


def test_a_key_does_what_its_scopes_name(closed: GatewayProcess, by: dict[str, dict[str, str]]) -> None:
    answer = closed.client.post("/apps/run", json=RUN, headers=by["looks"])
    assert answer.status_code == 403
    assert "`warmd http keys add NAME` makes one" in answer.json()["detail"]


def test_metrics_are_for_who_may_read(closed: GatewayProcess, by: dict[str, dict[str, str]]) -> None:
    statuses = {who: closed.client.get("/metrics", headers=by[who]).status_code for who in by}
    assert set(statuses.values()) == {200}
    runs = Keys(closed.folder / "keys").add("runs", ["run"])
    refused = closed.client.get("/metrics", headers={"Authorization": f"Bearer {runs}"})
    assert refused.status_code == 403 and "`warmd http keys add NAME`" in refused.json()["detail"]


def test_open_metrics_are_for_all_and_nothing_else_is(daemon: LocalClient, tmp_path: Path) -> None:
    with GatewayProcess(daemon.address, tmp_path, open=False, open_metrics=True) as gateway:
        for headers in ({}, {"Authorization": "Bearer wk_x"}, {"Accept": OPENMETRICS}):
            answer = gateway.client.get("/metrics", headers=headers)
            assert answer.status_code == 200 and "warmd_up 1.0" in answer.text
            # One format, which all scrapers take, whatever else they would rather have.
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert "# EOF" not in answer.text
        assert gateway.client.get("/tasks").status_code == 401


def test_a_revoked_key_is_none_from_the_next_request_on(closed: GatewayProcess) -> None:
    keys = Keys(closed.folder / "keys")
    headers = {"Authorization": f"Bearer {keys.add('guest')}"}
    assert closed.client.get("/tasks", headers=headers).status_code == 200
    keys.revoke("guest")
    assert closed.client.get("/tasks", headers=headers).status_code == 401


def test_an_open_gateway_ignores_keys(gateway: GatewayProcess) -> None:
    assert gateway.client.get("/tasks", headers={"Authorization": "Bearer nonsense"}).status_code == 200


def _ids(answer: httpx.Response) -> list[str]:
    return [one["id"] for one in answer.json()["data"]]
