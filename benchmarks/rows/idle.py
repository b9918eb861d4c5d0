"""Many idle sessions: how fast they come, and what they cost calls, memory, listings and the processor."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import processes, room
from benchmarks.figures import Target, call_times, paired_ratio, rate
from benchmarks.forkfloor import running_forkfloor
from benchmarks.rows import SLICE_SECONDS, Contest, Contestant, Line, Report, sampled
from benchmarks.subjects import Counted, daemon_for, open_sessions, say, warmd_counter

SETTLE_SECONDS = 3.0
LISTING_SECONDS = 60.0
STARTS_MEASURED = 10
"""In as many parts the sessions are started, each after as many forks of the floor."""
MAX_CPU_PERCENT = 0.2
MAX_MIB = 4.0


class ManyIdle(Contest):
    """Two daemons: one with a single session, one with many; one session of each is called."""

    key = "idle"
    title = "Warm call, p50, beside idle sessions"
    unit = "us"
    scale = 1e6

    def open(self, stack: contextlib.ExitStack) -> None:
        self.count = self.effort.idle_sessions
        room.check(self.count)
        self.few, one = stack.enter_context(warmd_counter(1))
        self.many = stack.enter_context(daemon_for(self.count))
        fork = stack.enter_context(running_forkfloor())
        say(f"starting {self.count} sessions")
        sessions, self.starts = started(self.many, self.count, fork)
        self.pids = [info.pid for info in self.many.sessions.list()]
        self.sizes = ("1 session", f"{self.count} sessions")
        self.floor = self._timed(f"warmd, {self.sizes[0]}", one)
        self.warmd = self._timed(f"warmd, {self.sizes[1]}", Counted(self.many, sessions[0]))

    def _timed(self, name: str, counted: Counted) -> Contestant:
        return Contestant(
            name, lambda: statistics.median(call_times(counted.call, self.effort.calls, SLICE_SECONDS))
        )

    def measure(self) -> None:
        super().measure()
        self.further = [self.starts, self._listings(), self._memory(), self._processor()]

    def targets(self) -> list[Target]:
        text = f"p50 at {self.count} idle sessions / at 1"
        return [Target(text, self.warmd_to(self.floor.name), 1.2)]

    def reports(self) -> list[Report]:
        return [*super().reports(), *self.further]

    def _listings(self) -> Report:
        """The command, as a user waits for it, and the daemon's answer alone."""
        lines = [
            *self._listing("warmd ps", listed),
            *self._listing("sessions.list()", lambda client, _count: client.sessions.list()),
        ]
        return Report("idle-ps", "Listing all sessions", "ms", lines, [])

    def _listing(self, what: str, act: Callable[[Any, int], object]) -> Iterator[Line]:
        few = timed(f"{what}, {self.sizes[0]}", lambda: act(self.few, 1))
        many = timed(f"{what}, {self.sizes[1]}", lambda: act(self.many, self.count))
        samples = sampled([few, many], self.effort.slow_rounds)
        for name, times in samples.items():
            yield Line(name, statistics.median(times) * 1e3, paired_ratio(times, samples[few.name]))

    def _memory(self) -> Report:
        """Of every session; the app allocates nothing worth mention."""
        session = statistics.median(map(processes.pss_bytes, self.pids)) / 2**20
        tree = processes.tree(self.many.daemon_pid)
        all_of_it = sum(map(processes.pss_bytes, tree)) / 2**20
        lines = [
            Line(f"warmd, one of {self.count} sessions", session),
            Line("warmd, all processes, by session", all_of_it / self.count),
            Line("warmd's daemon", processes.pss_bytes(self.many.daemon_pid) / 2**20),
        ]
        target = Target(f"memory (PSS) of one of {self.count} idle sessions", session, MAX_MIB, unit="MiB")
        return Report("idle-memory", "Memory of many idle sessions (PSS)", "MiB", lines, [target])

    def _processor(self) -> Report:
        time.sleep(SETTLE_SECONDS)
        seconds = self.effort.idle_seconds
        say(f"watching {self.count} idle sessions for {seconds:.0f} s")

        def used() -> tuple[float, float]:
            return processes.cpu_seconds(self.many.daemon_pid), sum(map(processes.cpu_seconds, self.pids))

        before = used()
        time.sleep(seconds)
        after = used()
        daemon, sessions = [(late - early) / seconds * 100 for late, early in zip(after, before, strict=True)]
        lines = [Line("warmd's daemon", daemon), Line(f"its {self.count} sessions, together", sessions)]
        text = f"daemon's processor time with {self.count} idle sessions"
        target = Target(text, daemon, MAX_CPU_PERCENT, unit="% of a core")
        title = "Processor time while nobody calls"
        return Report("idle-cpu", title, "% of a core", lines, [target])


def started(client: Any, count: int, fork: Callable[[], object]) -> tuple[list[str], Report]:
    """So many new sessions, and how fast they came; in turns with bare forks."""
    sessions: list[str] = []
    forks: list[float] = []
    starts: list[float] = []
    part = -(-count // STARTS_MEASURED)
    while len(sessions) < count:
        forks.append(rate(lambda number: [fork() for _ in range(number)], part))
        next_part = min(part, count - len(sessions))
        starts.append(rate(lambda number: sessions.extend(open_sessions(client, number)), next_part))
    floor = "os.fork + first answer, one after the other"
    lines = [
        Line(floor, statistics.median(forks), 1.0),
        Line("warmd, 50 asked for at once", statistics.median(starts), paired_ratio(starts, forks)),
        Line("warmd, the last tenth", starts[-1], starts[-1] / forks[-1]),
    ]
    title = f"{count} new sessions, until their first answers"
    return sessions, Report("idle-starts", title, "sessions/s", lines, [])


def listed(client: Any, count: int) -> None:
    """`warmd ps`.  Raises ValueError unless it has told of so many sessions."""
    command = [sys.executable, "-m", "warmd", "--host", client.address, "ps"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=LISTING_SECONDS)
    told = done.stdout.count(b" counter ")
    if told != count:
        raise ValueError(f"`warmd ps` tells of {told} sessions, there are {count}")


def timed(name: str, act: Callable[[], object]) -> Contestant:
    return Contestant(name, lambda: call_times(act, 1)[0])
