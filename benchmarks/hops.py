"""What a warm call costs in warmd, beside the floor, in the same run.

    python -m benchmarks.hops [--seconds N] [--json]

Measured in rounds, a short slice of each in turn, so that whatever else the machine does hits all
alike; a ratio is the median of the rounds' own ratios:

* the floor (`benchmarks.floor`): the same processes and transports, only forwarding;
* warmd with 1, 50 and 200 idle sessions: three daemons side by side, each called through the
  public client in one session of the app `counter`.

For each: the time of one call after the other, and calls per second with 64 under way.  Then the
processor time that a daemon and 20 idle sessions take together in 30 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import warmd
from benchmarks import processes
from benchmarks.facts import machine_facts
from benchmarks.figures import Target, call_times, paired_ratio, rate
from benchmarks.floor import FloorClient, running_floor
from benchmarks.subjects import Counted, open_sessions, say, warmd_counter

IDLE_SESSIONS = (1, 50, 200)
CPU_SESSIONS = 20
CPU_SECONDS = 30.0
SETTLE_SECONDS = 3.0
WARM_UP_CALLS = 200
SLICE_CALLS = 200
SLICE_PIPELINED = 1000

MAX_LATENCY_RATIO = 1.6
MIN_THROUGHPUT_RATIO = 0.35
MAX_SPREAD = 1.2
MAX_CPU_SECONDS = 0.05


@dataclass
class Subject:
    """Something to call, and what was measured of it."""

    name: str
    callee: FloorClient | Counted
    times: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    """Of each round's calls."""
    rates: list[float] = field(default_factory=list)
    """Of each round, in calls per second."""

    def measure_calls(self) -> None:
        times = call_times(self.callee.call, SLICE_CALLS)
        self.times += times
        self.medians.append(statistics.median(times))

    def measure_pipeline(self) -> None:
        self.rates.append(rate(self.callee.pipeline, SLICE_PIPELINED))

    def figures(self, floor: Subject) -> dict[str, float]:
        cuts = statistics.quantiles(self.times, n=100)
        return {
            "p50_us": statistics.median(self.times) * 1e6,
            "p90_us": cuts[89] * 1e6,
            "p99_us": cuts[98] * 1e6,
            "calls_per_second": statistics.median(self.rates),
            "p50_ratio": paired_ratio(self.medians, floor.medians),
            "calls_per_second_ratio": paired_ratio(self.rates, floor.rates),
            "calls": len(self.times),
        }


def measure(seconds: float) -> list[Subject]:
    """All subjects in turns, for so many seconds each."""
    with contextlib.ExitStack() as stack:
        subjects = [Subject("floor", stack.enter_context(running_floor()))]
        for count in IDLE_SESSIONS:
            say(f"starting a daemon with {count} sessions")
            _, counted = stack.enter_context(warmd_counter(count))
            subjects.append(Subject(f"warmd, {count} session{'s' * (count > 1)}", counted))
        for subject in subjects:
            subject.callee.pipeline(WARM_UP_CALLS)
        say(f"measuring for {seconds * len(subjects):.0f} s")
        end = time.monotonic() + seconds * len(subjects)
        while time.monotonic() < end:
            for subject in subjects:
                subject.measure_calls()
            for subject in subjects:
                subject.measure_pipeline()
    return subjects


def measure_idle_cpu() -> float:
    """Seconds of processor time of a daemon and its idle sessions, all processes together."""
    with warmd.local() as client:
        session = open_sessions(client, CPU_SESSIONS)[0]
        daemon = processes.parent_of(client.sessions.get(session).pid)
        time.sleep(SETTLE_SECONDS)
        before = processes.cpu_seconds_below(daemon)
        say(f"measuring {CPU_SESSIONS} idle sessions for {CPU_SECONDS:.0f} s")
        time.sleep(CPU_SECONDS)
        return processes.cpu_seconds_below(daemon) - before


def verdict(subjects: list[Subject], idle_cpu_seconds: float) -> list[Target]:
    floor, few, *_, many = subjects
    rates = paired_ratio(few.rates, floor.rates)
    return [
        Target("warm call p50 / floor", paired_ratio(few.medians, floor.medians), MAX_LATENCY_RATIO),
        Target("pipelined throughput / floor", rates, MIN_THROUGHPUT_RATIO, at_most=False),
        Target("p50, most / fewest idle sessions", paired_ratio(many.medians, few.medians), MAX_SPREAD),
        Target(f"CPU s of {CPU_SESSIONS} idle sessions in 30 s", idle_cpu_seconds, MAX_CPU_SECONDS),
    ]


def as_text(figures: dict[str, dict[str, float]], targets: list[Target], facts: dict[str, Any]) -> str:
    lines = [
        f"{'':24}{'p50 us':>9}{'p90 us':>9}{'p99 us':>9}{'calls/s':>10}{'p50 ratio':>11}{'calls/s ratio':>15}"
    ]
    for name, one in figures.items():
        times = "".join(f"{one[key]:>9.0f}" for key in ("p50_us", "p90_us", "p99_us"))
        ratios = f"{one['p50_ratio']:>11.2f}{one['calls_per_second_ratio']:>15.2f}"
        lines.append(f"{name:24}{times}{one['calls_per_second']:>10.0f}{ratios}")
    lines.append("")
    for target in targets:
        bound = f"{'at most' if target.at_most else 'at least'} {target.limit}"
        lines.append(f"{target.text:40}{target.value:>8.4f}  {bound:14}{'ok' if target.met else 'MISSED'}")
    lines += ["", f"{facts['cores']} cores, {facts['cpu']}, Python {facts['python']}, {facts['commit']}"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hops", description="warm calls beside the floor"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="for each of the four subjects (default 10)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON with the machine's facts")
    options = parser.parse_args()
    facts = machine_facts()
    subjects = measure(options.seconds)
    figures = {subject.name: subject.figures(floor=subjects[0]) for subject in subjects}
    idle_cpu_seconds = measure_idle_cpu()
    targets = verdict(subjects, idle_cpu_seconds)
    if options.json:
        verdicts = [
            {"text": one.text, "value": one.value, "limit": one.limit, "at_most": one.at_most, "met": one.met}
            for one in targets
        ]
        print(json.dumps({"machine": facts, "figures": figures, "targets": verdicts}, indent=2))
    else:
        print(as_text(figures, targets, facts))


if __name__ == "__main__":
    main()
