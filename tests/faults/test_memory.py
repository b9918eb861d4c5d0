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
from tests.faults.watch import await_gone, error_of, open_all, until, within

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
        open_all(client)
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


@pytest.mark.parametrize(("how", "says"), [("one_block", "MemoryError"), ("mapped", "out of memory")])
def test_a_hog_in_setup_is_a_failed_start_that_says_why(limited: LocalClient, how: str, says: str) -> None:
    for _ in range(2):
        with within(TOLD_SECONDS):
            error = error_of(lambda: limited.session(HOGS, setup=(how, TOO_MUCH_MIB)))
        assert (error.code, error.ran) == ("START_FAILED", "no") and says in str(error)
    until(lambda: limited.status().sessions == 0)


def test_without_the_rlimit_a_fast_hog_is_ended_by_the_measure() -> None:
    limits = {"worker_memory": f"{LIMIT_MIB}MiB", "worker_memory_rlimit": False}
    with warmd.testing.daemon(**limits) as client, client.session(HOGS) as other:
        neighbour = other.call("pid").output
        session = client.session(HOGS)
        with within(TOLD_SECONDS):
            error = error_of(lambda: session.call("fast", {"mib": 8 * LIMIT_MIB}))
        assert (error.code, error.details["out_of_memory"]) == ("WORKER_DIED", True)
        assert other.call("pid").output == neighbour


def test_a_hog_in_the_pool_costs_its_call_alone(limited: LocalClient) -> None:
    calls = [limited.submit(app=HOGS, function="pid") for _ in range(3)]
    hog = limited.submit(app=HOGS, function="mapped", input={"mib": TOO_MUCH_MIB})
    calls += [limited.submit(app=HOGS, function="pid") for _ in range(10)]
    assert error_of(hog.result).details["out_of_memory"] is True
    assert all(call.result(20).output > 0 for call in calls)


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
