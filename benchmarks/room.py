"""Whether so many sessions have room on this machine: told before the first of them is started."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import Unavailable
from benchmarks.subjects import PLACES_TO_SPARE

MOST_SESSIONS = 100_000 - PLACES_TO_SPARE
"""By the setting max_sessions."""
DESCRIPTORS, OTHER_DESCRIPTORS = 6, 150
"""Of the daemon for each session, and for all else; it leaves a quarter of what it may have free."""
MEMORY_BYTES, OTHER_MEMORY_BYTES = 4 * 2**20, 512 * 2**20
OTHER_PROCESSES = 100


def check(sessions: int) -> None:
    """Raises Unavailable, which says what there is too little of and where more comes from."""
    reasons = list(lacking(sessions))
    if reasons:
        raise Unavailable(f"{sessions} sessions have no room here: {'; '.join(reasons)}")


def lacking(sessions: int) -> Iterator[str]:
    """A reason for each limit that is too low."""
    if sessions > MOST_SESSIONS:
        yield f"the setting max_sessions, with {PLACES_TO_SPARE} to spare, allows {MOST_SESSIONS}"
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = (DESCRIPTORS * sessions + OTHER_DESCRIPTORS) * 4 // 3
    if needed > descriptors != resource.RLIM_INFINITY:
        yield f"the daemon needs {needed} descriptors and may have {descriptors} (ulimit -Hn)"
    available = _available_bytes()
    memory = MEMORY_BYTES * sessions + OTHER_MEMORY_BYTES
    if memory > available:
        yield f"they may need {memory >> 20} MiB of memory, {available >> 20} MiB are available"
    processes = sessions + OTHER_PROCESSES
    free = _free_processes()
    if processes > free:
        yield f"{processes} more processes are needed, {free} can be had (kernel.pid_max, ulimit -u)"


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not tell what memory is available")


def _free_processes() -> int:
    """At the least: as if all processes of the machine were this user's."""
    running = sum(entry.name.isdigit() for entry in Path("/proc").iterdir())
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    own, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if own != resource.RLIM_INFINITY and os.getuid() != 0:
        most = min(most, own)
    return most - running
