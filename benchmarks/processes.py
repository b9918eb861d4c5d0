"""What /proc says about a tree of processes."""

from __future__ import annotations

import os
from pathlib import Path

_PARENT, _USER_TICKS, _SYSTEM_TICKS = 1, 11, 12  # fields after the name in /proc/PID/stat


def parent_of(pid: int) -> int:
    """The parent's process id.  Raises FileNotFoundError for a process that is gone."""
    return int(_stat(pid)[_PARENT])


def tree(root: int) -> set[int]:
    """`root` and all processes below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(parent_of(int(entry.name)), []).append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, waiting = set(), [root]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += children.get(pid, [])
    return found


def cpu_seconds_below(root: int) -> float:
    """User and system time of `root` and all processes below it."""
    return sum(cpu_seconds(pid) for pid in tree(root))


def alive(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pss_bytes(pid: int) -> int:
    """Its proportional set: memory of its own, and its share of what it has in common with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory: it has ended")


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, all its threads."""
    try:
        return sum(thread_seconds(pid).values())
    except FileNotFoundError:
        # The kernel may not keep it; ticks of 10 ms hide most of what an idle process does.
        fields = _stat(pid)
        return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / os.sysconf("SC_CLK_TCK")


def thread_seconds(pid: int) -> dict[int, float]:
    """User and system time of each thread, by its id.  Raises FileNotFoundError if the kernel keeps none."""
    return {
        int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


def threads(pid: int) -> list[int]:
    """The ids of its threads."""
    return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]


def waits(pid: int) -> int:
    """How often its threads have given the processor away by themselves, to wait for something."""
    return sum(
        _number(f"/proc/{pid}/task/{thread}/status", "voluntary_ctxt_switches") for thread in threads(pid)
    )


def reads_and_writes(pid: int) -> int:
    """How many system calls of the families read(2) and write(2) it has made; send and recv are others."""
    return _number(f"/proc/{pid}/io", "syscr") + _number(f"/proc/{pid}/io", "syscw")


def _number(path: str, key: str) -> int:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value)
    raise KeyError(f"{path} has no {key}")


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
