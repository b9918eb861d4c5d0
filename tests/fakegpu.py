"""A GPU driver without a GPU: its memory is files in a folder that all processes share.

    FAKE_GPU_DIR/
      devices.json            id, name and size of each device
      settings.json           slow return, memory of strangers, whether bytes are told and processes shown
      faults/NAME             what is to go wrong, and how often
      processes/PID.STARTED/  state, one file for each allocation: DEVICE.NAME
      lock                    held while any of it is changed

`FakeGpus` is the test's half, `FakeCuda` that of an app, and `open_driver()` that of the GPU helper, whose
driver is named `tests.fakegpu`.  Contents are real, so that what comes back can be compared.

Faults (`FakeGpus.fault(name, ...)`), each for the next `times`, or for all until `clear`:

    no_memory, illegal, failed, unsupported  at: checkpoint, restore, and also `unavailable` at look
    busy           a lock is not to be had: it takes all of `lock_seconds`
    slow, hang     `seconds`, or for ever     at: look, checkpoint, restore, or a point in the midst
    crash          of the helper              at: the same

Points in the midst: `checkpoint.locked`, `checkpoint.moved` (not unlocked, nothing said), `restore.moved`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.gpu.fakefolder import CHECKPOINTED, FAILED, LOCKED, RUNNING, Folder, Process, started, visible
from warmd.daemon.gpu.driver import Device, GpuError, State

VARIABLE = "FAKE_GPU_DIR"
DRIVER = "tests.fakegpu"
LOOK_AGAIN_SECONDS = 0.002
MESSAGES = {
    "no_memory": "CUDA_ERROR_OUT_OF_MEMORY (fake)",
    "illegal": "CUDA_ERROR_ILLEGAL_STATE (fake)",
    "failed": "the process's state is FAILED (fake)",
    "unsupported": "CUDA_ERROR_NOT_SUPPORTED (fake)",
    "unavailable": "there is no driver (fake)",
    "busy": "CUDA_ERROR_NOT_READY (fake)",
}


class OutOfMemory(Exception):
    """The device is full."""


class CudaError(Exception):
    """A use that CUDA refuses."""


class FakeGpus:
    """The test's half: makes the devices, and has things go wrong."""

    def __init__(self, path: Path, devices: dict[str, int] | None = None) -> None:
        """`devices`: id -> bytes; without them the folder is there already."""
        self.folder = Folder(path)
        if devices is not None:
            for name in ("processes", "faults"):
                (path / name).mkdir(parents=True)
            listed = [{"id": id, "name": "Fake H100", "total": total} for id, total in devices.items()]
            (path / "devices.json").write_text(json.dumps(listed))
            self._set({"return_seconds": 0.0, "strangers": {}, "told": True, "shown": True})

    @property
    def environment(self) -> dict[str, str]:
        return {VARIABLE: str(self.folder.path)}

    def fault(self, name: str, at: str = "", times: int | None = 1, seconds: float = 0.0) -> None:
        path = self.folder.path / "faults" / (f"{name}@{at}" if at else name)
        new = path.with_name("new")
        new.write_text(json.dumps({"times": times, "seconds": seconds}))
        new.rename(path)

    def clear(self) -> None:
        for path in (self.folder.path / "faults").iterdir():
            path.unlink(missing_ok=True)

    def left(self) -> list[str]:
        """The faults that have not all happened."""
        return sorted(path.name for path in (self.folder.path / "faults").iterdir())

    def return_slowly(self, seconds: float) -> None:
        """The memory of a dead process comes back so long after somebody has seen that it is dead."""
        self._change(return_seconds=seconds)

    def stranger(self, device: str, bytes: int) -> None:
        """Somebody else uses so much, in a process that is not shown."""
        self._change(strangers={**self.folder.settings()["strangers"], device: bytes})

    def tell_bytes(self, told: bool) -> None:
        """Whether the driver says how much each process uses."""
        self._change(told=told)

    def show_processes(self, shown: bool) -> None:
        """Whether it is as outside of a container, where the driver knows the pids of all."""
        self._change(shown=shown)

    def used(self, device: str) -> int:
        with self.folder.locked():
            return self.folder.used(device)

    def state(self, pid: int) -> str:
        process = self.folder.process(pid)
        return process.state if process else "gone"

    def _change(self, **settings: Any) -> None:
        with self.folder.locked():
            self._set({**self.folder.settings(), **settings})

    def _set(self, settings: dict[str, Any]) -> None:
        new = self.folder.path / "settings.new"
        new.write_text(json.dumps(settings))
        new.rename(self.folder.path / "settings.json")


