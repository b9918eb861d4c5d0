"""Six models that do not fit on one GPU together, called as in the trace that the rule book is tested with.

The trace is shortened, and runs faster than it was made for, by the same factor for all its times.  The
models' sizes are parts of the GPU's memory; or, unless `--full` asks for all of it, of `ROOM_GIB`: host
memory for all of them is pinned.

What other ways to choose whom to park would have moved is simulated, by the rule book with that choice in the
place of its own, at speeds that were measured once.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psutil

import warmd
from benchmarks.gpuparts.bench import SLACK_GIB, Bench, called, timed
from benchmarks.gpuparts.cards import needs
from benchmarks.gpuparts.rows import Found
from tests.core.replacement import first_in_first_out, least_recently_used, our_own
from tests.core.trace import MODELS, Model, Request, recorded
from tests.core.trace_machine import GIB, HOOKS, TOTAL_BYTES, Machine, Speeds

ROOM_GIB = 32.0
FAKE_ROOM_GIB = 15.0
PINNED = 0.6
"""Of the host's free memory, at most."""
LEAST_GIB = 0.25
WAIT_BOUND_SECONDS = 60.0
OPEN_SECONDS = 120.0
CHOICES = {
    "as warmd chooses": our_own,
    "the least recently used goes": least_recently_used,
    "the first that came goes": first_in_first_out,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of the trace, how fast, with how many of the models."""

    seconds: float
    faster: float
    models: Sequence[Model] = MODELS

    def requests(self) -> list[Request]:
        names = {model.name for model in self.models}
        return [
            Request(one.at_seconds / self.faster, one.model, one.run_seconds / self.faster)
            for one in recorded(seconds=self.seconds)
            if one.model in names
        ]


SHORT, FULL, FAKE = Plan(180.0, 4.0), Plan(900.0, 1.0), Plan(180.0, 120.0, MODELS[::2])


def traced(bench: Bench, found: Found) -> None:
    """No call fails, none waits beyond the bound, and how often somebody is moved."""
    plan, room = FAKE, FAKE_ROOM_GIB
    if bench.is_real:
        needs("torch")
        plan = FULL if bench.full else SHORT
        most = PINNED * bench.gib(psutil.virtual_memory().available) / sum(model.share for model in MODELS)
        room = min(bench.gib(bench.card.total_bytes), most, *([] if bench.full else [ROOM_GIB]))
    sizes = {model.name: max(LEAST_GIB, model.share * room - SLACK_GIB) for model in plan.models}
    apps = {f"model-{name}": ("Memory", bench.asks(gib)) for name, gib in sizes.items()}
    taken = bench.card.total_bytes - bench.bytes(room)
    with bench.card.ballast(taken), bench.daemon(apps, gpu_wait=WAIT_BOUND_SECONDS) as client:
        with ThreadPoolExecutor(len(sizes)) as pool:
            opening = [pool.submit(_opened, bench, client, *pair) for pair in sizes.items()]
            seconds, sessions = timed(
                lambda: {name: session.result() for name, session in zip(sizes, opening, strict=True)}
            )
        found.figure(f"{len(sizes)} sessions are opened at once, of {room:.0f} GiB", seconds, "s")
        expected = {name: called(session, "run") for name, session in sessions.items()}
        done = _replayed(sessions, plan.requests())
        moves = sum(session.info().gpu["moves"] for session in sessions.values())
    _tell(found, expected, done, moves)
    for choice, parks in _simulated(plan, room).items():
        found.figure(f"the same, simulated: {choice}", parks, f"in {len(done)} calls")


def _simulated(plan: Plan, room_gib: float) -> dict[str, int]:
    """The moves to host memory that each choice makes of the same calls."""
    shares = {model.name: model.share for model in plan.models}
    parks = {}
    for choice, how in CHOICES.items():
        with how():
            parks[choice] = Machine(_speeds(room_gib), shares).play(plan.requests()).parks
    return parks


def _speeds(room_gib: float) -> Speeds:
    """The machine's GPU has another size: what counts is how much of it moves in a second."""
    larger = TOTAL_BYTES / (room_gib * GIB)
    return Speeds(HOOKS.load * larger, HOOKS.park * larger, HOOKS.unpark * larger)


def _opened(bench: Bench, client: Any, name: str, gib: float) -> Any:
    setup = {"size_bytes": bench.bytes(gib), "seed": ord(name), "way": bench.card.ways[-1]}
    return client.session(f"model-{name}", setup=setup, timeout=OPEN_SECONDS)


@dataclass(slots=True)
class _Done:
    request: Request
    seconds: float = 0.0
    result: str = ""
    error: str = "it was not answered"


def _replayed(sessions: dict[str, Any], requests: list[Request]) -> list[_Done]:
    """Each call begins when it arrives, whatever has become of those before."""
    began = time.perf_counter()
    done = [_Done(request) for request in requests]

    def call(one: _Done) -> None:
        time.sleep(max(0.0, one.request.at_seconds - (time.perf_counter() - began)))
        given = {"seconds": one.request.run_seconds}
        try:
            one.seconds, one.result = timed(lambda: called(sessions[one.request.model], "work", given))
            one.error = ""
        except warmd.WarmdError as error:
            one.error = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=call, args=(one,), daemon=True) for one in done]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def _tell(found: Found, expected: dict[str, str], done: list[_Done], moves: int) -> None:
    wrong = [one for one in done if one.error or one.result != expected[one.request.model]]
    text = f"{len(wrong)} of {len(done)}: {wrong[0].error or 'another result'}" if wrong else len(done)
    found.check("each call gives what it gave before, and none is out of memory", not wrong, text)
    waits = [max(0.0, one.seconds - one.request.run_seconds) for one in done]
    found.target("the longest wait of a call", max(waits), WAIT_BOUND_SECONDS, "s", at_most=True)
    found.figure("the wait of a call, mean", statistics.mean(waits), "s")
    found.figure("the wait of a call, median", statistics.median(waits), "s")
    found.figure("moves to host memory", moves, f"in {len(done)} calls")
