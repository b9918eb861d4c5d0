"""Sessions that are ready before anybody asks: by the command line, and by both clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.faults.watch import until
from warmd.cli import main

APP = """
import time
class App:
    def setup(self, config=None):
        time.sleep((config or {}).get("seconds", 0.3))
        self.config = config
    def run(self, input=None):
        return self.config
"""


@pytest.fixture
def daemon() -> Iterator[warmd.Client]:
    with warmd.testing.daemon() as client:
        client.status()
        yield client


@pytest.fixture
def app(tmp_path: Path) -> str:
    path = tmp_path / "slow_start.py"
    path.write_text(APP)
    return f"{path}:App"


def spares(client: warmd.Client) -> list[str]:
    return [info.id for info in client.sessions.list() if info.kind == "spare" and info.state == "idle"]


def test_a_spare_makes_a_new_session_a_warm_one(daemon: warmd.Client, app: str) -> None:
    (ready,) = daemon.warm(app, setup={"seconds": 0.3})
    assert ready.timing.cold and ready.timing.setup > 0.25
    assert spares(daemon) == [ready.session_id]
    result = daemon.run(app=app, session="new", setup={"seconds": 0.3})
    assert result.session_id == ready.session_id
    assert result.output == {"seconds": 0.3} and not result.timing.cold
    until(lambda: len(spares(daemon)) == 1)
    assert spares(daemon) != [ready.session_id]


def test_so_for_the_asyncio_client(daemon: warmd.Client, app: str) -> None:
    async def warm() -> list[warmd.Result]:
        async with warmd.AsyncClient(daemon.address) as client:
            return await client.warm(app, spares=2, session_timeout="1m")

    ready = asyncio.run(warm())
    assert sorted(spares(daemon)) == sorted(result.session_id for result in ready)


def test_one_that_nobody_takes_ends(daemon: warmd.Client, app: str) -> None:
    daemon.warm(app, session_timeout=1)
    until(lambda: daemon.status().sessions == 0)


@pytest.mark.parametrize("spares", [0, -1, 1001, "two", None, True])
def test_how_many_there_may_be(daemon: warmd.Client, spares: Any) -> None:
    with pytest.raises(warmd.Invalid, match="from 1 to 1000"):
        daemon.warm("counter", spares=spares)


def test_more_than_there_are_places_is_told_and_leaves_none(app: str) -> None:
    with warmd.testing.daemon(max_sessions=2) as daemon:
        with pytest.raises(warmd.Rejected, match="max_sessions"):
            daemon.warm(app, spares=3, setup={"seconds": 5})
        until(lambda: daemon.status().sessions == 0)


def test_the_command(daemon: warmd.Client, app: str, capsys: pytest.CaptureFixture[str]) -> None:
    host = ["--host", daemon.address]
    assert main([*host, "warm", app, "--spares", "2", "--setup", '{"seconds": 0}', "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["spares"]) == sorted(spares(daemon))
    assert main([*host, "warm", app]) == 0
    assert "a session of" in capsys.readouterr().out
    assert main([*host, "ps"]) == 0
    assert capsys.readouterr().out.count(" spare ") == 3
    assert main([*host, "warm", app, "--setup", "{"]) == 2