class FakeCuda:
    """The app's half: memory on the devices that its process may see.

    Each use blocks while the process is locked or checkpointed, as it does in CUDA.
    """

    def __init__(self) -> None:
        self._folder = Folder(Path(os.environ[VARIABLE]))
        self._owner = os.getpid()
        path = self._folder.path / "processes" / f"{self._owner}.{started(self._owner)}"
        with self._folder.locked():
            (path / "memory").mkdir(parents=True, exist_ok=True)
            self._process = Process(path)
            if self._process.state == "gone":
                self._process.become(RUNNING)

    @property
    def devices(self) -> list[str]:
        """The ids of those that are visible, in the order of `CUDA_VISIBLE_DEVICES`."""
        return [one["id"] for one in visible(self._folder.devices())]

    def alloc(self, name: str, data: bytes, device: int = 0) -> None:
        """Raises OutOfMemory, CudaError."""
        with self._use():
            ids = self.devices
            if not 0 <= device < len(ids):
                raise CudaError(f"invalid device ordinal {device} of {len(ids)}")
            self._check_room(ids[device], len(data))
            self._path(ids[device], name).write_bytes(data)

    def read(self, name: str) -> bytes:
        """Raises KeyError, CudaError."""
        with self._use():
            return self._found(name).read_bytes()

    def free(self, name: str) -> None:
        """Raises KeyError, CudaError."""
        with self._use():
            self._found(name).unlink()

    def free_bytes(self, device: int = 0) -> int:
        with self._use():
            listed = visible(self._folder.devices())[device]
            return max(0, int(listed["total"]) - self._folder.used(listed["id"]))

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """While a kernel runs no lock is to be had."""
        busy = self._process.path / "busy"
        with self._use():
            busy.touch()
        try:
            yield
        finally:
            busy.unlink()

    @contextlib.contextmanager
    def _use(self) -> Iterator[None]:
        if os.getpid() != self._owner:
            raise CudaError("CUDA was initialised before the fork, and cannot be used in the child")
        while True:
            with self._folder.locked():
                if self._process.state == FAILED:
                    raise CudaError("an unrecoverable error: the context is lost")
                if self._process.state == RUNNING:
                    yield
                    return
            time.sleep(LOOK_AGAIN_SECONDS)

    def _check_room(self, device: str, bytes: int) -> None:
        total = next(int(one["total"]) for one in self._folder.devices() if one["id"] == device)
        free = total - self._folder.used(device)
        if bytes > free:
            raise OutOfMemory(f"CUDA out of memory: {bytes} bytes asked, {max(0, free)} of {total} free")

    def _path(self, device: str, name: str) -> Path:
        return self._process.path / "memory" / f"{device}.{name}"

    def _found(self, name: str) -> Path:
        for path in (self._process.path / "memory").iterdir():
            if path.name.partition(".")[2] == name:
                return path
        raise KeyError(name)


