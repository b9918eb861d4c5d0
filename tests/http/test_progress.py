"""How far a run is, told over HTTP as the app tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.watch import until
from tests.http.gatewayprocess import PATIENCE_SECONDS, GatewayProcess
from warmd.http.progress import json_of


def told_by(lines: Any, name: str) -> dict[str, Any]:
    """The line that says so."""
    return next(
        task for line in lines if ((task := json.loads(line))["progress"] or {}).get("file") == name
    )


def test_a_stream_hears_of_it_without_waiting_for_anything_else(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    id = gateway.begin("tells_of", {"folder": str(tmp_path)}, session="new")["id"]
    with httpx.stream("GET", f"{gateway.url}/tasks/{id}/stream", timeout=PATIENCE_SECONDS) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["progress"] is None
        for name in ("one", "two"):
            (tmp_path / name).touch()
            task = told_by(lines, name)
            assert (task["status"], task["progress"]) == (7, {"file": name, "of": [1, 2]})
        (tmp_path / "done").touch()
        *_, last = map(json.loads, lines)
    assert (last["status"], last["output"]) == (10, "done")


def test_several_streams_hear_it_and_one_may_leave(gateway: GatewayProcess, tmp_path: Path) -> None:
    id = gateway.begin("tells_of", {"folder": str(tmp_path)}, session="new")["id"]
    address = f"{gateway.url}/tasks/{id}/stream"
    with httpx.stream("GET", address, timeout=PATIENCE_SECONDS) as stays:
        lines = stays.iter_lines()
        with httpx.stream("GET", address, timeout=PATIENCE_SECONDS) as leaves:
            (tmp_path / "one").touch()
            assert told_by(leaves.iter_lines(), "one") and told_by(lines, "one")
        (tmp_path / "two").touch()
        assert told_by(lines, "two")
        (tmp_path / "done").touch()
        assert json.loads([*lines][-1])["output"] == "done"


def test_who_asks_once_is_told_too(gateway: GatewayProcess, http: httpx.Client, tmp_path: Path) -> None:
    id = gateway.begin("tells_of", {"folder": str(tmp_path)}, session="new")["id"]
    (tmp_path / "one").touch()
    until(lambda: http.get(f"/tasks/{id}").json()["data"]["progress"] == {"file": "one", "of": [1, 2]})
    (tmp_path / "done").touch()


@pytest.mark.parametrize(
    ("value", "json"),
    [
        ({"n": 1}, b'{"n":1}'),
        (b"bytes", b"null"),
        ({1: "", "1": ""}, b"null"),
        ((1, float("nan")), b"[1,null]"),
    ],
)
def test_what_json_cannot_have_is_null(value: object, json: bytes) -> None:
    assert json_of(value) == json
