"""What one warm call asks of the kernel: how often its processes wait, and their system calls.

    python -m benchmarks.guard [--json] [--write]

Times differ from machine to machine and from hour to hour; these counts do not.  `guard.json` holds
those that were recorded, tests/benchmarks/test_guard.py fails when one has grown, and `--write`
records them anew.

A client calls one session, and after each call pauses, which is one wait and one system call of its
own, until all is at rest.  Counted are all threads of the client, the daemon and the worker, libzmq's
too.  They all run on one core, and who is woken interrupts nobody (SCHED_BATCH): so in each call the
same thread finds the same things done, and whatever is added to a call is seen as a whole one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import zmq

import warmd
from benchmarks import processes
from benchmarks.peers.children import child, first_line
from benchmarks.ptrace import Tracer
from benchmarks.subjects import open_sessions

RECORDED = Path(__file__).with_suffix(".json")
BATCHES, BATCH_CALLS = 8, 25
BATCH_SECONDS = 30.0
TOLERANCE = 0.5
"""Half of the least that a change can add to each call, and several times what a busy machine adds."""
KINDS = {"waits": processes.waits, "reads and writes": processes.reads_and_writes}
SYSTEM_CALLS = "system calls"

Reading = dict[tuple[str, str], float]
"""By kind and process: ("waits", "daemon")."""


@dataclass(frozen=True)
class Counts:
    """What was counted for one call, or recorded of that: by kind, then by process."""

    counts: dict[str, dict[str, float]]
    versions: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    """Kinds that could not be counted, and why."""


class Caller:
    """A client process, the session it calls, and the daemon between them."""

    def __init__(self, process: subprocess.Popen[bytes], pids: Mapping[str, int]) -> None:
        self._process = process
        self.pids = pids
        self.call(BATCH_CALLS)

    def call(self, calls: int, tracer: Tracer | None = None) -> None:
        """Make so many calls, one after the other."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(b"%d\n" % calls)
        self._process.stdin.flush()
        if tracer is not None:
            tracer.serve(self._process.stdout.fileno(), BATCH_SECONDS)
        first_line(self._process, BATCH_SECONDS)


@contextlib.contextmanager
def running_caller() -> Iterator[Caller]:
    """With a daemon of its own, all on one core; this process stays on it."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with warmd.local() as client:
        (session,) = open_sessions(client, 1)
        with child("benchmarks.client_process", "paced", client.address, session) as process:
            first_line(process)
            worker = client.sessions.get(session).pid
            yield Caller(process, {"client": process.pid, "daemon": client.daemon_pid, "worker": worker})


def measured() -> Counts:
    """All that can be counted; moves this process to one core, and lets who is woken interrupt nobody."""
    with running_caller() as caller:
        found = from_proc(caller)
        missing = {}
        try:
            found |= by_tracing(caller)
        except PermissionError as error:
            missing[SYSTEM_CALLS] = f"no process may trace its children here: {error.strerror}"
    counts: dict[str, dict[str, float]] = {}
    for (kind, process), count in found.items():
        counts.setdefault(kind, {})[process] = count
    return Counts(counts, versions(), missing)


def from_proc(caller: Caller) -> Reading:
    """What the kernel counts by itself."""

    def now() -> Reading:
        return {(kind, name): KINDS[kind](pid) for kind in KINDS for name, pid in caller.pids.items()}

    return for_one_call(now, caller.call, BATCHES, BATCH_CALLS)


def by_tracing(caller: Caller) -> Reading:
    """System calls.  Raises PermissionError where nobody may trace."""
    threads = {name: processes.threads(pid) for name, pid in caller.pids.items()}
    everyone = [thread for ids in threads.values() for thread in ids]
    # Stopped at each step, on a busy machine they would wait for their turn at each, until what is
    # bounded by milliseconds takes another way.
    for thread in (0, *everyone):
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
    with Tracer(everyone) as tracer:

        def now() -> Reading:
            return {(SYSTEM_CALLS, name): tracer.system_calls(ids) for name, ids in threads.items()}

        def call(calls: int) -> None:
            caller.call(calls, tracer)

        return for_one_call(now, call, BATCHES, BATCH_CALLS)


def for_one_call(
    now: Callable[[], Reading], call: Callable[[int], object], batches: int, calls: int
) -> Reading:
    """The least of the batches: what disturbs one adds to it, and what is in each call is in all."""
    readings = [now()]
    for _ in range(batches):
        call(calls)
        readings.append(now())
    found: Reading = {}
    for key in readings[0]:
        grown_by = [after[key] - before[key] for before, after in pairwise(readings)]
        found[key] = round(min(grown_by) / calls, 2)
    return found


def versions() -> dict[str, str]:
    """Of what the counts depend on beside warmd itself."""
    return {
        "libzmq": zmq.zmq_version(),
        "pyzmq": zmq.pyzmq_version(),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def recorded() -> Counts:
    return Counts(**json.loads(RECORDED.read_text()))


def grown(found: Counts, known: Counts, kind: str) -> list[str]:
    """A line for each process of which more was counted than recorded; then, what else is not as it was."""
    lines = [
        f"{kind} of the {process} for one call: {count}, recorded were {known.counts[kind][process]}"
        for process, count in found.counts.get(kind, {}).items()
        if count > known.counts[kind][process] + TOLERANCE
    ]
    if lines:
        lines += [
            f"{name} is {version}, was {known.versions[name]} then"
            for name, version in found.versions.items()
            if version != known.versions[name]
        ]
    return lines


def as_text(found: Counts, known: Counts) -> str:
    lines = [f"{'for one warm call':30}{'measured':>10}{'recorded':>10}"]
    for kind, counts in found.counts.items():
        lines += [
            f"{process + ', ' + kind:30}{count:>10.2f}{known.counts[kind][process]:>10.2f}"
            for process, count in counts.items()
        ]
    lines += [f"{kind}: not counted, {why}" for kind, why in found.missing.items()]
    lines += [f"GREW: {line}" for kind in found.counts for line in grown(found, known, kind)]
    return "\n".join(lines)


def main() -> int:
    """Returns 1 when a count has grown."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guard", description="waits and system calls of a warm call"
    )
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--write", action="store_true", help=f"record the counts in {RECORDED.name}")
    options = parser.parse_args()
    found = measured()
    if options.write:
        if found.missing:
            parser.error(f"nothing was recorded: {found.missing}")
        RECORDED.write_text(as_json(found) + "\n")
    known = recorded()
    print(as_json(found) if options.json else as_text(found, known))
    return int(any(grown(found, known, kind) for kind in found.counts))


def as_json(counts: Counts) -> str:
    """For `recorded`; what is missing only where something is."""
    return json.dumps({name: value for name, value in asdict(counts).items() if value}, indent=2)


if __name__ == "__main__":
    raise SystemExit(main())
