"""Apps on the fake GPUs (`tests.fakegpu`): some behave, and some misbehave when they are parked.

Their weights change with each call, by a rule that a test can follow (`changed`), so what is lost on the
way to host memory or back is seen.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import warmd.app
from tests.fakegpu import CudaError, FakeCuda, OutOfMemory

context = warmd.app.context
LOOK_AGAIN_SECONDS = 0.002


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


def made(seed: int, size: int) -> bytes:
    return hashlib.shake_128(b"%d" % seed).digest(size)


def changed(weights: bytes) -> bytes:
    return hashlib.shake_128(weights).digest(len(weights))


def await_file(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(LOOK_AGAIN_SECONDS)


class Weights:
    """Has no hooks: the driver moves what it has."""

    def setup(self, size: int = 600, seed: int = 0, unloaded: str = "", fail: Any = None) -> None:
        """`unloaded`: a file that tells of `unload`.  `fail`: what goes wrong in `park` and `unpark`."""
        self.unloaded = unloaded
        self.fail: dict[str, str] = dict(fail or {})
        self.n = 0
        self.cuda = FakeCuda()
        atexit.register(self.cuda.free_bytes)  # as GPU libraries do: it waits while the driver has all
        if size:
            self.cuda.alloc("weights", made(seed, size))

    def run(self) -> dict[str, Any]:
        """Changes the weights; all of them are in the result."""
        self.n += 1
        weights = changed(self.cuda.read("weights"))
        self.cuda.free("weights")
        self.cuda.alloc("weights", weights)
        return {"n": self.n, "weights": weights}

    def weights(self) -> bytes:
        return self.cuda.read("weights")

    def grow(self, name: str, size: int) -> None:
        self.cuda.alloc(name, bytes(size))

    def pid(self) -> int:
        return os.getpid()

    def visible(self) -> dict[str, Any]:
        return {
            "variable": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "devices": FakeCuda().devices,
            "python": sys.executable,
        }

    def compute(self, until: str) -> int:
        """Runs kernels until that file is there; the number of times that the weights could be read."""
        context.progress("in")
        reads = 0
        while not os.path.exists(until):
            with self.cuda.work():
                self.cuda.read("weights")
                reads += 1
                time.sleep(LOOK_AGAIN_SECONDS)
        return reads

    def leave_kernel(self, until: str) -> None:
        """A kernel goes on after the call, until that file is there."""
        if os.fork():
            return
        (self.cuda._process.path / "busy").touch()
        await_file(until)
        (self.cuda._process.path / "busy").unlink()
        os._exit(0)

    def leave_child(self, size: int, how: str, died: str) -> int:
        """A child with memory of its own stays: `fork`, `setsid` or `double`.  Its pid."""
        reading, writing = os.pipe()
        if pid := os.fork():
            told = int(os.read(reading, 20))
            if how == "double":
                os.waitpid(pid, 0)
            return told
        if how != "fork":
            os.setsid()
        if how == "double" and os.fork():
            os._exit(0)
        own = FakeCuda()
        own.alloc("child", made(1, size))
        os.write(writing, b"%d" % os.getpid())
        while own.read("child") == made(1, size):
            time.sleep(LOOK_AGAIN_SECONDS)
        Path(died).write_text("its memory has changed")
        os._exit(1)

    def unload(self, reason: str) -> None:
        if self.unloaded:
            Path(self.unloaded).write_text(reason)


class Hooked(Weights):
    """Moves its weights by itself, and fails as it was told: once, or each time (`always ...`)."""

    def park(self) -> None:
        self.misbehave("park")
        if self._is_there():
            self.host = self.cuda.read("weights")
            self.cuda.free("weights")
        self.misbehave("parked")

    def unpark(self) -> None:
        self.misbehave("unpark")
        if not self._is_there():
            try:
                self.cuda.alloc("weights", self.host)
            except OutOfMemory as error:
                raise OutOfMemoryError(str(error)) from error
        self.misbehave("unparked")

    def _is_there(self) -> bool:
        try:
            self.cuda.read("weights")
        except KeyError:
            return False
        return True

    def misbehave(self, at: str) -> None:
        what = self.fail.get(at, "")
        how = what.removeprefix("always ")
        if what == how:
            self.fail.pop(at, None)
        if how == "raise":
            raise CudaError(f"a fault in {at}")
        if how == "memory":
            raise OutOfMemoryError(f"tried to allocate 600 bytes in {at}")
        if how == "exit":
            sys.exit(3)
        if how == "die":
            os._exit(4)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hang":
            time.sleep(3600)
        if how.startswith("sleep "):
            time.sleep(float(how.removeprefix("sleep ")))


class AsyncHooked(Hooked):
    async def park(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0.01)
        super().park()

    async def unpark(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0.01)
        super().unpark()


class Offloads(Weights):
    """What it has on the GPU is known to `warmd.gpu`, as what `offload` keeps is."""

    def setup(self, size: int = 600, seed: int = 0, **_: Any) -> None:  # type: ignore[override]
        super().setup(size, seed)
        warmd.gpu._registered.append(StandIn(self.cuda, size))  # type: ignore[arg-type]


class StandIn:
    """In place of a `warmd.gpu.Offload`, which needs torch and CUDA."""

    def __init__(self, cuda: FakeCuda, size: int) -> None:
        self.cuda, self.bytes, self.parked = cuda, size, False

    def park(self) -> None:
        self.host = self.cuda.read("weights")
        self.cuda.free("weights")
        self.parked = True

    def unpark(self) -> None:
        try:
            self.cuda.alloc("weights", self.host)
        except OutOfMemory as error:
            raise OutOfMemoryError(str(error)) from error
        self.parked = False

    def _drop_if_garbage(self) -> None: ...


class Prepared(Weights):
    """Notes where `prepare` ran; what it has loaded is there in each session."""

    pids: ClassVar[list[int]] = []

    @classmethod
    def prepare(cls) -> None:
        cls.pids = [*cls.pids, os.getpid()]
        with open(os.environ["PREPARED"], "a") as file:
            file.write(f"{os.getpid()}\n")

    def prepared(self) -> list[int]:
        return self.pids


class Plain:
    """Uses no GPU."""

    def run(self) -> int:
        return os.getpid()
