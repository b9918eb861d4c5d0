"""Where the microseconds of a warm call go.

    python -m benchmarks.breakdown [--calls N] [--json]

Three views, each measured and none derived from another:

* the way there and the way back: the app tells when its function ran, on the clock that all share;
* processor time of each process for one call, beside the floor's, in turns; that of the client and
  of the daemon with what libzmq's own threads spend;
* warmd's own layers, each by itself (`benchmarks.layers`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import layers, processes
from benchmarks.facts import machine_facts
from benchmarks.floor import running_floor
from benchmarks.subjects import IDLE_SECONDS, warmd_counter

STAMPS = f"{Path(__file__).parent / 'stamps.py'}:Stamps"
ROUNDS = 10
WARM_UP_CALLS = 200
LEAST_CALLS = 100

Spent = dict[str, tuple[float, float]]
"""By process: microseconds of its main thread, and of its others, for one call."""


def measure(calls: int) -> dict[str, Any]:
    """All three views; `calls` of each kind."""
    with running_floor() as floor, warmd_counter(1) as (client, counted):
        worker = client.sessions.get(counted.session).pid
        stamped = client.session(STAMPS, session_timeout=IDLE_SECONDS)
        ours = {"client": os.getpid(), "daemon": client.daemon_pid, "worker": worker}
        its = {"client": os.getpid(), "daemon": floor.broker_pid, "worker": floor.worker_pids[0]}
        ways: list[tuple[float, float]] = []
        spent: dict[str, list[Spent]] = {"floor": [], "warmd": []}
        for _ in range(WARM_UP_CALLS):
            floor.call()
            counted.call()
            stamped.call()
        for _ in range(ROUNDS):
            spent["floor"].append(spending(floor.call, its, calls // ROUNDS))
            spent["warmd"].append(spending(counted.call, ours, calls // ROUNDS))
            ways += [way(lambda: stamped.call().output) for _ in range(calls // ROUNDS)]
    return {
        "ways_us": {
            "there": statistics.median(there for there, _ in ways) * 1e6,
            "back": statistics.median(back for _, back in ways) * 1e6,
        },
        "cpu_us": {name: medians(rounds) for name, rounds in spent.items()},
        "layers_us": [
            {"process": process, "layer": layer, "us": us}
            for (process, layer), us in layers.microseconds(calls).items()
        ],
    }


def way(call: Callable[[], float]) -> tuple[float, float]:
    """Seconds from here to the function, and from there back."""
    begun = time.monotonic()
    ran = call()
    return ran - begun, time.monotonic() - ran


def spending(call: Callable[[], object], pids: Mapping[str, int], calls: int) -> Spent:
    """What `calls` calls cost each process, for one call."""
    before = {name: processes.thread_seconds(pid) for name, pid in pids.items()}
    for _ in range(calls):
        call()
    after = {name: processes.thread_seconds(pid) for name, pid in pids.items()}
    found: Spent = {}
    for name, pid in pids.items():
        used = {id: seconds - before[name].get(id, 0.0) for id, seconds in after[name].items()}
        main = used.pop(pid)
        found[name] = main / calls * 1e6, sum(used.values()) / calls * 1e6
    return found


def medians(rounds: list[Spent]) -> dict[str, dict[str, float]]:
    """Of the rounds, by process."""
    return {
        name: {
            "main_thread": statistics.median(one[name][0] for one in rounds),
            "other_threads": statistics.median(one[name][1] for one in rounds),
        }
        for name in rounds[0]
    }


def as_text(found: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    there, back = found["ways_us"]["there"], found["ways_us"]["back"]
    lines = [f"there {there:.0f} us, back {back:.0f} us (medians)", ""]
    lines.append(
        f"{'processor time, us a call':32}{'main thread':>14}{'others':>10}{'floor':>10}{'others':>10}"
    )
    floor, warmd = found["cpu_us"]["floor"], found["cpu_us"]["warmd"]
    for name in warmd:
        cells = [warmd[name]["main_thread"], warmd[name]["other_threads"]]
        cells += [floor[name]["main_thread"], floor[name]["other_threads"]]
        lines.append(f"{name:32}{cells[0]:>14.1f}" + "".join(f"{cell:>10.1f}" for cell in cells[1:]))
    lines += ["", f"{'layers by themselves, us':52}"]
    for process in warmd:
        own = [one for one in found["layers_us"] if one["process"] == process]
        lines += [f"{process:10}{one['layer']:36}{one['us']:>10.1f}" for one in own]
        lines.append(f"{process:10}{'all of them':36}{sum(one['us'] for one in own):>10.1f}")
    lines += ["", f"{facts['cores']} cores, {facts['cpu']}, Python {facts['python']}, {facts['commit']}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.breakdown", description="a warm call in parts"
    )
    parser.add_argument("--calls", type=int, default=5000, help="of each kind (default 5000)")
    parser.add_argument("--json", action="store_true", help="print JSON with the machine's facts")
    options = parser.parse_args()
    if options.calls < LEAST_CALLS:
        parser.error(f"--calls is {options.calls}, it must be at least {LEAST_CALLS}")
    facts = machine_facts()
    found = measure(options.calls)
    print(json.dumps({"machine": facts, **found}, indent=2) if options.json else as_text(found, facts))


if __name__ == "__main__":
    main()
