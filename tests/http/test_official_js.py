"""inference.sh's JavaScript client, as it is published, against the gateway: in Node, through tsx."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.watch import within
from tests.http.gatewayprocess import GatewayProcess
from warmd.http.keys import Keys
from warmd.owndaemon import LocalClient

SCRIPTS = Path(__file__).with_name("js")
INSTALLED = Path(__file__).parents[2] / "build" / "js"
LIMIT_SECONDS = 40.0

pytestmark = pytest.mark.skipif(
    not (INSTALLED / "node_modules" / "tsx").exists(),
    reason="needs Node and the packages of tests/http/js/package.json: `make .venv/js`, with npm",
)


@contextmanager
def node(script: str, gateway: GatewayProcess, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The script as a process: its packages are looked for beside it."""
    for path in SCRIPTS.glob("*.mts"):
        shutil.copy(path, INSTALLED)
    command = ["node", "--import", "tsx", f"{script}.mts", gateway.url, str(folder)]
    environment = {**os.environ, "TSX_DISABLE_CACHE": "1"}
    with subprocess.Popen(
        command, cwd=INSTALLED, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(script: str, gateway: GatewayProcess, folder: Path) -> dict[str, Any]:
    """What each of the script's scenarios came to: `value` or `error`."""
    with node(script, gateway, folder) as process:
        out, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0
    return {line.pop("name"): line for line in map(json.loads, out.splitlines())}


def test_runs(gateway: GatewayProcess, tmp_path: Path) -> None:
    found = {name: end.get("value", end) for name, end in told("runs", gateway, tmp_path).items()}
    assert found == {
        "a session is opened and used": {
            "first": {"input": {"a": 1}, "n": 1, "config": {"size": 3}},
            "second": {"input": {"a": 2}, "n": 2, "config": {"size": 3}},
            "same": True, "status": 10,
        },
        "without a session": {"said": [1, None, "x"]},
        "not waited for": {"answer": 2, "before": None, "after": "done"},
        "parts are updates": {
            "outputs": [0, 1, 2], "partial": 0, "output": {"i": 2}, "session": "string", "input": 3,
        },
        "many parts": {"output": {"i": 1999}, "updates": found["many parts"]["updates"]},
        "polled": {"output": 2, "last": 10},
        "polled many times": 21,
        "events": {"updates": True, "status": 10, "output": "done"},
        "a wait in the params": {"x": 1},
        "a Blob": {"name": found["a Blob"].get("name"), "text": "from a blob"},
        "a data address": {"name": found["a data address"].get("name"), "text": "hello"},
        "what looks like base64": "string",
        "an output that is a file": [108, ord("P")],
    }  # fmt: skip
    assert found["many parts"]["updates"] > 1000


def test_failures(gateway: GatewayProcess, tmp_path: Path) -> None:
    errors = {name: end.get("error", end) for name, end in told("failures", gateway, tmp_path).items()}
    for name in ("an app error", "an app error, polled"):
        assert errors.pop(name) == {"name": "Error", "message": "ValueError: no such row"}
    for name in ("a cancel, streamed", "a cancel, polled"):
        assert errors.pop(name) == {"name": "Error", "message": "task cancelled"}
    assert "session" in errors.pop("a death")["message"]
    codes = {
        "an unknown app": (404, "APP_NOT_FOUND"),
        "an unknown field": (400, "INVALID"),
        "an unknown task": (404, "NOT_FOUND"),
        "a session that never was": (404, "SESSION_NOT_FOUND"),
        "a session that ended": (410, "SESSION_ENDED"),
        "a session that expired": (410, "SESSION_EXPIRED"),
        "a keepalive of a session that is gone": (410, "SESSION_ENDED"),
    }
    assert errors.keys() == codes.keys()
    for name, error in errors.items():
        problem = json.loads(error["body"])
        assert (error["name"], error["status"], problem["code"]) == ("InferenceError", *codes[name])
        assert error["message"] == f"HTTP {error['status']}: {problem['detail']}"
        assert "session not found" in error["message"] or not problem["code"].startswith("SESSION")


def test_sessions(gateway: GatewayProcess, tmp_path: Path) -> None:
    found = {name: end.get("value", end) for name, end in told("sessions", gateway, tmp_path).items()}
    assert found == {
        "the manager comes to a new session": {"counts": [2, 2, 2], "sessions": 3},
        "the manager leaves an app error alone": {"message": "ValueError: no such row", "same": True},
        "the check of the Express sample": 0,
        "the sessions api": {
            "info": [True, "active", 20, 1], "listed": True, "kept": True, "ended": None, "after": "ended",
        },
        "many at once in one session": list(range(2, 10)),
    }  # fmt: skip


def test_a_long_silence(daemon: LocalClient, tmp_path: Path) -> None:
    with GatewayProcess(daemon.address, tmp_path, repeat_seconds=0.05) as gateway:
        assert told("silence", gateway, tmp_path)["a long silence"]["value"] == {
            "output": "done",
            "updates": True,
        }


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_gateway_that_stops_is_heard_of(daemon: LocalClient, tmp_path: Path, how: signal.Signals) -> None:
    with GatewayProcess(daemon.address, tmp_path) as gateway, node("cut", gateway, tmp_path) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["name"] == "begun"
        with within(5.0):
            gateway.stop(how)
            rest = [json.loads(line) for line in process.stdout]
    assert rest[-1]["error"]["message"] == "terminated"
    (tmp_path / "never").touch()


def test_without_a_key_through_the_proxy(daemon: LocalClient, tmp_path: Path) -> None:
    Keys(tmp_path / "keys").add("web", ("run", "read"))
    with GatewayProcess(daemon.address, tmp_path, open=False, proxy_key="web") as gateway:
        found = {name: end.get("value", end) for name, end in told("proxy", gateway, tmp_path).items()}
    assert found == {
        "a session": [2, "active", True],
        "a stream": [2, [0, 1, 2]],
        "polled": {"x": 1},
        "a Blob": "from a blob",
    }
