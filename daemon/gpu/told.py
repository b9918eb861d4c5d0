"""What the daemon and its GPU helper say to each other: msgpack maps, one after the other, on one socket.

    request  {id, do, ...}                          do: look, checkpoint, restore, settle, state
    answer   {id, result} or {id, error: [kind, message, harm]}

Each request has exactly one answer, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from warmd.daemon.gpu.driver import GpuError, Harm, Kind


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process with memory on a GPU."""

    pid: int
    bytes: int | None
    """None where the driver does not say."""
    token: str
    """Of the worker to whose tree it belongs; empty for strangers."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as it was looked at."""

    id: str
    """Its UUID, `GPU-...`: what `CUDA_VISIBLE_DEVICES` takes."""
    index: int
    """By which `nvidia-smi` calls it."""
    name: str
    total_bytes: int
    used_bytes: int
    utilization: int | None
    """Percent; None where it is not told."""
    processes: tuple[GpuProcess, ...]
    shows_processes: bool = True
    """False where the driver shows none of this machine's, whether there are any or not."""

    @property
    def free_bytes(self) -> int:
        return max(0, self.total_bytes - self.used_bytes)

    def bytes_of(self, token: str) -> int | None:
        """What a worker's tree uses of it; None where the driver does not say."""
        used = [process.bytes for process in self.processes if process.token == token]
        told = [bytes for bytes in used if bytes is not None]
        return sum(told) if len(told) == len(used) else None


@dataclass(frozen=True, slots=True)
class Moved:
    """A tree whose memory was moved."""

    pids: tuple[int, ...]
    """The processes that had some; empty: there was nothing to move."""
    seconds: float
    """0 where nobody knows: the helper that has moved it is dead."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How all of a tree's processes are that use GPUs, after a move that was cut off."""

    state: Literal["running", "checkpointed", "gone"]
    """gone: there are none."""
    pids: tuple[int, ...]


def packed_gpu(gpu: Gpu) -> list[Any]:
    processes = [[process.pid, process.bytes, process.token] for process in gpu.processes]
    size = gpu.total_bytes, gpu.used_bytes, gpu.utilization
    return [gpu.id, gpu.index, gpu.name, *size, processes, gpu.shows_processes]


def unpacked_gpu(packed: Sequence[Any]) -> Gpu:
    """Raises TypeError, ValueError."""
    id, index, name, total, used, utilization, processes, shows = packed
    shown = tuple(GpuProcess(*process) for process in processes)
    return Gpu(id, index, name, total, used, utilization, shown, shows)


def packed_error(error: GpuError) -> list[str]:
    return [error.kind, error.message, error.harm]


def unpacked_error(packed: Sequence[str]) -> GpuError:
    """Raises ValueError."""
    kind, message, harm = packed
    if kind not in get_args(Kind) or harm not in get_args(Harm):
        raise ValueError(f"{kind!r} with harm {harm!r} is no error of a GPU")
    return GpuError(kind, message, harm)  # type: ignore[arg-type]


def result_of(do: str, answer: Mapping[str, Any]) -> Any:
    """What an answer holds: a tuple of Gpu, Moved, Settled, states by pid; or GpuError.

    Raises KeyError, TypeError, ValueError.
    """
    if "error" in answer:
        return unpacked_error(answer["error"])
    result = answer["result"]
    if do == "look":
        return tuple(unpacked_gpu(gpu) for gpu in result)
    if do in ("checkpoint", "restore"):
        pids, seconds = result
        return Moved(tuple(map(int, pids)), float(seconds))
    if do == "settle":
        state, pids = result
        return Settled(state, tuple(map(int, pids)))
    return {int(pid): str(state) for pid, state in result}
