"""One real daemon for all fault tests that do not kill it; each test must leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

import warmd
from tests.faults.watch import PATIENCE_SECONDS, until
from warmd.owndaemon import LocalClient

MAX_SESSIONS = 64
REAPED_SECONDS = 2.0
"""By then the last orphans are off the process table."""


@pytest.fixture(scope="session")
def shared_daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon(max_sessions=MAX_SESSIONS, session_timeout=60, end_grace=1) as client:
        client.status()  # connects now: the leak check of each test must not count it
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


def _relatives(client: LocalClient) -> list[int]:
    """The daemon's children that are no resource trackers, zombies included."""
    children = psutil.Process(client.daemon_pid).children(recursive=True)
    return [child.pid for child in children if "resource_tracker" not in " ".join(_command(child))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
