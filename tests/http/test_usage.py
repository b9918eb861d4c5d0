"""What trees of processes use."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from warmd.http.usage import Process, Usage, _trees, is_process_behind
from warmd.protocol import places

CHILDREN = """
import os, sys
memory = bytearray(40_000_000)
child = os.fork()
if not child:
    os.setsid()
    own = bytearray(b"x" * 30_000_000)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def process(pid: int, parent: int, session: int = 1, ticks: int = 0) -> Process:
    return Process(pid, parent, session, ticks)


def pids(trees: dict[int, list[Process]]) -> dict[int, set[int]]:
    return {root: {one.pid for one in members} for root, members in trees.items()}


def test_a_tree_is_what_descends_from_its_root_and_what_its_session_has_left() -> None:
    found = {
        one.pid: one
        for one in [
            process(1, 0),
            process(10, 1, 10),  # the daemon
            process(20, 10, 20), process(21, 20, 20), process(22, 21, 22),  # a worker, and below it
            process(23, 10, 20),  # one that its parent has left
            process(24, 23, 99),  # and what is below that
            process(30, 10, 30),
            process(40, 1, 40), process(41, 40, 40),  # somebody else's
        ]
    }  # fmt: skip
    assert pids(_trees(found, {10, 20, 30, 77})) == {10: {10}, 20: {20, 21, 22, 23, 24}, 30: {30}}


@contextmanager
def two() -> Iterator[int]:
    """A process that has 40 MB and a child that has 30 MB more."""
    with subprocess.Popen([sys.executable, "-c", CHILDREN], stdin=-1, stdout=-1, text=True) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        for _ in range(2):
            assert parent.stdout.readline()
        yield parent.pid
        parent.stdin.close()


def test_memory_of_all_but_not_twice_what_is_shared() -> None:
    with two() as pid:
        measured = Usage().measure([pid, 2**22 + 1])
        assert set(measured) == {pid}, "one that is not there is left out"
        assert 40_000_000 + 30_000_000 < measured[pid].memory < 2 * 40_000_000 + 30_000_000 + 30_000_000


def test_time_of_the_processor_since_the_time_before() -> None:
    usage, pid = Usage(), os.getpid()
    began, used = time.monotonic(), sum(os.times()[:4])
    assert usage.measure([pid])[pid].cpu == 0
    while sum(os.times()[:4]) - used < 0.3:
        pass
    measured = usage.measure([pid])[pid].cpu
    took, used = time.monotonic() - began, sum(os.times()[:4]) - used
    assert measured == pytest.approx(used / took, abs=0.15)


def test_pids_of_another_place_are_not_measured(tmp_path: Path) -> None:
    """The kernel tells whose socket it is; a daemon in a container would say another number."""
    path = tmp_path / "warmd.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        assert is_process_behind(places.address_of(path), os.getpid())
        assert not is_process_behind(places.address_of(path), 1)
    assert not is_process_behind(places.address_of(path), os.getpid()), "nobody listens"
    assert not is_process_behind("tcp://127.0.0.1:1", os.getpid())


@pytest.mark.parametrize("roots", [set(), {2**22 + 1}])
def test_of_nobody(roots: set[int]) -> None:
    assert Usage().measure(roots) == {}
