"""A warm call costs no more waits and system calls than were recorded: counts, never times."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import guard, processes
from benchmarks.guard import SYSTEM_CALLS, Counts, for_one_call, grown, recorded
from benchmarks.peers.children import first_line
from benchmarks.ptrace import Tracer

ROOT = Path(__file__).parents[2]
KINDS = [*guard.KINDS, SYSTEM_CALLS]
RENEW = "if that must be so: python -m benchmarks.guard --write"


@pytest.fixture(scope="module")
def found() -> Counts:
    """Counted by a process of its own, since it moves to one core, and without the tests' checks."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WARMD_", "COVERAGE_"))}
    command = [sys.executable, "-m", "benchmarks.guard", "--json"]
    done = subprocess.run(command, env=kept, cwd=ROOT, stdout=subprocess.PIPE, timeout=55)
    return Counts(**json.loads(done.stdout))


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_call_costs_no_more_than_was_recorded(found: Counts, kind: str) -> None:
    if kind in found.missing:
        pytest.skip(found.missing[kind])
    assert found.counts[kind].keys() == recorded().counts[kind].keys()
    assert not grown(found, recorded(), kind), RENEW


def test_it_would_be_seen_that_a_call_costs_one_more() -> None:
    known = recorded()
    for kind in KINDS:
        for process in ("client", "daemon", "worker"):
            more = {kind: {**known.counts[kind], process: known.counts[kind][process] + 1}}
            (line,) = grown(dataclasses.replace(known, counts=more), known, kind)
            assert kind in line and process in line


def test_what_else_has_changed_is_told_with_it() -> None:
    known = Counts({"waits": {"client": 3.0}}, {"libzmq": "4.3.5"})
    other = Counts({"waits": {"client": 3.2}}, {"libzmq": "4.3.6"})
    assert not grown(other, known, "waits")
    more = Counts({"waits": {"client": 4.0}}, {"libzmq": "4.3.6"})
    assert grown(more, known, "waits")[1:] == ["libzmq is 4.3.6, was 4.3.5 then"]


def test_disturbed_batches_do_not_count() -> None:
    readings = iter([0, 80, 90, 400])
    counts = for_one_call(lambda: {("waits", "client"): next(readings)}, lambda _calls: None, 3, 10)
    assert counts == {("waits", "client"): 1.0}


ASKS = """
import os, sys
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        os.getppid()
    os.write(1, b"done\\n")
"""


@pytest.fixture
def asking() -> Iterator[subprocess.Popen[bytes]]:
    """A process that makes as many system calls as it is told to, and a few more."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", ASKS], stdin=pipe, stdout=pipe, bufsize=0) as process:
        first_line(process)
        yield process
        assert process.stdin is not None
        process.stdin.close()


def asked(process: subprocess.Popen[bytes], calls: int) -> int:
    """The descriptor that can be read when it has made them."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"%d\n" % calls)
    return process.stdout.fileno()


def test_every_system_call_is_counted_and_the_process_goes_on_without(
    asking: subprocess.Popen[bytes],
) -> None:
    threads = processes.threads(asking.pid)
    counts = [0.0]
    try:
        with Tracer(threads) as tracer:
            for calls in (10, 10, 510):
                tracer.serve(asked(asking, calls), 10)
                assert first_line(asking) == b"done\n"
                counts.append(tracer.system_calls(threads))
    except PermissionError as error:
        pytest.skip(f"no process may trace its children here: {error.strerror}")
    # What follows its answer may be counted before or after it is read.
    assert abs(counts[3] - counts[2] - (counts[2] - counts[1]) - 500) <= 1
    asked(asking, 1)
    assert first_line(asking) == b"done\n"
