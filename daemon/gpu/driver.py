"""The seam to a GPU driver: what is asked of one, in plain records, and how it fails.

Everything that touches a GPU goes through a `Driver`, so that all above it can be tested where there is
none.  A setting names the driver: `nvidia`, or a module that has `open_driver()`, which gives a Driver or
raises GpuError, and `why_unavailable()`, a text that is empty where there is one.  Drivers are opened in
the helper process alone (`helper.py`): a library that crashes or hangs must not do so in the daemon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, Protocol, cast

Kind = Literal["busy", "no_memory", "unsupported", "illegal", "gone", "failed", "unavailable"]
"""busy: the process could not be locked in time.  no_memory: of the GPU, or of the host.  unsupported: the
driver does not do that for this process.  illegal: the process is in no state for it.  gone: the driver
knows no such process.  failed: what the process had on the GPU is lost.  unavailable: no driver, library
or device, or no helper."""

Harm = Literal["none", "mixed", "lost"]
"""What a move that failed has left.  none: all is as it was before.  mixed: a part is in host memory and a
part on the GPU, nothing is lost, and a `restore` may be tried again.  lost: the session cannot go on, or
nobody knows whether it can."""

State = Literal["running", "locked", "checkpointed", "moving", "failed", "gone"]
"""moving: a checkpoint or a restore is under way.  gone: the process has ended, or has no CUDA."""

OFF = "off"
NVIDIA = "nvidia"
_NVIDIA_MODULE = "warmd.daemon.gpu.nvidia"


class GpuError(Exception):
    """What could not be done, `kind` of failure, and the `harm` that it has done."""

    def __init__(self, kind: Kind, message: str, harm: Harm = "none") -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message
        self.harm: Harm = harm


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU as the driver shows it."""

    id: str
    """Its UUID, `GPU-...`."""
    index: int
    """By which `nvidia-smi` calls it, whatever is visible."""
    name: str
    total_bytes: int
    used_bytes: int
    utilization: int | None = None
    """Percent of the time in which something ran; None where it is not told."""
    processes: Mapping[int, int | None] = field(default_factory=dict)
    """pid -> bytes that it uses; None where the driver does not say."""
    shows_processes: bool = True
    """False in a container whose pids the driver does not know: what processes use cannot be told."""


class Driver(Protocol):
    """All methods may block for seconds, and are called from several threads at once."""

    def devices(self) -> list[Device]:
        """Those that `CUDA_VISIBLE_DEVICES` of this process leaves, in its order.  Raises GpuError."""

    def checkpoint(self, pid: int, lock_seconds: float) -> None:
        """Move what the process has on GPUs to host memory; it must have no work there that lasts longer
        than `lock_seconds`.  Until `restore` each use of CUDA blocks in it.

        Raises GpuError; the process is then as before, but after `failed`.
        """

    def restore(self, pid: int) -> None:
        """The way back.  Raises GpuError; the process is then as before, but after `failed`."""

    def unlock(self, pid: int) -> None:
        """Let a locked process go on.  Raises GpuError."""

    def state(self, pid: int) -> State:
        """Raises GpuError where it cannot be told."""

    def close(self) -> None:
        """Let go of the library."""


def open_driver(name: str) -> Driver:
    """The driver of that name: `nvidia`, or a module with `open_driver()`.  Raises GpuError."""
    return cast("Driver", _module(name).open_driver())


def why_unavailable(name: str) -> str:
    """Why there is nothing to look at, as far as it can be told without opening the driver; else empty."""
    if name == OFF:
        return f"GPUs are left alone (gpu_driver = {OFF!r})"
    try:
        return str(_module(name).why_unavailable())
    except GpuError as error:
        return error.message


def _module(name: str) -> Any:
    """Its import loads no library of GPUs: also the daemon does that.  Raises GpuError."""
    try:
        return import_module(_NVIDIA_MODULE if name == NVIDIA else name)
    except (ImportError, ValueError) as error:
        text = f"there is no GPU driver {name!r} ({error}): give {NVIDIA!r}"
        raise GpuError("unavailable", text) from error
