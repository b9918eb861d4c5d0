"""What a test process holds: children, descriptors, threads, and named files of warmd.

`Held.now()` is a snapshot; `left_behind(before)` says in words what came since and stayed.  Two
resource trackers (loky's and multiprocessing's) live as long as this process and are no leak.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SECONDS = 3.0
"""How long a thread or child that is already on its way out may take on a loaded machine."""
TRACKERS = ("multiprocessing.resource_tracker", "loky.backend.resource_tracker")


@dataclass(frozen=True, slots=True)
class Held:
    children: frozenset[int]
    descriptors: frozenset[tuple[int, str]]
    threads: frozenset[threading.Thread]
    files: frozenset[str]

    @classmethod
    def now(cls) -> Held:
        return cls(_children(), _descriptors(), frozenset(threading.enumerate()), _files())


def left_behind(before: Held) -> list[str]:
    """One line for each thing that was not held `before`, after what is ending has ended."""
    if _nothing_new(before, Held.now()):
        return []
    gc.collect()
    for thread in frozenset(threading.enumerate()) - before.threads:
        thread.join(PATIENCE_SECONDS)
    for pid in _children() - before.children:
        _await_exit(pid)
    now = Held.now()
    return [
        *(f"child {pid}: {_command(pid)}" for pid in sorted(now.children - before.children)),
        *(f"descriptor {fd}: {target}" for fd, target in sorted(now.descriptors - before.descriptors)),
        *(f"thread {thread.name}" for thread in now.threads - before.threads),
        *(f"file {path}" for path in sorted(now.files - before.files)),
    ]


def _nothing_new(before: Held, now: Held) -> bool:
    return (
        now.children <= before.children
        and now.descriptors <= before.descriptors
        and now.threads <= before.threads
        and now.files <= before.files
    )


def _children() -> frozenset[int]:
    lists = [_read(task / "children") for task in Path("/proc/self/task").iterdir()]
    pids = [int(pid) for pids in lists for pid in pids.split()]
    return frozenset(pid for pid in pids if "resource_tracker" not in _command(pid))


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
    folders = (Path("/dev/shm"), Path(tempfile.gettempdir()))
    return frozenset(str(path) for folder in folders for path in folder.glob("warmd*"))


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
