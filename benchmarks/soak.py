"""Thousands of sessions that begin, are used or abused, and end: what does the daemon keep of them?

    python -m benchmarks.soak [--cycles N] [--threads N] [--json]

Each cycle opens a session, calls it and sees to its end, with everything in between that goes wrong
in practice: crashes, hangs, failed starts, children left behind, readers and clients that leave.
The apps are those of the crash zoo (tests/zoo*.py), so this runs in a clone.

Compared are, before and after: descriptors, threads, processes (zombies too) and memory of the daemon,
descriptors, threads and memory of this process, the client; shared memory and temporary files.
Exits with 1 if anything is left.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import warmd
from benchmarks import processes
from benchmarks.facts import machine_facts
from benchmarks.subjects import say

TESTS = Path(__file__).parents[1] / "tests"
CALL_SECONDS = 30.0
HANG_SECONDS = 0.2
SETTLE_SECONDS = 30.0
WARM_UP_ROUNDS = 3
MAX_SESSIONS = 64
LOGS_KEPT = 20
MAX_GROWTH_BYTES = 30 * 2**20


def zoo(file: str, name: str) -> str:
    return f"{TESTS / file}.py:{name}"


GOOD, DIES, RAISES = zoo("zoo", "Good"), zoo("zoo", "Dies"), zoo("zoo", "Raises")
HANGS, FORKS = zoo("zoo_hangs", "Hangs"), zoo("zoo_forks", "Forks")

Cycle = Callable[[Any], object]


def used_and_ended(client: warmd.Client) -> None:
    with client.session(GOOD) as session:
        assert session.call("run", 1, timeout=CALL_SECONDS).output["n"] == 1
        assert session.call("add", {"a": 1, "b": 2}, timeout=CALL_SECONDS).output == 3


def left_to_expire(client: warmd.Client) -> None:
    client.run(app=GOOD, session="new", session_timeout=1, timeout=CALL_SECONDS)


def streamed(client: warmd.Client) -> None:
    with client.session(GOOD) as session:
        assert list(session.stream("count_up", 100, timeout=CALL_SECONDS)) == list(range(100))


def left_by_its_reader(client: warmd.Client) -> None:
    with client.session(GOOD) as session:
        for part in session.stream("count_up", 10**9, timeout=CALL_SECONDS):
            if part == 5:
                break


def left_by_its_client(client: Any) -> None:
    """Another connection opens it, leaves in the middle of a call, and this one ends it."""
    with warmd.Client(client.address) as other:
        opened = other.run(app=HANGS, function="alive", session="new", timeout=CALL_SECONDS)
        other.submit(app=HANGS, function="sleep", session=opened.session_id, timeout=CALL_SECONDS)
    client.sessions.end(opened.session_id)


def dies(function: str) -> Cycle:
    def cycle(client: warmd.Client) -> None:
        with client.session(DIES) as session:
            expect(warmd.WorkerDied, lambda: session.call(function, timeout=CALL_SECONDS))
            expect(warmd.SessionDied, lambda: session.call(function, timeout=CALL_SECONDS))

    return cycle


def raises(function: str) -> Cycle:
    def cycle(client: warmd.Client) -> None:
        with client.session(RAISES) as session:
            expect(warmd.AppError, lambda: session.call(function, timeout=CALL_SECONDS))

    return cycle


def hangs(function: str) -> Cycle:
    def cycle(client: warmd.Client) -> None:
        with client.session(HANGS) as session:
            expect(warmd.CallTimeout, lambda: session.call(function, timeout=HANG_SECONDS))

    return cycle


def leaves_children(function: str) -> Cycle:
    def cycle(client: warmd.Client) -> None:
        with client.session(FORKS) as session:
            session.call(function, timeout=CALL_SECONDS)

    return cycle


def does_not_start(name: str) -> Cycle:
    def cycle(client: warmd.Client) -> None:
        start = lambda: client.run(app=zoo("zoo_starts", name), session="new", timeout=CALL_SECONDS)  # noqa: E731
        expect(warmd.StartFailed, start)

    return cycle


CYCLES: list[Cycle] = [
    used_and_ended, dies("kill"), used_and_ended, streamed, used_and_ended, dies("segfault"),
    used_and_ended, left_to_expire, used_and_ended, dies("hard_exit"), used_and_ended, left_by_its_reader,
    used_and_ended, raises("value_error"), used_and_ended, left_by_its_client, used_and_ended,
    does_not_start("SetupRaises"), used_and_ended, leaves_children("daemonize"), used_and_ended,
    raises("unpackable"), used_and_ended, hangs("loop"), used_and_ended, leaves_children("popen"),
    used_and_ended, does_not_start("SetupExits"), used_and_ended, dies("abort"), used_and_ended,
    hangs("c_sleep"), used_and_ended, leaves_children("zombie"), used_and_ended, raises("exit"),
]  # fmt: skip


def expect(kind: type[warmd.WarmdError], act: Callable[[], object]) -> None:
    """Raises AssertionError if `act` ends in any other way."""
    try:
        found = act()
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}, got {found!r}")


class Run:
    """So many cycles, in turn, by some threads at once."""

    def __init__(self, client: Any, cycles: int) -> None:
        self._client = client
        self._numbers = iter(range(cycles))
        self._lock = threading.Lock()
        self.failures: Counter[str] = Counter()

    def go(self, threads: int) -> None:
        workers = [threading.Thread(target=self._work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            try:
                CYCLES[number % len(CYCLES)](self._client)
            except Exception as error:
                self.failures[f"{type(error).__name__}: {str(error)[:200]}"] += 1
            if number and number % 1000 == 0:
                say(f"{number} cycles, the daemon has {holds(self._client.daemon_pid)['memory'] >> 20} MiB")


def holds(pid: int) -> dict[str, int]:
    """What a process holds, in numbers."""
    proc = Path(f"/proc/{pid}")
    return {
        "descriptors": len(os.listdir(proc / "fd")),
        "threads": len(os.listdir(proc / "task")),
        "processes": len(processes.tree(pid)),
        "memory": int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
    }


def files(run_dir: Path) -> dict[str, int]:
    """Named things that outlive processes; logs are kept on purpose, but not more than so many."""
    return {
        "shared memory": len(os.listdir("/dev/shm")),
        "temporary files": len(list(Path(tempfile.gettempdir()).glob("*"))),
        "files of the daemon": sum(1 for path in run_dir.rglob("*") if path.parent.name != "logs"),
    }


def snapshot(client: Any) -> dict[str, int]:
    """The daemon's and this process's, once no session is left."""
    end = time.monotonic() + SETTLE_SECONDS
    while client.sessions.list() and time.monotonic() < end:
        time.sleep(0.2)
    daemon = {f"daemon's {name}": value for name, value in holds(client.daemon_pid).items()}
    own = {f"client's {name}": value for name, value in holds(os.getpid()).items() if name != "processes"}
    return daemon | own | files(client.run_dir)


def measure(cycles: int, threads: int) -> dict[str, Any]:
    with warmd.local(max_sessions=MAX_SESSIONS, log_keep=LOGS_KEPT, log_level="error") as client:
        warm_up = Run(client, WARM_UP_ROUNDS * len(CYCLES))
        warm_up.go(threads)
        before = snapshot(client)
        begun = time.monotonic()
        run = Run(client, cycles)
        run.go(threads)
        seconds = time.monotonic() - begun
        after = snapshot(client)
        while grown(before, after) and time.monotonic() - begun < seconds + SETTLE_SECONDS:
            time.sleep(1.0)
            after = snapshot(client)
        return {
            "cycles": cycles,
            "seconds": seconds,
            "failures": dict(run.failures + warm_up.failures),
            "before": before,
            "after": after,
            "grown": grown(before, after),
        }


def grown(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """What is left, by name."""
    allowed = lambda name: MAX_GROWTH_BYTES if name.endswith("memory") and "'s" in name else 0  # noqa: E731
    return [name for name in before if after[name] > before[name] + allowed(name)]


def as_text(found: dict[str, Any]) -> str:
    rate = found["cycles"] / found["seconds"]
    lines = [f"{found['cycles']} cycles in {found['seconds']:.0f} s ({rate:.1f} a second)", ""]
    lines.append(f"{'':28}{'before':>12}{'after':>12}")
    for name, before in found["before"].items():
        after = found["after"][name]
        unit = 2**20 if name.endswith("'s memory") else 1
        shown = f"{before / unit:>12.0f}{after / unit:>12.0f}" + (" MiB" if unit > 1 else "")
        lines.append(f"{name:28}{shown}{'   GREW' if name in found['grown'] else ''}")
    lines += [f"{count} x {text}" for text, count in found["failures"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="what is left of sessions")
    parser.add_argument("--cycles", type=int, default=10_000, help="sessions to open (default 10000)")
    parser.add_argument("--threads", type=int, default=4, help="cycles at a time (default 4)")
    parser.add_argument("--json", action="store_true", help="print JSON with the machine's facts")
    options = parser.parse_args()
    facts = machine_facts()
    with tempfile.TemporaryDirectory(prefix="soak-") as own:  # other programs' files are not counted
        os.environ["TMPDIR"] = tempfile.tempdir = own
        found = measure(options.cycles, options.threads)
    print(json.dumps({"machine": facts, **found}, indent=2) if options.json else as_text(found))
    sys.exit(bool(found["grown"] or found["failures"]))


if __name__ == "__main__":
    main()
