"""NVIDIA GPUs: facts from NVML, moves by the checkpoint functions of the CUDA driver.

The driver's order is lock, checkpoint, restore, unlock, and a process has one of the states running,
locked, checkpointed, failed.  Here a checkpoint begins with its lock and a restore ends with its unlock,
so that to callers a process is either running or checkpointed; what fails half way is taken back by
what the driver then says the state is, not by what it should be.

Both libraries come with the extra `gpu` and are loaded when they are needed: NVML for looks, and CUDA,
whose start takes a part of a second, for the first move.  They wait in the kernel without holding the
interpreter (cuda-bindings from 12.9.1 on), so looks go on during moves.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from warmd.daemon.gpu.driver import Device, GpuError, Kind, State
from warmd.daemon.gpu.visible import visible

REMEDY = "pip install 'warmd[gpu]'"
SIGNS = ("/dev/nvidiactl", "/proc/driver/nvidia/version")
"""One of them is there where the kernel's driver is."""
PIDS = Path("/proc")
FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""The inode number of the machine's own, of all kernels (PROC_PID_INIT_INO in include/linux/proc_ns.h)."""
STATES: Mapping[int, State] = {0: "running", 1: "locked", 2: "checkpointed", 3: "failed"}
"""The others, of newer drivers, are between two of these."""
KINDS: Mapping[str, Kind] = {
    "CUDA_ERROR_NOT_READY": "busy",
    "CUDA_ERROR_OUT_OF_MEMORY": "no_memory",
    "CUDA_ERROR_NOT_SUPPORTED": "unsupported",
    "CUDA_ERROR_NOT_PERMITTED": "unsupported",
    "CUDA_ERROR_ILLEGAL_STATE": "illegal",
    "CUDA_ERROR_INVALID_VALUE": "gone",
    "CUDA_ERROR_NOT_INITIALIZED": "gone",
    "CUDA_ERROR_NO_DEVICE": "unavailable",
    "CUDA_ERROR_SYSTEM_NOT_READY": "unavailable",
}
"""Of a process without CUDA the driver says that its pid is invalid."""


def why_unavailable() -> str:
    """Why there is nothing to look at; else empty."""
    if not any(map(os.path.exists, SIGNS)):
        return "no NVIDIA driver is here"
    if find_spec("pynvml") is None:
        return f"the library that looks at GPUs is missing: {REMEDY}"
    return ""


