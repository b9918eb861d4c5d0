"""The session manager's script, and the types of all of the example."""

from __future__ import annotations

import re
import subprocess

from tests.http.gatewayprocess import GatewayProcess
from tests.typescript.express import EXAMPLE, PROGRAMS, environment
from warmd.owndaemon import LocalClient

LIMIT_SECONDS = 30.0


def recovery(url: str, key: str | None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", "--import", "tsx", "recovery/main.ts"],
        cwd=EXAMPLE,
        env=environment(url, key),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def test_a_session_that_is_gone_is_replaced(gateway: GatewayProcess, key: str, daemon: LocalClient) -> None:
    done = recovery(gateway.url, key)
    assert done.returncode == 0, done.stderr
    # `init` ran first in each: the counter stands at 2 after one call of ours.
    found = re.findall(r"session (sess_[0-9a-f]{32}): 2(.*)", done.stdout)
    assert [why for _, why in found] == ["", ", after the first was ended", ", after the second has expired"]
    assert len({id for id, _ in found}) == 3
    assert daemon.sessions.list() == []


def test_without_a_key_it_says_how_to_get_one(gateway: GatewayProcess) -> None:
    done = recovery(gateway.url, None)
    assert done.returncode == 1
    assert "WARMD_KEY is not set" in done.stderr and "warmd http keys add" in done.stderr


def test_types() -> None:
    done = subprocess.run(
        [PROGRAMS / "tsc", "--noEmit"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
