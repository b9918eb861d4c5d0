"""One cgroup (version 2) a worker, where the daemon was given a folder of cgroups for its own use.

Theory
------
* A process cannot leave its cgroup, whatever it does to its environment, parents and session.  So
  what is in a worker's cgroup is its tree, exactly, and `cgroup.kill` ends all of it at one moment.
* With the memory controller `memory.max` is a limit that nothing can outrun.  The kernel kills the
  whole group (`memory.oom.group`) and counts that in `memory.events`.
* Only a cgroup without processes can hand a controller down to its children.  So a daemon that was
  given the cgroup that it runs in moves to a child of it first.
* Which cgroups may be used is not a matter of permissions: root can write to all of them, and all
  but the delegated ones are systemd's.  Systemd marks those (`user.delegate`); others are named by
  the setting `cgroup`.

The names begin with a digest of the run directory: the next daemon there ends what this one left, and
the daemons of other directories may use the same folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Container
from pathlib import Path

from warmd.daemon.core.events import OutOfMemory
from warmd.daemon.processes import NO_DESCRIPTORS
from warmd.protocol.work import WorkerId

log = logging.getLogger("warmd.cgroup")

DELEGATED = ("user.delegate", "trusted.delegate")
"""Extended attributes by which systemd says that a cgroup is its service's own."""
KILL_SECONDS = 5.0
LOOK_SECONDS = 0.01
_MOUNT = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .* - cgroup2 ", re.MULTILINE)
_OWN = re.compile(r"^0::(.*)$", re.MULTILINE)
_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class Cgroups:
    """The workers' cgroups below `base`.  `limits_memory`: `memory.max` can be set for them."""

    def __init__(
        self, base: Path, run_dir: str, in_service: Callable[[], Container[int]] = frozenset
    ) -> None:
        self.base = base
        self._prefix = f"warmd-{hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:8]}-"
        self._end_leftovers(in_service)
        self.limits_memory = self._hand_down_memory()

    @staticmethod
    def open(
        chosen: str, run_dir: str, in_service: Callable[[], Container[int]] = frozenset
    ) -> Cgroups | None:
        """In the folder that the setting names, or in the daemon's own cgroup if that was delegated.

        What an earlier daemon of `run_dir` left there is ended, but for the processes `in_service`.
        None where neither is so.  Raises OSError where a named folder cannot be used.
        """
        base = Path(chosen) if chosen else delegated()
        if base is None:
            return None
        if chosen and not (base / "cgroup.kill").exists():
            raise OSError(f"{base} (setting cgroup) is no cgroup of version 2 with cgroup.kill (Linux 5.14)")
        try:
            return Cgroups(base, run_dir, in_service)
        except OSError as error:
            if chosen:
                raise
            log.warning("the delegated cgroup %s cannot be used: %s", base, error)
            return None

    def make(self, worker: WorkerId, memory_bytes: int | None) -> Path:
        """A cgroup for one worker.  Raises OSError."""
        path = self.base / f"{self._prefix}{os.getpid()}-{worker}"
        path.mkdir()
        if memory_bytes is not None and self.limits_memory:
            (path / "memory.max").write_text(str(memory_bytes))
            (path / "memory.oom.group").write_text("1")
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap accounting
                (path / "memory.swap.max").write_text("0")
        return path

    def _end_leftovers(self, in_service: Callable[[], Container[int]]) -> None:
        paths = [path for path in self.base.glob(f"{self._prefix}*") if path.name != self._own_name]
        spared = in_service() if paths else ()
        for path in paths:
            if any(pid in spared for pid in pids(path)):
                continue
            kill(path)
            until = time.monotonic() + KILL_SECONDS
            while not remove(path) and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)

    @property
    def _own_name(self) -> str:
        return f"{self._prefix}daemon"

    def _hand_down_memory(self) -> bool:
        if "memory" not in (self.base / "cgroup.controllers").read_text().split():
            return False
        if _pid_in(self.base, os.getpid()):
            own = self.base / self._own_name
            own.mkdir(exist_ok=True)
            (own / "cgroup.procs").write_text(str(os.getpid()))
        try:
            (self.base / "cgroup.subtree_control").write_text("+memory")
        except OSError as error:
            log.warning("the kernel limits no memory in %s: %s", self.base, error.strerror)
            return False
        return True


def delegated(root: Path = Path("/")) -> Path | None:
    """The cgroup of this process, if systemd has given it to its service."""
    try:
        own = _OWN.search((root / "proc/self/cgroup").read_text())
        mount = _MOUNT.search((root / "proc/self/mountinfo").read_text())
    except OSError:
        return None
    if own is None or mount is None:
        return None
    # In a namespace of cgroups the mount shows only a part, and names are relative to it.
    below = os.path.relpath(own[1], mount[1])
    if below.startswith(".."):
        return None
    path = root / mount[2].lstrip("/") / below
    return path if any(_is_set(path, name) for name in DELEGATED) and os.access(path, os.W_OK) else None


def _is_set(path: Path, attribute: str) -> bool:
    try:
        return os.getxattr(path, attribute) == b"1"
    except OSError:
        return False


def pids(path: Path) -> set[int]:
    """The processes in a worker's cgroup and in those that it has made below.

    Raises OSError where they cannot be read for want of descriptors.
    """
    found: set[int] = set()
    for folder in (path, *path.rglob("*/")):
        try:
            found |= {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
        except OSError as error:  # it is gone, or of a kind that holds no processes
            if error.errno in NO_DESCRIPTORS:
                raise
    return found


def _pid_in(path: Path, pid: int) -> bool:
    return str(pid) in (path / "cgroup.procs").read_text().split()


def kill(path: Path) -> None:
    """SIGKILL for all in it, at one moment.  Where that fails they are there still (`pids`)."""
    with contextlib.suppress(OSError), open(path / "cgroup.kill", "r+b", buffering=0) as file:
        file.write(b"1")


def remove(path: Path) -> bool:
    """Take a cgroup away with those below; whether it is gone.  Processes in it keep it there."""
    with contextlib.suppress(FileNotFoundError):
        for folder in sorted(path.rglob("*/"), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(FileNotFoundError):
            try:
                path.rmdir()
            except OSError:
                return False
    return True


def out_of_memory(path: Path, limit_bytes: int) -> OutOfMemory | None:
    """Whether the kernel has killed in this cgroup for its limit."""
    try:
        found = _KILLS.search((path / "memory.events").read_text())
        if found is None or not int(found[1]):
            return None
        used = int((path / "memory.peak").read_text()) if (path / "memory.peak").exists() else limit_bytes
    except OSError:
        return None
    return OutOfMemory("limit", max(used, limit_bytes), limit_bytes)
