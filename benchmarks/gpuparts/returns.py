"""How long after a session's end its GPU memory is back, as the GPU shows it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

import warmd
from benchmarks.gpuparts.bench import Bench, called
from benchmarks.gpuparts.cards import needs
from benchmarks.gpuparts.rows import Found

HELD_GIB = 4.0
LEFT_GIB = 0.0625
"""What of it may be there, since others use the GPU too."""
WAIT_SECONDS = 30.0
TARGET_SECONDS = 10.0


def returns(bench: Bench, found: Found) -> None:
    """After its end, a crash and SIGKILL; and the last two when it is parked."""
    if bench.is_real:
        needs("torch")
    with bench.daemon({"memory": ("Memory", bench.asks(HELD_GIB))}) as client:
        for how, is_parked in (
            ("end", False), ("crash", False), ("SIGKILL", False), ("end", True), ("SIGKILL", True)
        ):  # fmt: skip
            _once(bench, found, client, how, is_parked)


def _once(bench: Bench, found: Found, client: Any, how: str, is_parked: bool) -> None:
    what = f"{how} of a parked session" if is_parked else how
    before = bench.card.used_bytes()
    session = client.session("memory", setup={"size_bytes": bench.bytes(HELD_GIB)})
    pid = int(called(session, "pid"))
    held = bench.card.used_bytes() - before
    found.check(f"{what}: it was there", held >= bench.bytes(HELD_GIB), f"{bench.gib(held):.2f} GiB")
    if is_parked:
        session.park()
    begun = time.perf_counter()
    if how == "end":
        session.end()
    elif how == "crash":
        with contextlib.suppress(warmd.WorkerDied):
            called(session, "crash")
    else:
        os.kill(pid, signal.SIGKILL)
    most = before + bench.bytes(LEFT_GIB)

    def is_back() -> bool:
        return bench.card.used_bytes() <= most and pid not in bench.card.pids()

    bench.until(f"{what}: memory that is back", is_back, WAIT_SECONDS)
    seconds = time.perf_counter() - begun
    found.target(f"{HELD_GIB:g} GiB back after {what}", seconds, TARGET_SECONDS, "s", at_most=True)
