"""What idle sessions cost: the calls to one of them, the processor, memory."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import warmd
from benchmarks import processes
from benchmarks.figures import Target, call_times
from benchmarks.peers import Peer
from benchmarks.rows import SLICE_SECONDS, Contest, Contestant, Line, Report, Row
from benchmarks.subjects import Counted, open_sessions, say, warmd_counter

SETTLE_SECONDS = 3.0
MEASURED = 8
"""Sessions, and bare interpreters, whose memory is looked at: as many of each, since they share."""
MAX_CPU_PERCENT = 0.2
MAX_MIB = 4.0


class ManyIdle(Contest):
    """Two daemons: one with a single session, one with many; one session of each is called."""

    key = "idle"
    title = "Warm call, p50, beside idle sessions"
    unit = "us"
    scale = 1e6
    cpu_percent: float | None = None

    def open(self, stack: contextlib.ExitStack) -> None:
        count = self.effort.idle_sessions
        _, one = stack.enter_context(warmd_counter(1))
        say(f"starting {count} sessions")
        client, many = stack.enter_context(warmd_counter(count))
        self.daemon = client.daemon_pid
        self.floor = self._timed("warmd, 1 session", one)
        self.warmd = self._timed(f"warmd, {count} sessions", many)

    def _timed(self, name: str, counted: Counted) -> Contestant:
        return Contestant(
            name, lambda: statistics.median(call_times(counted.call, self.effort.calls, SLICE_SECONDS))
        )

    def measure(self) -> None:
        super().measure()
        time.sleep(SETTLE_SECONDS)
        seconds = self.effort.idle_seconds
        say(f"watching {self.effort.idle_sessions} idle sessions for {seconds:.0f} s")
        before = processes.cpu_seconds(self.daemon)
        time.sleep(seconds)
        self.cpu_percent = (processes.cpu_seconds(self.daemon) - before) / seconds * 100

    def targets(self) -> list[Target]:
        text = f"p50 at {self.effort.idle_sessions} idle sessions / at 1"
        return [Target(text, self.warmd_to(self.floor.name), 1.2)]

    def reports(self) -> list[Report]:
        text = f"daemon's processor time with {self.effort.idle_sessions} idle sessions"
        lines = [] if self.cpu_percent is None else [Line("warmd's daemon", self.cpu_percent)]
        target = Target(text, self.cpu_percent, MAX_CPU_PERCENT, unit="% of a core")
        title = "The daemon's processor time while nobody calls"
        return [*super().reports(), Report("idle-cpu", title, "% of a core", lines, [target])]


class Memory(Row):
    """Proportional sets: what a process shares is divided among those that share it.

    The app allocates nothing worth mention.  Of a peer all processes count that opening it started.
    """

    key = "memory"
    meets_peers = True

    def open(self, stack: contextlib.ExitStack) -> None:
        client = stack.enter_context(warmd.local())
        self.sessions = [client.sessions.get(id).pid for id in open_sessions(client, MEASURED)]
        self.daemon = client.daemon_pid
        self.bare = [stack.enter_context(_waiting_python()) for _ in range(MEASURED)]
        self.lines: list[Line] = []

    def measure(self) -> None:
        session = statistics.median(map(processes.pss_bytes, self.sessions)) / 2**20
        bare = statistics.median(map(processes.pss_bytes, self.bare)) / 2**20
        daemon = processes.pss_bytes(self.daemon) / 2**20
        self.session_mib = session
        self.lines = [
            Line("bare Python, waiting", bare, 1.0, session / bare),
            Line("warmd, one session", session, session / bare, 1.0),
            Line("warmd's daemon", daemon, daemon / bare),
        ]

    def beside(self, peer: Peer) -> None:
        bare = self.lines[0].value
        mib = sum(processes.pss_bytes(pid) for pid in peer.pids if processes.alive(pid)) / 2**20
        self.lines.append(Line(f"{peer.name}, all of it", mib, mib / bare, self.session_mib / mib))

    def reports(self) -> list[Report]:
        target = Target("memory (PSS) of an idle session", self.session_mib, MAX_MIB, unit="MiB")
        title = "Memory of an idle session (PSS)"
        return [Report(self.key, title, "MiB", self.lines, [target], self.missing)]


@contextlib.contextmanager
def _waiting_python() -> Iterator[int]:
    code = "print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process.pid
    finally:
        process.kill()
        process.communicate(timeout=10)
