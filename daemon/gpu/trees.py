"""Moving what a worker's whole process tree has on GPUs.

The driver moves one process at a time; to callers a tree moves as one: where a process cannot be moved,
those before it are moved back, and the error says whether all is as before.  What a process had in host
memory is found by asking the driver for its state, not by remembering it: so a helper that was started
anew, after one that died in the midst of a move, can say how things are, and put them right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from warmd.daemon.gpu.driver import Driver, GpuError, Harm, Kind, State
from warmd.daemon.gpu.tokens import pids_of, token_of
from warmd.daemon.gpu.told import Gpu, GpuProcess, Moved, Settled

LOCK_AGAIN_SECONDS = 2.0
"""For a process that goes back to host memory because another of its tree could not come from there."""
LOOK_AGAIN_SECONDS = 0.05
"""While a process is between two states."""
_PASSING: Mapping[Kind, Harm] = {"illegal": "lost", "busy": "lost", "no_memory": "mixed"}
"""What may be otherwise a moment later, and the harm if it is not."""


class Trees:
    """All methods may be called from several threads at once, and block for as long as the driver does.

    Where they raise OSError, processes could not be looked at, and nothing has been moved.
    """

    def __init__(self, driver: Driver, daemon_pid: int) -> None:
        self._driver = driver
        self._daemon_pid = daemon_pid

    def look(self) -> list[Gpu]:
        """Raises GpuError, OSError."""
        return [
            Gpu(
                device.id,
                device.index,
                device.name,
                device.total_bytes,
                device.used_bytes,
                device.utilization,
                tuple(
                    GpuProcess(pid, used, token_of(pid, self._daemon_pid))
                    for pid, used in sorted(device.processes.items())
                ),
                device.shows_processes,
            )
            for device in self._driver.devices()
        ]

    def checkpoint(self, token: str, lock_seconds: float) -> Moved:
        """Move to host memory what the tree has on GPUs.  Raises GpuError, OSError."""
        return _move_all(
            self._on_gpus(token),
            lambda pid: self._driver.checkpoint(pid, lock_seconds),
            self._driver.restore,
        )

    def restore(self, token: str) -> Moved:
        """The way back, also of what was moved only in part.  Raises GpuError, OSError."""
        states = self.states(token)
        _check(states)
        for pid, state in states.items():
            if state == "locked":
                self._driver.unlock(pid)
        return _move_all(
            [pid for pid, state in states.items() if state in ("checkpointed", "moving")],
            self._driver.restore,
            lambda pid: self._driver.checkpoint(pid, LOCK_AGAIN_SECONDS),
        )

    def settle(self, token: str, seconds: float) -> Settled:
        """After a move that nobody knows the end of: how the tree is, all of it in one place again.

        What is in both places is brought to the GPU.  Raises GpuError, after `seconds` in any case.
        """
        until = time.monotonic() + seconds
        problem = GpuError("failed", "it stays between two states", "lost")
        while True:
            try:
                if (settled := self._settle_once(token)) is not None:
                    return settled
            except GpuError as error:
                if error.kind not in _PASSING:
                    raise
                problem = GpuError(error.kind, error.message, _PASSING[error.kind])
            if time.monotonic() >= until:
                raise problem
            time.sleep(LOOK_AGAIN_SECONDS)

    def _settle_once(self, token: str) -> Settled | None:
        """None where it is to be looked at again.  Raises GpuError, OSError."""
        states = self.states(token)
        found = set(states.values())
        _check(states)
        if "moving" in found:
            return None
        if not found:
            return Settled("gone", ())
        if found == {"running"}:
            return Settled("running", tuple(states))
        if found == {"checkpointed"}:
            return Settled("checkpointed", tuple(states))
        self.restore(token)
        return None

    def _on_gpus(self, token: str) -> list[int]:
        """The processes of the tree that have memory on GPUs.

        Where the driver lists none, as in a container that hides other pids, those that have CUDA.
        """
        listed = {pid for device in self._driver.devices() for pid in device.processes}
        mine = [pid for pid in sorted(listed) if token_of(pid, self._daemon_pid) == token]
        return mine or [pid for pid, state in self.states(token).items() if state == "running"]

    def states(self, token: str) -> dict[int, State]:
        """How each process of the tree is that has CUDA.  Raises GpuError, OSError."""
        states = {pid: self._driver.state(pid) for pid in pids_of(token)}
        return {pid: state for pid, state in states.items() if state != "gone"}


def _check(states: Mapping[int, State]) -> None:
    """Raises GpuError where something is lost."""
    for pid, state in states.items():
        if state == "failed":
            raise GpuError("failed", f"what process {pid} had on the GPU is lost", "lost")


def _move_all(pids: list[int], move: Callable[[int], object], undo: Callable[[int], object]) -> Moved:
    """All of them, or none.  Raises GpuError, which says whether none have moved."""
    began = time.monotonic()
    moved: list[int] = []
    for pid in pids:
        try:
            move(pid)
        except GpuError as error:
            if error.kind == "gone":
                continue
            harm = "lost" if error.kind == "failed" else _undone(moved, undo)
            raise GpuError(error.kind, f"process {pid}: {error.message}", harm) from error
        moved.append(pid)
    return Moved(tuple(moved), time.monotonic() - began)


def _undone(moved: list[int], undo: Callable[[int], object]) -> Harm:
    harm: Harm = "none"
    for pid in reversed(moved):
        try:
            undo(pid)
        except GpuError as error:
            if error.kind == "failed":
                return "lost"
            if error.kind != "gone":
                harm = "mixed"
    return harm
