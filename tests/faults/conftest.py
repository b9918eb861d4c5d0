"""One real daemon for all fault tests that do not kill it; each test must leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import warmd
from tests.faults.watch import PATIENCE_SECONDS, open_all, undisturbed, until
from warmd.owndaemon import LocalClient

MAX_SESSIONS = 64
GROWTH_BYTES = 64 * 2**20
REAPED_SECONDS = 2.0
"""By then the last orphans are off the process table."""


@pytest.fixture(scope="session")
def shared_daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon(max_sessions=MAX_SESSIONS, session_timeout=60, end_grace=1) as client:
        open_all(client)
        yield client


@pytest.fixture
def client(shared_daemon: LocalClient) -> Iterator[LocalClient]:
    """A client of the shared daemon; afterwards all places must be free and nothing left of any tree."""
    client = shared_daemon
    yield client
    client.sessions.end(all=True)
    until(lambda: client.status().sessions == 0, PATIENCE_SECONDS)
    assert client.sessions.list() == []
    until(lambda: not _relatives(client), REAPED_SECONDS)


@pytest.fixture
def unharmed(client: LocalClient) -> Iterator[LocalClient]:
    """The daemon is the same process afterwards, hardly larger, undisturbed all the while, and met nothing
    that it did not expect."""
    daemon = psutil.Process(client.daemon_pid)
    before = daemon.memory_info().rss
    forget_peak(daemon.pid)
    log = client._daemon.log_path
    read = log.stat().st_size
    with undisturbed(client.address):
        yield client
    assert client.status().pid == daemon.pid
    told = log.read_bytes()[read:].decode(errors="replace").splitlines()
    assert not [line for line in told if " error " in line or " critical " in line], told
    grown = peak_bytes(daemon.pid) - before
    assert grown < GROWTH_BYTES, f"the daemon grew by {grown} bytes"


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most memory that the process has had since `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _relatives(client: LocalClient) -> list[int]:
    """The daemon's children that are no resource trackers and no templates, zombies included."""
    templates = {template["pid"] for template in client.status().templates}
    children = psutil.Process(client.daemon_pid).children(recursive=True)
    others = [child for child in children if "resource_tracker" not in " ".join(_command(child))]
    return [child.pid for child in others if child.pid not in templates]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
