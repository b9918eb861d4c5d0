"""What it takes to park a session and to bring it back, beside the driver alone and the bus alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.gpuparts.bench import Bench, called, timed
from benchmarks.gpuparts.cards import needs, once
from benchmarks.gpuparts.rows import Found

MOVED_GIB = 8.0
LOCK_MS = 5000
MOST_OF_DRIVER = 1.2
LEAST_OF_BUS = 0.8
GONE = 0.95
"""Of what is moved so much at least must be gone from the GPU, as it shows itself."""

Pair = tuple[float, float]
"""Seconds to park and to unpark."""


def moves(bench: Bench, found: Found) -> None:
    """8 GiB by the driver, through the daemon and without it; by `offload`, against the bus."""
    if bench.is_real:
        needs("torch", "cuda")
    apps = {"memory": ("Memory", bench.asks(MOVED_GIB))}
    with bench.daemon(apps) as client:
        _by_driver(bench, found, client)
        if bench.is_real:
            _by_offload(bench, found, client)


def _by_driver(bench: Bench, found: Found, client: Any) -> None:
    size = bench.bytes(MOVED_GIB)
    ours: list[Pair] = []
    alone: list[Pair] = []
    for _ in range(max(1, bench.rounds - 1)):
        if bench.is_real:
            alone.append(_driver_alone(size, found))
        with client.session("memory", setup={"size_bytes": size}) as session:
            ours.append(_checked(bench, found, session, size, "driver"))
    for place, what in enumerate(("park", "unpark")):
        seconds = statistics.median(pair[place] for pair in ours)
        found.figure(f"{what} {MOVED_GIB:g} GiB, driver", seconds, "s")
        if alone:
            floor = statistics.median(pair[place] for pair in alone)
            found.figure(f"{what} {MOVED_GIB:g} GiB, the driver called directly", floor, "s")
            found.target(
                f"{what}, driver: against a direct call", seconds / floor, MOST_OF_DRIVER, "x", at_most=True
            )


def _by_offload(bench: Bench, found: Found, client: Any) -> None:
    size = bench.bytes(MOVED_GIB)
    with once("pcie") as bus:
        speeds = bus.first
    with client.session("memory", setup={"size_bytes": size, "way": "offload"}) as session:
        found.figure(
            f"host memory for {MOVED_GIB:g} GiB is pinned in setup", called(session, "pinned_seconds"), "s"
        )
        _checked(bench, found, session, size, "offload")
        changed = [_moved_changed(session) for _ in range(bench.rounds)]
        same = [_moved(session) for _ in range(bench.rounds)]
    for place, what in enumerate(("park", "unpark")):
        seconds = statistics.median(pair[place] for pair in changed)
        found.figure(f"{what} {MOVED_GIB:g} GiB, offload", seconds, "s")
        found.figure(f"pinned PCIe for {what}", speeds[place] / 2**30, "GiB/s")
        share = size / seconds / speeds[place]
        found.target(f"{what}, offload: part of the bus", share, LEAST_OF_BUS, "of it")
    found.figure("park, offload, nothing has changed", statistics.median(one for one, _ in same), "s")


def _moved_changed(session: Any) -> Pair:
    called(session, "change")
    return _moved(session)


def _moved(session: Any) -> Pair:
    return timed(session.park)[0], timed(session.unpark)[0]


def _checked(bench: Bench, found: Found, session: Any, size: int, way: str) -> Pair:
    """The same, with all looked at: what the GPU shows, and results before and after."""
    before, full = called(session, "run", {"x": 1}), bench.card.used_bytes()
    park, info = timed(session.park)
    gone = full - bench.card.used_bytes()
    found.check(f"{way}: the GPU shows it gone", gone >= GONE * size, f"{bench.gib(gone):.2f} GiB")
    found.check(f"{way}: the session is parked", info.state == "parked", info.state)
    unpark, _ = timed(session.unpark)
    found.check(f"{way}: the same result afterwards", called(session, "run", {"x": 1}) == before)
    return park, unpark


def _driver_alone(size: int, found: Found) -> Pair:
    from cuda.bindings import driver as cuda

    _cuda(cuda.cuInit, 0)
    arguments = cuda.CUcheckpointLockArgs()
    arguments.timeoutMs = LOCK_MS
    with once("hold", str(size)) as process:
        pid, before = int(process.first), process.ask()

        def out() -> None:
            _cuda(cuda.cuCheckpointProcessLock, pid, arguments)
            _cuda(cuda.cuCheckpointProcessCheckpoint, pid, None)

        def back() -> None:
            _cuda(cuda.cuCheckpointProcessRestore, pid, None)
            _cuda(cuda.cuCheckpointProcessUnlock, pid, None)

        pair = timed(out)[0], timed(back)[0]
        found.check("the driver alone: the same result afterwards", process.ask() == before)
        return pair


def _cuda(function: Callable[..., Any], *arguments: Any) -> None:
    result, *_ = function(*arguments)
    if result.name != "CUDA_SUCCESS":
        raise RuntimeError(f"{function.__name__}: {result.name}")
