"""Weights that two sessions share, and what the second costs."""

from __future__ import annotations

from benchmarks.gpuparts.bench import Bench, called, timed
from benchmarks.gpuparts.cards import needs
from benchmarks.gpuparts.rows import Found

SHARED_GIB = 4.0
MOST_EXTRA_GIB = 1.5
"""A context and what libraries keep."""
LEFT_GIB = 0.0625
WAIT_SECONDS = 30.0


def shared(bench: Bench, found: Found) -> None:
    """Two sessions of an app that calls `warmd.gpu.share`."""
    needs("torch")
    size = bench.bytes(SHARED_GIB)
    with bench.daemon({"shared": ("Shared", bench.asks(0.0))}) as client:
        before = bench.card.used_bytes()
        most = before + bench.bytes(LEFT_GIB)
        client.session("shared", setup=size).end()  # has the app imported
        bench.until("shared memory", lambda: bench.card.used_bytes() <= most, WAIT_SECONDS)
        first_seconds, first = timed(lambda: client.session("shared", setup=size))
        result = called(first, "run")
        one = bench.card.used_bytes()
        seconds, second = timed(lambda: client.session("shared", setup=size))
        same = called(second, "run") == result
        two = bench.card.used_bytes()
        found.check("both see the same", same)
        found.figure(f"the first session, which makes {SHARED_GIB:g} GiB", first_seconds, "s")
        found.figure("the second session", seconds, "s")
        found.figure("GPU memory of the first and of what holds them", bench.gib(one - before), "GiB")
        extra = bench.gib(two - one)
        found.target("GPU memory that the second adds", extra, MOST_EXTRA_GIB, "GiB", at_most=True)
        first.end()
        found.check("the second goes on without the first", called(second, "run") == result)
        second.end()
        back = bench.until("shared memory", lambda: bench.card.used_bytes() <= most, WAIT_SECONDS)
        found.figure("all of it is back after the last session's end", back, "s")
