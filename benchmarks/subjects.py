"""warmd as it is measured: a session of the counter, called through the public client."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import warmd
from benchmarks.figures import pipelined
from warmd.owndaemon import LocalClient

_BEGUN = time.monotonic()
START_SECONDS = 300.0
STARTS_AT_ONCE = 50
PLACES_TO_SPARE = 16
IDLE_SECONDS = 3600
WORK_APP = f"{Path(__file__).parent / 'peers' / 'work.py'}:Work"
"""The class that the peers run too."""


class Counted:
    """One session of the counter."""

    def __init__(self, client: warmd.Client, session: str) -> None:
        self.session = session
        self._handle = client.session(id=session)

    def call(self) -> None:
        """One call, there and back."""
        self._handle.call("incr", {"by": 1})

    def pipeline(self, calls: int) -> None:
        """`calls` calls with at most 64 unanswered."""
        pipelined(self._begin, calls)

    def stream(self, parts: int) -> Iterator[Any]:
        """The parts of one streaming call."""
        return iter(self._handle.stream("count_up", {"n": parts}))

    def _begin(self) -> Any:
        return self._handle.submit("incr", {"by": 1})


@contextlib.contextmanager
def warmd_counter(sessions: int) -> Iterator[tuple[LocalClient, Counted]]:
    """A daemon of its own with so many idle sessions, the first of which is to be called."""
    with daemon_for(sessions) as client:
        yield client, Counted(client, open_sessions(client, sessions)[0])


def daemon_for(sessions: int) -> LocalClient:
    """A daemon of its own that may have so many sessions, and a few more."""
    return warmd.local(max_sessions=max(256, sessions + PLACES_TO_SPARE))


def open_sessions(client: Any, count: int) -> list[str]:
    """The ids of `count` new sessions of the counter, each called once."""
    ids: list[str] = []
    while len(ids) < count:
        calls = [
            client.submit(app="counter", function="get", session="new", session_timeout=IDLE_SECONDS)
            for _ in range(min(STARTS_AT_ONCE, count - len(ids)))
        ]
        ids += [call.result(timeout=START_SECONDS).session_id for call in calls]
    return ids


def say(text: str) -> None:
    """To the standard error, with the seconds since the program's start."""
    print(f"{time.monotonic() - _BEGUN:5.0f} s  {text}", file=sys.stderr, flush=True)
