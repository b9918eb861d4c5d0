"""How much memory workers use, the end of those that use too much, and what the kernel did.

The whole tree of each limited worker is measured every half second, an idle one's too: threads of
its app may go on.  Where no limit is set nothing is measured.  Resident pages are cheap to read but
count what forks share once for each of them, and files that the kernel can drop; so only a tree that
seems to be over its limit is measured exactly: its private memory, its part of what is shared, what
was swapped out.

Beside it stands RLIMIT_DATA in the worker (`worker.process.limit_data`): there a hog gets a
MemoryError and its session lives on.  It counts what is mapped and not what is used, for each process
by itself, which is too strict where much is reserved (CUDA): `worker_memory_rlimit` switches it off,
and then only the measure counts.  A tree can be over its limit for as long as a measure is away.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from warmd.daemon.core.events import OutOfMemory
from warmd.daemon.loop import Loop
from warmd.daemon.processes import token_in
from warmd.daemon.tree import orphans

log = logging.getLogger("warmd.memory")

MEASURE_SECONDS = 0.5
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_EXACT = re.compile(rb"^(?:Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB", re.MULTILINE)
_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class MemoryWatch:
    """Measures limited workers; calls `exceeded` for one that is over, which ends it."""

    def __init__(self, loop: Loop, limit_bytes: int | None) -> None:
        self._loop = loop
        self.limit_bytes = limit_bytes
        """What goes for workers whose app asks for no less."""
        self._watched: dict[int, tuple[bytes, int, Callable[[OutOfMemory], object]]] = {}
        self._ticking = False

    def add(
        self, pid: int, token: str, limit_bytes: int | None, exceeded: Callable[[OutOfMemory], object]
    ) -> None:
        """Watch the tree of `pid` until `remove`; nothing happens where there is no limit."""
        if limit_bytes is None:
            return
        self._watched[pid] = token.encode(), limit_bytes, exceeded
        if not self._ticking:
            self._ticking = True
            self._loop.call_in(MEASURE_SECONDS, self._measure)

    def limit_for(self, asked_bytes: int | None) -> int | None:
        """The limit of a worker whose app asks for `asked_bytes`: the lower of the two."""
        limits = [limit for limit in (asked_bytes, self.limit_bytes) if limit is not None]
        return min(limits, default=None)

    def remove(self, pid: int) -> None:
        self._watched.pop(pid, None)

    def _measure(self) -> None:
        self._ticking = bool(self._watched)
        if not self._ticking:
            return
        self._loop.call_in(MEASURE_SECONDS, self._measure)
        try:
            adopted = [(token_in(pid), pid) for pid in orphans(self._watched)]
        except OSError as error:
            log.warning("the workers' memory cannot be measured: %s", error)
            return
        for pid, (token, limit_bytes, exceeded) in list(self._watched.items()):
            roots = [pid, *(other for carried, other in adopted if carried == token)]
            used = used_bytes(roots, limit_bytes)
            if used > limit_bytes:
                exceeded(OutOfMemory("limit", used, limit_bytes))


def used_bytes(roots: Iterable[int], limit_bytes: int) -> int:
    """What these processes and their descendants use; exact if it is over the limit, else rough."""
    pids = list(_with_descendants(roots))
    rough = sum(_resident_bytes(pid) for pid in pids)
    return rough if rough <= limit_bytes else sum(_exact_bytes(pid) for pid in pids)


def kernel_kills() -> int | None:
    """How often the kernel has killed for lack of memory: in the daemon's cgroup, else on the machine.

    None where neither can be read.
    """
    for path in (*_own_events(), Path("/proc/vmstat")):
        try:
            found = _KILLS.search(path.read_text())
        except OSError:
            continue
        if found:
            return int(found[1])
    return None


def _own_events() -> Iterable[Path]:
    """The files that count for the daemon's own cgroup, of either version, where they may be."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        folder = path.lstrip("/")
        if number == "0":
            yield Path("/sys/fs/cgroup", folder, "memory.events")
        elif "memory" in controllers.split(","):
            yield Path("/sys/fs/cgroup/memory", folder, "memory.oom_control")


def _with_descendants(roots: Iterable[int]) -> Iterable[int]:
    seen: set[int] = set()
    ahead = list(roots)
    while ahead:
        pid = ahead.pop()
        if pid in seen:
            continue
        seen.add(pid)
        yield pid
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for thread in threads:
            ahead += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())


def _resident_bytes(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE_BYTES if fields else 0


def _exact_bytes(pid: int) -> int:
    found = _EXACT.findall(_read(f"/proc/{pid}/smaps_rollup"))
    return sum(map(int, found)) * 1024 if found else _resident_bytes(pid)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
