"""Workers that take more memory than they may: contained, named as such, and nobody else's trouble."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import warmd
from tests.faults.watch import await_gone, error_of, until, within

if TYPE_CHECKING:
    from warmd.owndaemon import LocalClient

HOGS = f"{Path(__file__).parents[1] / 'zoo_memory.py'}:Hog"
LIMIT_MIB = 192
TOO_MUCH_MIB = 400
TOLD_SECONDS = 5.0
"""Filling it, half a second until the next measure, and the end of the tree."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon(worker_memory=f"{LIMIT_MIB}MiB", max_sessions=3, end_grace=1) as client:
        client.status()
        yield client


@pytest.fixture
def limited(daemon: LocalClient) -> Iterator[LocalClient]:
    yield daemon
    daemon.sessions.end(all=True)
    until(lambda: daemon.status().sessions == 0)


@pytest.mark.parametrize("how", ["one_block", "lists"])
def test_an_allocation_beyond_the_limit_is_a_memory_error_and_the_session_lives_on(
    limited: LocalClient, how: str
) -> None:
    session = limited.session(HOGS)
    pid = session.call("pid").output
    error = error_of(lambda: session.call(how, {"mib": TOO_MUCH_MIB}))
    assert (error.code, error.ran, error.details["type"]) == ("APP_ERROR", "yes", "MemoryError")
    assert session.call("pid").output == pid
    found = psutil.Process(pid).memory_info()
    assert found.rss - found.shared <= LIMIT_MIB * 2**20


@pytest.mark.parametrize(
    ("function", "given"),
    [
        ("mapped", {"mib": TOO_MUCH_MIB}),
        ("in_child", {"mib": TOO_MUCH_MIB, "orphaned": False}),
        ("in_child", {"mib": TOO_MUCH_MIB, "orphaned": True}),
    ],
)
def test_a_tree_over_the_limit_is_ended_and_the_error_says_why(
    limited: LocalClient, function: str, given: dict[str, object]
) -> None:
    other, session = limited.session(HOGS), limited.session(HOGS)
    neighbour, pid = other.call("pid").output, session.call("pid").output
    with within(TOLD_SECONDS):
        error = error_of(lambda: session.call(function, given))
    assert (error.code, error.ran, error.details["signal"]) == ("WORKER_DIED", "maybe", "SIGKILL")
    assert error.details["out_of_memory"] is True
    assert error.details["limit"] == LIMIT_MIB * 2**20 < error.details["used"]
    assert f"out of memory: {error.details['used'] / 2**20:.0f} MiB used, limit 192 MiB" in str(error)
    later = error_of(lambda: session.call("pid"))
    assert later.code == "SESSION_DIED" and "out of memory" in str(later)
    await_gone([pid])
    assert other.call("pid").output == neighbour


def test_what_forks_share_counts_once(limited: LocalClient) -> None:
    given = {"mib": LIMIT_MIB // 3, "forks": 4}
    assert limited.run(app=HOGS, session="new", function="shared_by_forks", input=given).output == 0


def test_a_kill_from_elsewhere_is_not_called_out_of_memory(limited: LocalClient) -> None:
    session = limited.session(HOGS)
    os.kill(session.call("pid").output, signal.SIGKILL)
    error = error_of(lambda: session.call("pid"))
    assert "memory" not in str(error) and "out_of_memory" not in error.details


def test_the_kernel_prefers_workers_and_their_children_to_the_daemon(limited: LocalClient) -> None:
    found = limited.run(app=HOGS, session="new", function="scores", input=sys.executable).output
    assert min(found) >= 500
    here = Path("/proc/self/oom_score_adj").read_text()
    assert Path(f"/proc/{limited.daemon_pid}/oom_score_adj").read_text() == here
