"""Two sessions that do not fit together, called in turn.

At the driver's 2 GiB/s out, 40 turns of 60 % of a large GPU take longer than all else together.  So
somebody else is made to use what is beyond `ROOM_GIB`, unless `--full` asks for all of it.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.gpuparts.bench import SLACK_GIB, Bench, called, timed
from benchmarks.gpuparts.cards import needs
from benchmarks.gpuparts.rows import Found

TURNS = 20
"""Of each."""
FAKE_TURNS = 5
SHARE = 0.6
ROOM_GIB = {"driver": 6.0, "offload": 32.0}
FAKE_ROOM_GIB = 8.0


def turns(bench: Bench, found: Found) -> None:
    """20 turns, by the driver and by `offload`."""
    if bench.is_real:
        needs("torch", "cuda")
    count = TURNS if bench.is_real else FAKE_TURNS
    for way in bench.card.ways:
        room = bench.gib(bench.card.total_bytes)
        if not bench.is_real:
            room = FAKE_ROOM_GIB
        elif not bench.full:
            room = min(room, ROOM_GIB[way])
        with bench.card.ballast(bench.card.total_bytes - bench.bytes(room)):
            _in_turn(bench, found, way, room, count)


def _in_turn(bench: Bench, found: Found, way: str, room: float, count: int) -> None:
    # Reserved is what both cannot have; the tensors leave room for what comes with them.
    gib = SHARE * room - SLACK_GIB
    size = bench.bytes(gib)
    with bench.daemon({"memory": ("Memory", bench.asks(gib))}) as client:
        sessions: list[Any] = []
        expected: list[list[str]] = []
        for seed in (1, 2):
            setup = {"size_bytes": size, "seed": seed, "way": way}
            sessions.append(client.session("memory", setup=setup))
            expected.append([called(sessions[-1], "run", {"x": x}) for x in range(count)])
        seconds, wrong, most = [], [], 0
        for turn in range(2 * count):
            which, x = turn % 2, turn // 2
            took, result = timed(lambda: called(sessions[which], "run", {"x": x}))  # noqa: B023
            seconds.append(took)
            wrong += [] if result == expected[which][x] else [(which, x)]
            most = max(most, bench.card.used_bytes())
        moved = [session.info().gpu["moves"] for session in sessions]
        for session in sessions:
            session.end()
    what = f"two sessions of {SHARE:.0%} of {room:.0f} GiB, {way}"
    found.check(f"{what}: all {2 * count} results as before any was parked", not wrong, wrong or "")
    found.check(f"{what}: each turn has moved them", min(moved) >= count - 1, f"{sum(moved)} parks")
    theirs = most - (bench.card.total_bytes - bench.bytes(room))
    bound = f"must be below the {bench.gib(2 * size):.1f} GiB of both"
    told = f"used at most {bench.gib(theirs):.1f} GiB, {bound}"
    fits = most <= bench.card.total_bytes and theirs < 2 * size
    found.check(f"{what}: their memory is never on the GPU at the same time", fits, told)
    found.figure(f"{what}: a turn", statistics.median(seconds), "s")
