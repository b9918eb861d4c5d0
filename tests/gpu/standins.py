"""Stand-ins for the two libraries of the NVIDIA driver, which keep to what is documented of them."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


class Nvml(ModuleType):
    """Two GPUs, and what runs on the first."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION = 3, 4
    NVML_ERROR_FUNCTION_NOT_FOUND, NVML_ERROR_GPU_IS_LOST = 13, 15
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.compute: list[tuple[int, int | None]] = [(10, 600), (11, None)]
        self.graphics: list[tuple[int, int | None]] = [(12, 5)]
        self.split: set[int] = set()
        self.refusing: dict[str, int] = {}
        self.is_open = False

    def _check(self, name: str) -> None:
        if name in self.refusing:
            raise NVMLError(self.refusing[name])

    def nvmlInit(self) -> None:
        self._check("nvmlInit")
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._check("nvmlDeviceGetHandleByIndex")
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}{handle}"

    def nvmlDeviceGetName(self, _handle: int) -> str:
        return "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=1000, used=605 if handle == 0 else 0, free=0)

    def nvmlDeviceGetUtilizationRates(self, _handle: int) -> Any:
        self._check("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=42, memory=7)

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        self._check("nvmlDeviceGetMigMode")
        return [int(handle in self.split), 0]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return self._processes(self.compute if handle == 0 else [])

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:
        self._check("nvmlDeviceGetGraphicsRunningProcesses")
        return self._processes(self.graphics if handle == 0 else [])

    def _processes(self, listed: list[tuple[int, int | None]]) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in listed]


def result(name: str) -> Any:
    return SimpleNamespace(name=name)


class Cuda(ModuleType):
    """Process 10 has CUDA, in one of the driver's states; `failing` gives results to functions."""

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.status: int | None = 0
        self.failing: dict[str, str | Exception] = {}
        self.after: dict[str, int] = {}
        """The state that a function leaves which fails."""
        self.calls: list[str] = []
        self.timeouts: list[int] = []

    def CUcheckpointLockArgs(self) -> Any:
        return SimpleNamespace(timeoutMs=0)

    def cuInit(self, flags: int) -> Any:
        assert flags == 0
        return (result(self._failure("cuInit") or "CUDA_SUCCESS"),)

    def cuCheckpointProcessLock(self, pid: int, arguments: Any) -> Any:
        self.timeouts.append(arguments.timeoutMs)
        return self._go("Lock", pid, 0, 1)

    def cuCheckpointProcessCheckpoint(self, pid: int, _arguments: None) -> Any:
        return self._go("Checkpoint", pid, 1, 2)

    def cuCheckpointProcessRestore(self, pid: int, _arguments: None) -> Any:
        return self._go("Restore", pid, 2, 1)

    def cuCheckpointProcessUnlock(self, pid: int, _arguments: None) -> Any:
        return self._go("Unlock", pid, 1, 0)

    def cuCheckpointProcessGetState(self, pid: int) -> Any:
        failure = self._failure("GetState")
        if failure or pid != 10:
            return result(failure or "CUDA_ERROR_INVALID_VALUE"), None
        return result("CUDA_SUCCESS"), self.status

    def _go(self, name: str, pid: int, begins: int, ends: int) -> Any:
        self.calls.append(name)
        failure = self._failure(name)
        if failure:
            self.status = self.after.get(name, self.status)
            return (result(failure),)
        if pid != 10:
            return (result("CUDA_ERROR_INVALID_VALUE"),)
        if self.status != begins:
            return (result("CUDA_ERROR_ILLEGAL_STATE"),)
        self.status = ends
        return (result("CUDA_SUCCESS"),)

    def _failure(self, name: str) -> str | None:
        failure = self.failing.get(name)
        if isinstance(failure, Exception):
            raise failure
        return failure
