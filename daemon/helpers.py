"""Work that may take long, or hang, on threads beside the loop's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from warmd.daemon.failures import NoThread
from warmd.daemon.loop import Loop

T = TypeVar("T")

HELPERS = 2
"""Threads that work at one time, unless one takes longer than its turn: each that computes takes its
share of the interpreter from the loop."""
TURN_SECONDS = 0.25


class Helpers:
    """A thread for each piece of work, so that one that hangs on a dead file system holds up nobody else
    for longer than its turn."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._turns = threading.Semaphore(HELPERS)

    def call(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Call `work` on a thread, then `done` with its result, or what it raised, on the loop's."""

        def run() -> None:
            has_turn = self._turns.acquire(timeout=TURN_SECONDS)
            try:
                result: T | BaseException = work()
            except Exception as error:
                result = error
            finally:
                if has_turn:
                    self._turns.release()
            self._loop.post(lambda: done(result))

        try:
            threading.Thread(target=run, name="warmd-helper", daemon=True).start()
        except RuntimeError as error:
            text = f"{error}; end sessions, or allow more processes (`ulimit -u`, the cgroup's pids.max)"
            failure = NoThread(text)
            self._loop.post(lambda: done(failure))
