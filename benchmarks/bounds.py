"""Bounds for what has none of its own, and an end for every process that a run has started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Iterator

from benchmarks import processes

PR_SET_CHILD_SUBREAPER = 36
ENDING_SECONDS = 5.0


@contextlib.contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Raise TimeoutError in the block after `seconds`; in the main thread only, an inner bound counts."""

    def late(_signum: int, _frame: object) -> None:
        raise TimeoutError(f"{what} took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    rest, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    begun = time.monotonic()
    try:
        yield
    finally:
        left = max(0.001, rest - (time.monotonic() - begun)) if rest else 0.0
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)


@contextlib.contextmanager
def nothing_outlives() -> Iterator[None]:
    """After the block every process that it started, and theirs, is ended, orphans too."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = processes.tree(os.getpid())
    try:
        yield
    finally:
        end_all(processes.tree(os.getpid()) - before)


def end_all(pids: set[int]) -> None:
    """Kill them; returns when they are gone, at most 5 s later."""
    pidfds = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            pidfds.append(os.pidfd_open(pid))
    try:
        for pidfd in pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        end = time.monotonic() + ENDING_SECONDS
        for pidfd in pidfds:
            select.select([pidfd], [], [], max(0.0, end - time.monotonic()))
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