class FakeDriver:
    """The helper's half: a `Driver`."""

    def __init__(self, path: Path) -> None:
        self._folder = Folder(path)

    def devices(self) -> list[Device]:
        self._reach("look")
        self._fail("look", "unavailable")
        with self._folder.locked():
            processes, settings = self._folder.processes(), self._folder.settings()
            listed = self._folder.devices()
            shown = visible(listed)
            return [self._device(listed.index(one), one, processes, settings) for one in shown]

    def checkpoint(self, pid: int, lock_seconds: float) -> None:
        self._reach("checkpoint")
        process = self._lock(pid, lock_seconds)
        self._reach("checkpoint.locked")
        try:
            self._fail("checkpoint", "no_memory", "illegal", "unsupported")
            self._fail_for_good("checkpoint", process)
        except GpuError as error:
            if error.kind != "failed":
                process.become(RUNNING)
            raise
        process.become(CHECKPOINTED)
        self._reach("checkpoint.moved")

    def restore(self, pid: int) -> None:
        self._reach("restore")
        process = self._process(pid)
        self._fail("restore", "no_memory", "illegal", "unsupported")
        if process.state != CHECKPOINTED:
            raise GpuError("illegal", f"{MESSAGES['illegal']}: it is {process.state}")
        self._fail_for_good("restore", process)
        with self._folder.locked():
            for one in self._folder.devices():
                wanted = sum(process.allocations().get(one["id"], {}).values())
                if wanted > one["total"] - self._folder.used(one["id"]):
                    raise GpuError("no_memory", MESSAGES["no_memory"])
            process.become(LOCKED)
        self._reach("restore.moved")
        self.unlock(pid)

    def unlock(self, pid: int) -> None:
        process = self._process(pid)
        if process.state != LOCKED:
            raise GpuError("illegal", f"{MESSAGES['illegal']}: it is {process.state}")
        process.become(RUNNING)

    def state(self, pid: int) -> State:
        process = self._folder.process(pid)
        return process.state if process else "gone"  # type: ignore[return-value]

    def close(self) -> None:
        pass

    def _device(
        self, index: int, one: dict[str, Any], processes: list[Process], settings: dict[str, Any]
    ) -> Device:
        told, are_shown = bool(settings["told"]), bool(settings["shown"])
        living = [process for process in processes if process.is_alive and are_shown]
        bytes = {process.pid: sum(process.on(one["id"]).values()) for process in living}
        shown = {pid: used if told else None for pid, used in bytes.items() if used}
        used = self._folder.used(one["id"])
        return Device(one["id"], index, one["name"], int(one["total"]), used, None, shown, are_shown)

    def _process(self, pid: int) -> Process:
        process = self._folder.process(pid)
        if process is None:
            raise GpuError("gone", f"there is no CUDA process {pid}")
        return process

    def _lock(self, pid: int, seconds: float) -> Process:
        until = time.monotonic() + seconds
        refused = self._folder.take_fault("busy") is not None
        process = self._process(pid)
        if process.state != RUNNING:
            raise GpuError("illegal", f"{MESSAGES['illegal']}: it is {process.state}")
        while True:
            with self._folder.locked():
                if not refused and not (process.path / "busy").exists():
                    process.become(LOCKED)
                    return process
            if time.monotonic() >= until:
                raise GpuError("busy", MESSAGES["busy"])
            time.sleep(LOOK_AGAIN_SECONDS)

    def _reach(self, point: str) -> None:
        if (fault := self._folder.take_fault(f"slow@{point}")) is not None:
            time.sleep(fault["seconds"])
        if self._folder.take_fault(f"crash@{point}") is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._folder.take_fault(f"hang@{point}") is not None:
            while True:
                time.sleep(60)

    def _fail(self, at: str, *kinds: str) -> None:
        for kind in kinds:
            if self._folder.take_fault(f"{kind}@{at}") is not None:
                raise GpuError(kind, MESSAGES[kind])  # type: ignore[arg-type]

    def _fail_for_good(self, at: str, process: Process) -> None:
        if self._folder.take_fault(f"failed@{at}") is not None:
            process.become(FAILED)
            raise GpuError("failed", MESSAGES["failed"], "lost")


def why_unavailable() -> str:
    path = os.environ.get(VARIABLE)
    return "" if path and Path(path).is_dir() else f"{VARIABLE} names no folder"


def open_driver() -> FakeDriver:
    """The driver of the folder that the environment names.  Raises GpuError."""
    if why := why_unavailable():
        raise GpuError("unavailable", why)
    return FakeDriver(Path(os.environ[VARIABLE]))
