"""The gateway as a process: how it starts, and how it ends."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest

import warmd
from tests.faults.watch import until, within
from tests.http.conftest import APPS
from tests.http.gatewayprocess import PATIENCE_SECONDS, GatewayProcess
from warmd.http.keeper import HEALTHY_SECONDS, keep
from warmd.owndaemon import LocalClient

TAKEN = "somebody listens there already, perhaps another gateway: choose another port"


@pytest.fixture
def own(daemon: LocalClient, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(daemon.address, tmp_path) as found:
        yield found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_cuts_streams_and_lets_requests_end(
    daemon: LocalClient, own: GatewayProcess, tmp_path: Path, how: signal.Signals
) -> None:
    gate = tmp_path / "gate"
    begin = {"app": "zoo", "function": "wait_for", "input": {"path": str(gate)}, "session": "new"}
    task = own.client.post("/apps/run", json=begin).json()["data"]
    with httpx.stream("GET", f"{own.url}/tasks/{task['id']}/stream", timeout=PATIENCE_SECONDS) as stream:
        lines = stream.iter_lines()
        assert '"session_id"' in next(lines)
        assert own.stop(how) == 0
        with pytest.raises(httpx.RemoteProtocolError):  # never a clean end without a last line
            list(lines)
    assert "Traceback" not in own.said() and "without completing" not in own.said()
    gate.touch()
    assert daemon.calls.result(task["id"].removeprefix("task_")).output == "done", "the run lived on"


def test_who_waits_for_a_run_is_told_how_far_it_is(own: GatewayProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = {"app": "zoo", "function": "wait_for", "input": {"path": str(gate)}, "session": "new"}
    body = {**run, "wait": True}
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=own.url, timeout=PATIENCE_SECONDS) as http:
        waits = pool.submit(http.post, "/apps/run", json=body)
        until(lambda: own.client.get("/tasks").json()["data"])
        with within(2.0):
            assert own.stop() == 0
        answer = waits.result(PATIENCE_SECONDS)
    assert answer.status_code == 200 and answer.json()["data"]["status"] < 10
    assert "Traceback" not in own.said()
    gate.touch()


def test_an_address_that_is_taken_is_said_in_a_sentence(daemon: LocalClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ["--host", daemon.address, "http", "--http-open", "--listen", listen]
        said = subprocess.run(
            [sys.executable, "-m", "warmd", *words], capture_output=True, text=True, timeout=30, check=False
        )
    assert (said.returncode, said.stdout) == (69, "")
    assert said.stderr == f"warmd: cannot listen at {listen}: {TAKEN}\n"


def test_a_daemon_that_is_away_is_503_until_it_is_back(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    address = f"unix://{run_dir}/warmd.sock"
    with GatewayProcess(address, tmp_path / "gateway") as gateway:
        for _ in range(2):
            answer = gateway.client.post("/apps/run", json={"app": "zoo"})
            assert (answer.status_code, answer.json()["code"]) == (503, "DAEMON_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) >= 1
            assert gateway.client.get("/readyz").status_code == 503
            assert gateway.client.get("/healthz").status_code == 200
            with _daemon(run_dir):
                until(lambda: gateway.client.get("/readyz").status_code == 200, PATIENCE_SECONDS)
                assert gateway.run("echo", "hello")["output"] == "hello"


def test_the_gateway_of_a_daemon_is_started_again_and_ends_with_it(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with _daemon(run_dir, "--http", "127.0.0.1:0", "--http-open") as daemon:
        url = _url_of(daemon)
        assert httpx.get(f"{url}/readyz").status_code == 200
        (keeper,) = [child for child in _children(daemon) if "--lifeline-fd" in child.cmdline()]
        (server,) = until(keeper.children, PATIENCE_SECONDS)
        server.kill()
        again = _url_of(daemon)
        assert again != url
        assert httpx.get(f"{again}/readyz").status_code == 200
        with warmd.Client(f"unix://{run_dir}/warmd.sock") as client:
            assert client.run(app="zoo", function="echo", input=1).output == 1
        (server,) = until(keeper.children, PATIENCE_SECONDS)
    until(lambda: not keeper.is_running() and not server.is_running(), PATIENCE_SECONDS)


def test_what_is_hopeless_is_not_tried_again(capfd: pytest.CaptureFixture[str]) -> None:
    lifeline, end = os.pipe()
    try:
        assert keep([sys.executable, "-c", "raise SystemExit(78)"], lifeline) == 78
        assert capfd.readouterr().err == ""
    finally:
        os.close(lifeline)
        os.close(end)


def test_a_gateway_that_was_well_is_started_again_soon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lives = [1.0, 1.0, HEALTHY_SECONDS, 1.0]
    times = itertools.accumulate(itertools.chain([0.0], *((life, 0.0) for life in lives)))
    monkeypatch.setattr("warmd.http.keeper.time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr("warmd.http.keeper.FIRST_PAUSE_SECONDS", 0.01)
    lifeline, end = os.pipe()
    count = tmp_path / "count"
    script = f"echo >> {count}; [ $(wc -l < {count}) = {len(lives)} ] && exit 78; exit 1"
    try:
        assert keep(["/bin/sh", "-c", script], lifeline) == 78
    finally:
        os.close(lifeline)
        os.close(end)
    pauses = [line.rpartition(" ")[2] for line in capfd.readouterr().err.splitlines()]
    assert pauses == ["0.01s", "0.02s", "0.01s"]


def test_a_stuck_gateway_does_not_outlive_its_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmd.http.keeper.ENDING_SECONDS", 0.2)
    lifeline, end = os.pipe()
    codes: list[int] = []
    stuck = [sys.executable, "-c", "import time; time.sleep(1000)"]
    keeper = threading.Thread(target=lambda: codes.append(keep(stuck, lifeline)))
    keeper.start()
    until(lambda: psutil.Process().children(), PATIENCE_SECONDS)
    began = time.monotonic()
    os.close(end)
    keeper.join(PATIENCE_SECONDS)
    os.close(lifeline)
    assert codes == [-signal.SIGKILL]
    assert time.monotonic() - began < 5.0


class _daemon:
    """`warmd serve` in a directory of its own."""

    def __init__(self, run_dir: Path, *words: str) -> None:
        ready, ready_end = os.pipe()
        command = [sys.executable, "-m", "warmd", "serve", "--run-dir", str(run_dir)]
        command += ["--app-folders", str(APPS)]
        self.log = run_dir.with_suffix(".log")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, "--ready-fd", str(ready_end), *words], pass_fds=[ready_end], stderr=log
            )
        os.close(ready_end)
        with open(ready) as told:
            assert told.read() == "ready\n", self.log.read_text()

    def __enter__(self) -> _daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)

    def urls(self) -> list[str]:
        """Where its gateways have said that they serve."""
        said = self.log.read_text().split()
        return [word for word in said if word.startswith("http://")]


def _url_of(daemon: _daemon) -> str:
    """Where the latest gateway serves that has not been asked for yet."""
    seen: int = getattr(daemon, "seen", 0)
    url: str = until(lambda: daemon.urls()[seen:], PATIENCE_SECONDS)[0]
    daemon.seen = seen + 1  # type: ignore[attr-defined]
    return url


def _children(daemon: _daemon) -> list[psutil.Process]:
    return psutil.Process(daemon.process.pid).children()
