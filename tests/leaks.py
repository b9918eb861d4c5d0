"""What a test process holds: processes, descriptors, threads, temporary files and shared memory.

`Held.now()` is a snapshot; `left_behind(before)` says in words what came since and stayed.  Two
resource trackers (loky's and multiprocessing's) live as long as this process and are no leak.

Processes are found also when they have escaped, as the workers of a daemon that was killed: all that
descend from this run carry `MARK` in their environment.  While the daemon lives they are its business.
"""

from __future__ import annotations

import gc
import os
import re
import select
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SECONDS = 3.0
"""How long a thread or child that is already on its way out may take on a loaded machine."""
MARK = "WT_RUN"
SHARED = re.compile(r"warmd|.*loky|pymp-")
"""Names in /dev/shm that can be ours; the temporary folder is this run's own, so all in it counts."""
TRACKERS = ("multiprocessing.resource_tracker", "loky.backend.resource_tracker")


@dataclass(frozen=True, slots=True)
class Held:
    children: frozenset[int]
    processes: frozenset[int]
    """All that there are on the machine."""
    descriptors: frozenset[tuple[int, str]]
    threads: frozenset[threading.Thread]
    files: frozenset[str]

    @classmethod
    def now(cls) -> Held:
        return cls(_children(), _processes(), _descriptors(), frozenset(threading.enumerate()), _files())


def left_behind(before: Held) -> list[str]:
    """One line for each thing that was not held `before`, after what is ending has ended."""
    if _nothing_new(before, Held.now()):
        return []
    gc.collect()
    until = time.monotonic() + PATIENCE_SECONDS
    # One that ends may leave another behind, as a timer that goes on.
    while (new := frozenset(threading.enumerate()) - before.threads) and time.monotonic() < until:
        for thread in new:
            thread.join(max(0.0, until - time.monotonic()))
    for pid in (_children() - before.children) | _escaped(before):
        _await_exit(pid)
    now = Held.now()
    return [
        *(f"escaped process {pid}: {_command(pid)}" for pid in sorted(_escaped(before))),
        *(f"child {pid}: {_command(pid)}" for pid in sorted(now.children - before.children)),
        *(f"descriptor {fd}: {target}" for fd, target in sorted(now.descriptors - before.descriptors)),
        *(f"thread {thread.name}" for thread in now.threads - before.threads),
        *(f"file {path}" for path in sorted(now.files - before.files)),
    ]


def _nothing_new(before: Held, now: Held) -> bool:
    return (
        now.children <= before.children
        and not _escaped(before)
        and now.descriptors <= before.descriptors
        and now.threads <= before.threads
        and now.files <= before.files
    )


def _children() -> frozenset[int]:
    lists = [_read(Path(f"/proc/self/task/{task}/children")) for task in os.listdir("/proc/self/task")]
    pids = [int(pid) for pids in lists for pid in pids.split()]
    return frozenset(pid for pid in pids if "resource_tracker" not in _command(pid))


def _processes() -> frozenset[int]:
    return frozenset(int(name) for name in os.listdir("/proc") if name.isdigit())


def _escaped(before: Held) -> set[int]:
    """Processes that came since, descend from this run, and are no longer below this process."""
    mark = f"{MARK}={os.environ.get(MARK)}\0"
    new = _processes() - before.processes
    return {pid for pid in new if mark in _environment(pid) and not _is_below_this(pid)}


def _is_below_this(pid: int) -> bool:
    while pid > 1 and pid != os.getpid():
        fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        # One that has just ended is no longer anybody's.
        pid = int(fields[1]) if fields else os.getpid()
    return pid == os.getpid()


def _environment(pid: int) -> str:
    try:
        return _read(Path(f"/proc/{pid}/environ"))
    except PermissionError:  # another user's
        return ""


def _descriptors() -> frozenset[tuple[int, str]]:
    pipes = {_tracker_descriptor(name) for name in TRACKERS}
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of this very listing
            continue
        if int(name) not in pipes:
            found.add((int(name), target))
    return frozenset(found)


def _tracker_descriptor(module_name: str) -> int | None:
    tracker = getattr(sys.modules.get(module_name), "_resource_tracker", None)
    return getattr(tracker, "_fd", None)


def _files() -> frozenset[str]:
    """Names of many files are compared before each test and after: as plain text, that is quick."""
    shared = [name for name in os.listdir("/dev/shm") if SHARED.match(name)]
    ours = [f"/dev/shm/{name}" for name in shared if not _belongs_to_stranger(name)]
    folder = tempfile.gettempdir()
    return frozenset([*ours, *(f"{folder}/{name}" for name in os.listdir(folder))])


def _belongs_to_stranger(name: str) -> bool:
    """Loky names its semaphores after the process: it may be of another run beside this one."""
    named = re.match(r"sem\.loky-(\d+)-", name)
    if named is None:
        return False
    mark = f"{MARK}={os.environ.get(MARK)}\0"
    pid = int(named[1])
    return pid != os.getpid() and Path(f"/proc/{pid}").exists() and mark not in _environment(pid)


def _await_exit(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([pidfd], [], [], PATIENCE_SECONDS)
    finally:
        os.close(pidfd)


def _command(pid: int) -> str:
    command = _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()
    return command or "(a zombie: nobody waited for it)"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
