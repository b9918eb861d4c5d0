"""What processes use, as /proc tells: the memory and the processor time of whole trees.

The memory of a tree is what its root has resident, as `warmd ps` tells, and what its other processes
have of their own: what they share (a browser's program, say) would else count for each of them.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from warmd.protocol import places

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CONNECT_SECONDS = 5.0
_UCRED = struct.Struct("3i")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """One of /proc; `ticks` are its processor time and that of its children that have ended."""

    pid: int
    parent: int
    session: int
    ticks: int


class Used(NamedTuple):
    memory: int
    """Bytes."""
    cpu: float
    """Of one core, since the time before; 0 at first."""


class Usage:
    """Measures trees again and again.  Not safe from several threads at one time."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, int]] = {}

    def measure(self, roots: Iterable[int]) -> dict[int, Used]:
        """By root, without those that have ended."""
        now, trees = time.monotonic(), _trees(_processes(), set(roots))
        used = {}
        ticks = {}
        for root, members in trees.items():
            ticks[root] = sum(process.ticks for process in members)
            memory = sum(_memory(process.pid, process.pid == root) for process in members)
            used[root] = Used(memory, round(self._cpu(root, ticks[root], now), 2))
        self._before = {root: (now, ticks[root]) for root in trees}
        return used

    def _cpu(self, root: int, ticks: int, now: float) -> float:
        then, before = self._before.get(root, (now, ticks))
        return max(0, ticks - before) / TICKS_A_SECOND / (now - then) if now > then else 0.0


def is_process_behind(address: str, pid: int) -> bool:
    """Whether the daemon there is process `pid` of this machine, as the kernel tells: beyond TCP, or in a
    container, its number means another."""
    if address.startswith(places.TCP_SCHEME):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_SECONDS)
        try:
            probe.connect(os.fspath(places.path_of(address)))
            told = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        except OSError:
            return False
    return int(_UCRED.unpack(told)[0]) == pid


def _processes() -> dict[int, Process]:
    return {
        process.pid: process
        for name in os.listdir("/proc")
        if name.isdigit() and (process := _look_at(int(name))) is not None
    }


def _look_at(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return Process(pid, int(fields[1]), int(fields[3]), sum(map(int, fields[11:15])))


def _trees(processes: Mapping[int, Process], roots: set[int]) -> dict[int, list[Process]]:
    """The processes below each root, and those of its session: such whose parent has left them, say."""
    trees: dict[int, list[Process]] = defaultdict(list)
    known: dict[int, int] = {root: root for root in roots}
    for process in processes.values():
        path = [process]
        while (last := path[-1]).pid not in known and (parent := processes.get(last.parent)) is not None:
            path.append(parent)
        root = known.get(path[-1].pid, 0)
        for one in reversed(path):
            root = known.setdefault(one.pid, one.session if one.session in roots else root)
        if root:
            trees[root].append(process)
    return {root: members for root, members in trees.items() if root in processes}


def _memory(pid: int, is_root: bool) -> int:
    """Bytes: of the root all that is resident, of others what is not shared through a file."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared = map(int, file.read().split()[:3])
    except (OSError, ValueError):
        return 0
    return (resident if is_root else resident - shared) * PAGE_BYTES
