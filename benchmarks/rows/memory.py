"""What the memory of an idle session costs, beside bare interpreters and peers."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator

import warmd
from benchmarks import processes
from benchmarks.figures import Target
from benchmarks.peers import Peer
from benchmarks.rows import Line, Report, Row
from benchmarks.subjects import open_sessions

MEASURED = 8
"""Sessions, and bare interpreters, whose memory is looked at: as many of each, since they share."""
MAX_MIB = 4.0


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
