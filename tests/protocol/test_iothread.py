from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from warmd.protocol.iothread import IoThread


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context = zmq.Context(io_threads=1)
    yield context
    context.destroy(0)


def started(context: zmq.Context[Any]) -> IoThread:
    """The I/O thread of a context, which has given itself its name."""
    thread = IoThread()
    context.set(zmq.THREAD_NAME_PREFIX, thread.number)
    context.socket(zmq.DEALER).close(0)  # it starts with the first socket
    until = time.monotonic() + 10
    while True:
        with contextlib.suppress(ProcessLookupError):
            thread._find()
            return thread
        assert time.monotonic() < until, "libzmq's thread has not named itself"


def policies() -> dict[int, int]:
    """Of each thread of this process."""
    tasks = map(int, os.listdir("/proc/self/task"))
    return {task: os.sched_getscheduler(task) for task in tasks}


def test_it_waits_for_its_turn_only_in_a_rush(context: zmq.Context[Any]) -> None:
    thread = started(context)
    before = policies()
    thread.wait_for_its_turn(False)
    assert policies() == before
    thread.wait_for_its_turn(True)
    (changed,) = {task for task, policy in policies().items() if policy != before[task]}
    assert Path(f"/proc/self/task/{changed}/comm").read_text().endswith("ZMQbg/IO/0\n")
    assert os.sched_getscheduler(changed) == os.SCHED_BATCH
    thread.wait_for_its_turn(False)
    assert policies() == before


def test_two_connections_are_told_apart() -> None:
    one, other = zmq.Context(io_threads=1), zmq.Context(io_threads=1)
    try:
        first, second = started(one), started(other)
        first.wait_for_its_turn(True)
        assert list(policies().values()).count(os.SCHED_BATCH) == 1
        second.wait_for_its_turn(True)
        assert list(policies().values()).count(os.SCHED_BATCH) == 2
    finally:
        one.destroy(0)
        other.destroy(0)


def test_a_policy_that_somebody_chose_is_left_alone(context: zmq.Context[Any]) -> None:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        thread = started(context)
        before = policies()
        thread.wait_for_its_turn(True)
        thread.wait_for_its_turn(False)
        assert policies() == before
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_where_the_thread_cannot_be_found_nothing_happens() -> None:
    thread = IoThread()
    thread.wait_for_its_turn(True)
    thread.wait_for_its_turn(False)
