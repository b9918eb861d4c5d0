"""A large array into a session and back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import warmd
from benchmarks.figures import Target
from benchmarks.peers import Peer
from benchmarks.rows import Contest, Contestant, Effort
from benchmarks.subjects import IDLE_SECONDS, WORK_APP

MIB = 64
FLOOR = "two memcpys"


class Arrays(Contest):
    """The floor is what shared memory cannot do without: one copy into it, one out of it."""

    key = "array"
    title = f"A float32 array of {MIB} MiB in and out"
    unit = "ms"
    scale = 1e3
    slow = True
    meets_peers = True

    def __init__(self, effort: Effort) -> None:
        super().__init__(effort)
        self.stores: list[str] = []

    def open(self, stack: contextlib.ExitStack) -> None:
        import numpy

        self.array = numpy.arange(MIB * 2**18, dtype=numpy.float32)
        there, back = numpy.zeros_like(self.array), numpy.zeros_like(self.array)

        def two_copies() -> Any:
            numpy.copyto(there, self.array)
            numpy.copyto(back, there)
            return back

        client = stack.enter_context(warmd.local())
        session = client.session(WORK_APP, session_timeout=IDLE_SECONDS)

        self.floor = self._timed(FLOOR, two_copies)
        self.warmd = self._timed("warmd", lambda: session.call("echo", self.array).output)

    def of_peer(self, peer: Peer) -> Contestant | None:
        if peer.no_arrays:
            self.missing[peer.name] = peer.no_arrays
            return None
        return self._timed(peer.name, lambda: peer.echo(self.array))

    def _timed(self, name: str, echo: Callable[[], Any]) -> Contestant:
        import numpy

        def sample() -> float:
            begun = time.perf_counter()
            got = echo()
            took = time.perf_counter() - begun
            if not numpy.array_equal(got, self.array):
                raise AssertionError(f"{name} gave back another array")
            return took

        return Contestant(name, sample)

    def targets(self) -> list[Target]:
        ray = self.warmd_to("Ray actor") if "Ray actor" in self.blocks else None
        gains = [
            1 / ratio
            for name in self.blocks
            if name not in ("", "Ray actor") and (ratio := self.warmd_to(name)) is not None
        ]
        slowest = min(gains, default=None)
        return [
            Target(f"{MIB} MiB in and out / two memcpys", self.to_floor("warmd"), 1.5),
            Target(f"{MIB} MiB in and out / Ray's object store", ray, 1.0),
            Target(f"{MIB} MiB: every other peer's time / warmd's, the least", slowest, 5.0, at_most=False),
        ]
