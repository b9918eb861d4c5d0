"""The rule book's orders about GPUs, performed by `Devices`; what comes of them becomes events.

A look names processes by their tokens; the rule book knows workers.  Of a move that has failed by half
(`mixed`) nothing is lost: after a park the way back is tried before the rule book hears of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.events import GpuId, GpuSeen
from warmd.daemon.devices import Devices, Gpu, GpuError, Looked, Moved
from warmd.daemon.infos import gpu_info
from warmd.protocol.work import WorkerId

log = logging.getLogger("warmd.gpu")

LOCK_SECONDS = 2.0
"""For work that an idle session has left running on its GPU; then it is not parked."""
SETTLING_SECONDS = 15.0
"""Of the time that a move is given: for another helper to find out what has become of it, and to put it
right, before the rule book gives the session up."""
LEAST_SECONDS = 1.0
FIRST_LOOK = 0


class GpuOrders:
    """`token_of` and `worker_of` tell workers by their tokens, and back; `submit` takes the events."""

    def __init__(
        self,
        devices: Devices,
        token_of: Callable[[WorkerId], str | None],
        worker_of: Callable[[str], WorkerId | None],
        submit: Callable[[ev.Event], object],
    ) -> None:
        self.devices = devices
        self.seen: Looked = ()
        """What the latest look has shown."""
        self.why_none = devices.available()
        self._token_of = token_of
        self._worker_of = worker_of
        self._submit = submit
        if not self.why_none:
            self.look(fx.Look(FIRST_LOOK))

    def infos(self, session_of: Callable[[WorkerId], str | None]) -> list[dict[str, Any]]:
        """What the latest look has shown, for people."""

        def whose(token: str) -> str | None:
            worker = self._worker_of(token)
            return None if worker is None else session_of(worker)

        return [gpu_info(gpu, whose) for gpu in self.seen]

    def look(self, effect: fx.Look) -> None:
        self.devices.look(lambda found: self._looked(effect.number, found))

    def _looked(self, number: int, found: Looked | GpuError) -> None:
        if isinstance(found, GpuError):
            if self.why_none != found.message:
                log.warning("the GPUs cannot be looked at: %s", found.message)
            self.why_none = found.message
            self._submit(ev.GpusSeen(number, (), found.message))
            return
        self.seen, self.why_none = found, "" if found else "the driver shows no GPU"
        self._submit(ev.GpusSeen(number, tuple(map(self._fact, found)), self.why_none))

    def _fact(self, gpu: Gpu) -> GpuSeen:
        of: dict[WorkerId, int] = {}
        for process in gpu.processes:
            worker = self._worker_of(process.token) if process.token else None
            if worker is not None:
                of[worker] = of.get(worker, 0) + (process.bytes or 0)
        ours = [process.bytes for process in gpu.processes if process.token]
        exact = gpu.shows_processes and None not in ours
        return GpuSeen(GpuId(gpu.id), gpu.index, gpu.name, gpu.total_bytes, gpu.used_bytes, of, exact)

    def checkpoint(self, effect: fx.Checkpoint) -> None:
        """Have the driver park a worker's tree; one that has nothing to move counts as moved."""
        token = self._token_of(effect.worker)
        if token is None:
            return

        def done(result: Moved | GpuError) -> None:
            if not isinstance(result, GpuError) or result.kind == "gone":
                self._submit(ev.Checkpointed(effect.worker, effect.move))
            elif result.harm == "mixed":
                self.devices.restore(token, _driver_seconds(effect), lambda back: undone(result, back))
            else:
                self._submit(_failed(effect, result))

        def undone(failure: GpuError, back: Moved | GpuError) -> None:
            if isinstance(back, GpuError) and back.kind != "gone":
                text = f"{failure.message}; and it could not be undone: {back.message}"
                failure = GpuError(failure.kind, text, "lost")
            else:
                failure = GpuError(failure.kind, failure.message)
            self._submit(_failed(effect, failure))

        self.devices.checkpoint(token, LOCK_SECONDS, _driver_seconds(effect), done)

    def restore(self, effect: fx.Restore) -> None:
        token = self._token_of(effect.worker)
        if token is None:
            return

        def done(result: Moved | GpuError) -> None:
            if isinstance(result, GpuError) and result.kind != "gone":
                self._submit(_failed(effect, result))
            else:
                self._submit(ev.Restored(effect.worker, effect.move))

        self.devices.restore(token, _driver_seconds(effect), done)


def _driver_seconds(effect: fx.Checkpoint | fx.Restore) -> float:
    return max(LEAST_SECONDS, effect.seconds - SETTLING_SECONDS)


def _failed(effect: fx.Checkpoint | fx.Restore, error: GpuError) -> ev.MoveFailed:
    return ev.MoveFailed(
        effect.worker,
        effect.move,
        error.message,
        harmed=error.harm == "lost",
        lasting=error.kind in ("unsupported", "illegal"),
    )
