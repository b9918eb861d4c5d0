"""The folder that is the memory of the fake GPUs (`tests.fakegpu`)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RUNNING, LOCKED, CHECKPOINTED, FAILED = "running", "locked", "checkpointed", "failed"


class Folder:
    """The machine's GPUs, as all of its processes see them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with open(self.path / "lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def devices(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.path / "devices.json").read_text())
        return found

    def settings(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "settings.json").read_text())
        return found

    def processes(self) -> list[Process]:
        """Those that have memory: also dead ones, until theirs has come back.  Under the lock."""
        found = [Process(path) for path in sorted((self.path / "processes").iterdir())]
        return [process for process in found if not self._is_returned(process)]

    def process(self, pid: int) -> Process | None:
        """The living process with that pid that has called CUDA."""
        since = started(pid)
        path = self.path / "processes" / f"{pid}.{since}"
        return Process(path) if since and path.is_dir() else None

    def used(self, device: str) -> int:
        """Under the lock."""
        mine = sum(sum(process.on(device).values()) for process in self.processes())
        return mine + int(self.settings()["strangers"].get(device, 0))

    def take_fault(self, name: str) -> dict[str, Any] | None:
        """The fault, if it is to happen now: one time less remains."""
        path = self.path / "faults" / name
        if not path.exists():
            return None
        with self.locked():
            try:
                fault: dict[str, Any] = json.loads(path.read_text())
            except FileNotFoundError:
                return None
            if fault["times"] is not None:
                fault["times"] -= 1
                path.write_text(json.dumps(fault))
                if not fault["times"]:
                    path.unlink()
        return fault

    def _is_returned(self, process: Process) -> bool:
        if process.is_alive:
            return False
        died = process.path / "died"
        if not died.exists():
            died.touch()
        if time.time() - died.stat().st_mtime < self.settings()["return_seconds"]:
            return False
        shutil.rmtree(process.path, ignore_errors=True)
        return True


class Process:
    """What one process has; a dead one too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        pid, since = path.name.split(".")
        self.pid = int(pid)
        self._since = since

    @property
    def is_alive(self) -> bool:
        return started(self.pid) == self._since

    @property
    def state(self) -> str:
        try:
            return (self.path / "state").read_text()
        except FileNotFoundError:
            return "gone"

    def become(self, state: str) -> None:
        new = self.path / "state.new"
        new.write_text(state)
        new.rename(self.path / "state")

    def allocations(self) -> dict[str, dict[str, int]]:
        """device -> name -> bytes, wherever they are."""
        found: dict[str, dict[str, int]] = {}
        for path in (self.path / "memory").glob("*"):
            device, _, name = path.name.partition(".")
            found.setdefault(device, {})[name] = path.stat().st_size
        return found

    def on(self, device: str) -> dict[str, int]:
        """What lies on the device itself."""
        return {} if self.state == CHECKPOINTED else self.allocations().get(device, {})


def started(pid: int) -> str:
    """When a process was started, in the kernel's ticks; empty for one that has ended, a zombie too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def visible(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that `CUDA_VISIBLE_DEVICES` of this process names, up to the first that is not there."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return devices
    found = []
    for entry in map(str.strip, named.split(",")):
        by_id = [one for one in devices if entry.startswith("GPU") and one["id"].startswith(entry)]
        by_number = devices[int(entry) : int(entry) + 1] if entry.isdigit() else []
        if len(by_id + by_number) != 1:
            break
        found += by_id + by_number
    return found
