"""From which size on it pays to lend an array instead of sending it.

    python -m benchmarks.sizes [--json]

Two daemons side by side, one that lends and one that may not (`max_lent_bytes=0`), the same array in
and out of a session of each, in turns.  `protocol.parcels.APART_BYTES` is where the first becomes the
faster one; below it both do the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from typing import Any

import warmd
from benchmarks.facts import machine_facts
from benchmarks.figures import paired_ratio
from benchmarks.subjects import IDLE_SECONDS, WORK_APP, say
from warmd.protocol.parcels import APART_BYTES
from warmd.session import Session

KIB = 1024
SIZES = [KIB * size for size in (16, 64, 128, 256, 512, 1024, 4096, 16384, 65536)]
ROUNDS = 15
ROUND_BYTES = 64 * KIB * KIB
MOST_CALLS = 50


def measure() -> list[dict[str, Any]]:
    """For each size the seconds of an echo with and without lending, and the ratio of the rounds."""
    import numpy

    with contextlib.ExitStack() as stack:
        lending = stack.enter_context(warmd.local())
        sending = stack.enter_context(warmd.local(max_lent_bytes=0))
        sessions = [client.session(WORK_APP, session_timeout=IDLE_SECONDS) for client in (lending, sending)]
        found = []
        for size in SIZES:
            say(f"echoes of {size // KIB} KiB")
            array = numpy.arange(size, dtype="u1")
            times: list[list[float]] = [[], []]
            for _ in range(ROUNDS):
                for session, rounds in zip(sessions, times, strict=True):
                    rounds.append(echo_seconds(session, array, min(MOST_CALLS, ROUND_BYTES // size)))
            lent, sent = (statistics.median(rounds) for rounds in times)
            ratio = paired_ratio(times[0], times[1])
            found.append({"bytes": size, "lent_seconds": lent, "sent_seconds": sent, "ratio": ratio})
    return found


def echo_seconds(session: Session, array: Any, calls: int) -> float:
    """The median of so many echoes."""
    times = []
    for _ in range(calls):
        begun = time.perf_counter()
        session.call("echo", array)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def as_text(found: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    lines = [f"{'array, KiB':>12}{'lent, us':>12}{'sent, us':>12}{'lent / sent':>14}"]
    for one in found:
        mark = "  <- from here on they are lent" if one["bytes"] == APART_BYTES else ""
        lines.append(
            f"{one['bytes'] // KIB:>12}{one['lent_seconds'] * 1e6:>12.0f}{one['sent_seconds'] * 1e6:>12.0f}"
            f"{one['ratio']:>14.2f}{mark}"
        )
    lines += ["", f"{facts['cores']} cores, {facts['cpu']}, Python {facts['python']}, {facts['commit']}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description="arrays lent and sent")
    parser.add_argument("--json", action="store_true", help="print JSON with the machine's facts")
    options = parser.parse_args()
    facts = machine_facts()
    found = measure()
    print(json.dumps({"machine": facts, "sizes": found}, indent=2) if options.json else as_text(found, facts))


if __name__ == "__main__":
    main()
