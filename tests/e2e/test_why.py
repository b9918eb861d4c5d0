"""`warmd why` against a real daemon: what runs, hangs, was ended and died."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import warmd
from tests.daemon.rawclient import RawClient
from warmd.cli import main
from warmd.protocol.errors import WorkerDied
from warmd.protocol.messages import AppRef, Call, CallId

APP = """
import os, signal, time
class App:
    def run(self):
        pass
    def stuck(self, path):
        open(path, "w").close()
        time.sleep(60)
    def sleep(self):
        time.sleep(60)
    def die(self):
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.Client]:
    with warmd.local() as found:
        found.status()
        yield found


@pytest.fixture
def app(tmp_path: Path) -> str:
    (tmp_path / "app.py").write_text(APP)
    return f"{tmp_path}/app.py"


def test_a_hang_is_named_with_its_line(client: warmd.Client, app: str, tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    with client.session(app) as session:
        call = client.submit(app=app, function="stuck", input={"path": str(started)}, session=session.id)
        started.open().close()  # the function has been entered
        told = client.why(session.id)
        while told["running_for"] < 0.5:
            told = client.why(call.call_id)
        assert f"{app}:8 in stuck" in client.why(session.id)["text"]
        assert f"{app}:8 in stuck" in client.why(call.call_id)["text"]
        assert not call.done(), "the look at it has not ended its sleep"


def test_a_second_hang_is_named_like_the_first(client: warmd.Client, app: str, tmp_path: Path) -> None:
    """The first was stopped, for which its stack was taken too."""
    started = tmp_path / "started"
    os.mkfifo(started)
    with client.session(app) as session:
        with contextlib.suppress(warmd.CallTimeout):
            session.call("sleep", timeout=0.2)
        session.submit("stuck", {"path": str(started)})
        started.open().close()
        while client.why(session.id)["running_for"] < 0.5:
            pass
        assert f"{app}:8 in stuck" in client.why(session.id)["text"]


def test_who_has_ended_it(client: warmd.Client, app: str) -> None:
    session = client.session(app, name="short")
    client.sessions.end(session.id)
    told = client.why(session.id)
    assert told["state"] == "ended"
    assert f"(pid {os.getpid()})" in told["text"]
    assert client.why("short")["id"] == session.id


def test_what_has_killed_it(client: warmd.Client, app: str) -> None:
    session = client.session(app)
    with contextlib.suppress(WorkerDied):
        session.call("die")
    told = client.why(session.id)
    assert (told["state"], told["signal"], told["function"]) == ("died", "SIGKILL", "die")
    assert "last words" in told["text"]


def test_the_asyncio_client_asks_the_same(client: warmd.Client) -> None:
    async def ask() -> str:
        async with warmd.AsyncClient(client.address) as asked:
            return str((await asked.why("nothing"))["state"])

    assert asyncio.run(ask()) == "unknown"


def test_the_command(client: warmd.Client, app: str, capsys: pytest.CaptureFixture[str]) -> None:
    with client.session(app) as session:
        assert main(["--host", client.address, "why", session.id[5:12]]) == 0
        assert "is idle for" in capsys.readouterr().out
        assert main(["--host", client.address, "why", session.id, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["schema_version"], facts["state"], facts["id"]) == (1, "idle", session.id)
    assert main(["--host", client.address, "why", "f" * 32]) == 3
    assert "sessions do not survive a restart" in capsys.readouterr().out


def test_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", f"{tmp_path}/warmd.sock", "why", "x"]) == 69
    assert "no daemon runs at" in capsys.readouterr().out


def test_a_call_that_was_too_large_for_the_door() -> None:
    with (
        warmd.local(max_message_bytes="64KiB") as client,
        RawClient(Path(str(client.status()["run_dir"]))) as raw,
    ):
        half = b"x" * 40_000
        big = Call(CallId(b"B" * 16), "new", AppRef("counter"), "run", input=half, setup=half)
        raw.send(big)
        assert raw.answer(big.id).code == "TOO_LARGE"
        assert "was refused" in client.why(big.id.hex())["text"]
        assert "TOO_LARGE" in client.why(big.id.hex())["text"]