def open_driver() -> Nvidia:
    """Raises GpuError."""
    why = why_unavailable()
    if why:
        raise GpuError("unavailable", why)
    nvml = import_module("pynvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise GpuError("unavailable", f"NVML cannot be started: {error}") from error
    return Nvidia(nvml)


class Nvidia:
    """A `Driver`; `nvml` is the module, started."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._cuda: Any = None
        self._starting = threading.Lock()

    def devices(self) -> list[Device]:
        """Raises GpuError.  GPUs that are split into MIG devices are left out."""
        nvml = self._nvml
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            ids = [str(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
            names = [str(nvml.nvmlDeviceGetName(handle)) for handle in handles]
            shown = visible(os.environ, ids, names)
            split = [index for index in shown if self._is_split(handles[index])]
            if split and split == shown:
                text = f"GPU {split[0]} is split into MIG devices, which are not supported"
                raise GpuError("unsupported", f"{text}: end that with `nvidia-smi -i {split[0]} -mig 0`")
            return [
                self._device(index, handles[index], ids[index], names[index])
                for index in shown
                if index not in split
            ]
        except nvml.NVMLError as error:
            raise GpuError("unavailable", f"NVML: {error}") from error

    def checkpoint(self, pid: int, lock_seconds: float) -> None:
        """Raises GpuError."""
        cuda = self._started()
        arguments = cuda.CUcheckpointLockArgs()
        arguments.timeoutMs = max(1, round(lock_seconds * 1000))  # 0 would be for ever
        self._call("cuCheckpointProcessLock", pid, arguments)
        try:
            self._call("cuCheckpointProcessCheckpoint", pid, None)
        except GpuError as error:
            raise self._taken_back(pid, error) from error

    def restore(self, pid: int) -> None:
        """Raises GpuError."""
        try:
            self._call("cuCheckpointProcessRestore", pid, None)
        except GpuError as error:
            if self._state_after(pid) == "failed":
                raise _lost(pid, error) from error
            raise
        try:
            self.unlock(pid)
        except GpuError as error:
            text = f"it is restored, but stays locked: {error.message}"
            raise GpuError(error.kind, text, "mixed") from error

    def unlock(self, pid: int) -> None:
        """Raises GpuError."""
        self._call("cuCheckpointProcessUnlock", pid, None)

    def state(self, pid: int) -> State:
        """Raises GpuError."""
        try:
            (state,) = self._call("cuCheckpointProcessGetState", pid)
        except GpuError as error:
            if error.kind == "gone":
                return "gone"
            raise
        except ValueError:  # cuda-bindings is older than the driver, and has no name for the state
            return "moving"
        return STATES.get(int(state), "moving")

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    # NVML

    def _device(self, index: int, handle: Any, id: str, name: str) -> Device:
        """Raises NVMLError."""
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        processes: dict[int, int | None] = {}
        for function in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            for one in self._unless_unsupported(getattr(self._nvml, function), handle) or ():
                # A process that does both is in both lists, with all that it uses.
                known, used = processes.get(one.pid), one.usedGpuMemory
                processes[one.pid] = used if known is None else max(known, used or 0)
        rates = self._unless_unsupported(self._nvml.nvmlDeviceGetUtilizationRates, handle)
        utilization = None if rates is None else int(rates.gpu)
        size = int(memory.total), int(memory.used)
        return Device(id, index, name, *size, utilization, processes, _are_of_here(processes))

    def _is_split(self, handle: Any) -> bool:
        modes = self._unless_unsupported(self._nvml.nvmlDeviceGetMigMode, handle)
        return modes is not None and modes[0] == self._nvml.NVML_DEVICE_MIG_ENABLE

    def _unless_unsupported(self, function: Callable[[Any], Any], handle: Any) -> Any:
        """None where this GPU does not tell.  Raises NVMLError."""
        nvml = self._nvml
        try:
            return function(handle)
        except nvml.NVMLError as error:
            unsupported = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            if error.value in (*unsupported, nvml.NVML_ERROR_NO_PERMISSION):
                return None
            raise

    # CUDA

    def _started(self) -> Any:
        """The module, after `cuInit`.  Raises GpuError."""
        with self._starting:
            if self._cuda is None:
                try:
                    cuda: Any = import_module("cuda.bindings.driver")
                except ImportError as error:
                    text = f"the library that moves GPU memory is missing ({error})"
                    raise GpuError("unavailable", f"{text}: {REMEDY}") from error
                try:
                    (result,) = cuda.cuInit(0)
                except Exception as error:  # of the library's own kinds
                    raise GpuError("unavailable", f"CUDA cannot be started: {error}") from error
                if result.name != "CUDA_SUCCESS":
                    raise GpuError("unavailable", f"CUDA cannot be started: {result.name}")
                self._cuda = cuda
            return self._cuda

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """What a function of the driver gives.  Raises GpuError."""
        function = getattr(self._started(), name, None)
        if function is None:
            raise GpuError("unavailable", f"cuda-bindings is too old for {name}: {REMEDY}")
        try:
            result, *values = function(*arguments)
        except RuntimeError as error:  # the driver has no such function
            raise GpuError("unsupported", f"{name}: {error}; it needs driver 570 or newer") from error
        except KeyError as error:
            raise GpuError("illegal", f"{name}: error {error}, which cuda-bindings does not know") from error
        if result.name != "CUDA_SUCCESS":
            raise GpuError(KINDS.get(result.name, "illegal"), f"{name}: {result.name}")
        return tuple(values)

    def _taken_back(self, pid: int, error: GpuError) -> GpuError:
        """What is said of a checkpoint that has failed, after the process was unlocked again."""
        state = self._state_after(pid)
        try:
            if state == "locked":
                self.unlock(pid)
            elif state == "checkpointed":
                self.restore(pid)
            elif state not in ("running", "gone"):
                return _lost(pid, error)
        except GpuError as worse:
            text = f"{error.message}; and it could not be taken back: {worse.message}"
            return GpuError(error.kind, text, "lost")
        return error

    def _state_after(self, pid: int) -> State | None:
        """None where it cannot be told."""
        try:
            return self.state(pid)
        except GpuError:
            return None


def _are_of_here(listed: Collection[int]) -> bool:
    """Whether a process here that uses the GPU would be listed by its pid.

    In a container many drivers list the machine's pids, of which some may be somebody else's here, or none.
    """
    try:
        is_first = (PIDS / "self/ns/pid").stat().st_ino == FIRST_PID_NAMESPACE
    except OSError:
        is_first = False
    return is_first or (bool(listed) and all((PIDS / str(pid)).exists() for pid in listed))


def _lost(pid: int, error: GpuError) -> GpuError:
    return GpuError("failed", f"what process {pid} had on the GPU is lost: {error.message}", "lost")
