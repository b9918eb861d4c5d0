"""Runs the rows: first each by itself, then those that meet peers, with one peer at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence

from benchmarks import netns
from benchmarks.bounds import within
from benchmarks.facts import machine_facts
from benchmarks.peers import FILES, Unavailable, opened
from benchmarks.report import Outcome
from benchmarks.rows import FULL, SMOKE, Row
from benchmarks.rows.arrays import Arrays
from benchmarks.rows.calls import ManyClients, Pipelined, WarmCall
from benchmarks.rows.idle import ManyIdle
from benchmarks.rows.imports import Imports
from benchmarks.rows.memory import Memory
from benchmarks.rows.starts import FramesStart, NewSession, TorchStart
from benchmarks.rows.streams import FirstPart, Stream
from benchmarks.subjects import say

ROWS: list[type[Row]] = [
    WarmCall, ManyClients, Pipelined, Arrays, NewSession, FramesStart, TorchStart, Memory, ManyIdle, Stream,
    FirstPart, Imports,
]  # fmt: skip
ROW_SECONDS = 900.0
PEER_SECONDS = 180.0


def names_of_rows() -> list[str]:
    return [row.key for row in ROWS]


def compare(only: Sequence[str] | None, smoke: bool, idle_sessions: int | None) -> Outcome:
    """Measure the rows named, or all; in the main thread, since its bounds are signals."""
    effort = SMOKE if smoke else FULL
    if idle_sessions is not None:
        effort = dataclasses.replace(effort, idle_sessions=idle_sessions)
    rows = [row(effort) for row in ROWS if not only or row.key in only]
    begun = time.monotonic()
    outcome = Outcome(machine_facts())
    measured: list[Row] = []
    for row in rows:
        if not row.meets_peers:
            with contextlib.ExitStack() as stack, noted(outcome, row.key):
                _measure(row, stack)
                measured.append(row)
    with contextlib.ExitStack() as stack:
        meeting = []
        for row in rows:
            if row.meets_peers:
                with noted(outcome, row.key):
                    _measure(row, stack)
                    meeting.append(row)
        _meet_peers(meeting, outcome)
    outcome.reports = [report for row in rows if row in [*measured, *meeting] for report in row.reports()]
    outcome.facts = {
        **outcome.facts,
        "effort": dataclasses.asdict(effort),
        "seconds": round(time.monotonic() - begun),
        "own_network": netns.is_own(),
    }
    return outcome


def _measure(row: Row, stack: contextlib.ExitStack) -> None:
    say(f"measuring {row.key}")
    with within(ROW_SECONDS, f"the row {row.key}"):
        row.open(stack)
        row.measure()


def _meet_peers(rows: Sequence[Row], outcome: Outcome) -> None:
    for file in FILES if rows else ():
        say(f"measuring beside {file}")
        with noted(outcome, file), opened(file) as peer:
            # What is asked of a peer last is a large array, whose memory it may keep.
            for row in sorted(rows, key=lambda row: row.key == Arrays.key):
                with noted(outcome, f"{row.key} beside {peer.name}"), within(PEER_SECONDS, peer.name):
                    row.beside(peer)


@contextlib.contextmanager
def noted(outcome: Outcome, what: str) -> Iterator[None]:
    """What goes wrong in the block is noted, and the run goes on."""
    try:
        yield
    except Unavailable as error:
        outcome.missing[what] = str(error)
    except ImportError as error:
        outcome.missing[what] = f"{error.name or error} is not installed (pip install '.[bench]')"
    except Exception as error:
        outcome.failed[what] = f"{type(error).__name__}: {error}"
        say(f"{what} failed: {outcome.failed[what]}")
