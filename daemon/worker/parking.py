"""Between calls a worker's GPU memory goes to host memory, and comes back.

    park     the hook `park`, then what `warmd.gpu.offload` keeps
    unpark   what `warmd.gpu.offload` keeps, then the hook `unpark`

Where there is neither, the driver can do it, unless something in the process excludes that.

Each move is done or undone.  What fails on its way out is brought back, and the session works on.  What
finds too little memory on its way back is parked once more, and may be tried again.  Where that fails
too nobody knows what is where, and the session must end.  The error of a move must be gone before it is
undone: the frames that it refers to hold GPU memory.

The same steps serve sync and async apps: they wait for nothing but an app's hooks.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from warmd.daemon.worker import output, torchuse
from warmd.daemon.worker.runtime import Runtime
from warmd.daemon.worker.text import MAX_MESSAGE_BYTES, clean, describe
from warmd.protocol.gpus import (
    Checkpointable,
    KeepsMemory,
    Offloaded,
    Park,
    ParkFailed,
    Unpark,
    Unparked,
)

Answer: TypeAlias = Offloaded | Checkpointable | KeepsMemory | ParkFailed | Unparked
RunHook: TypeAlias = Callable[[Callable[[], Any]], Awaitable[None]]

_SHORT = frozenset({"OutOfMemoryError", "MemoryError"})
"""What libraries call it: torch, cupy, numba, Python itself."""
_SHORT_TEXT = "out of memory"
"""In what JAX and the CUDA runtime say."""
_MOST_CAUSES = 20


@dataclass(frozen=True, slots=True)
class _Failure:
    """What is kept of an exception."""

    message: str
    is_shortage: bool


class Parking:
    """Where the GPU memory of one worker is.  `run_hook` runs the app's code, and waits for it."""

    def __init__(self, runtime: Runtime, run_hook: RunHook) -> None:
        self._runtime = runtime
        self._run_hook = run_hook
        self._hook_is_out = False
        """`park` was called, and `unpark` not yet."""
        self._out: list[Any] = []
        """What was parked of that which `warmd.gpu.offload` keeps."""
        self._doing = ""

    async def answer(self, order: Park | Unpark) -> Answer:
        """Does what the daemon asks.  Raises nothing."""
        if isinstance(order, Unpark):
            return await self._unpark(order.move)
        return await self._park(order.move)

    async def _park(self, move: int) -> Answer:
        if self._runtime.app.hook("park") is None and not any(one.bytes for one in _offloaded()):
            return await self._leave_to_driver(move)
        failure = await self._tried(self._take_out)
        if failure is None:
            return Offloaded(move)
        undone = await self._tried(self._bring_back)
        if undone is None:
            return KeepsMemory(move, failure.message)
        return ParkFailed(move, f"{failure.message}; to undo that, {undone.message}")

    async def _unpark(self, move: int) -> Answer:
        failure = await self._tried(self._bring_back)
        if failure is None:
            return Unparked(move)
        if not failure.is_shortage:
            return ParkFailed(move, failure.message)
        undone = await self._tried(self._take_out)
        if undone is None:
            return KeepsMemory(move, failure.message)
        return ParkFailed(move, f"{failure.message}; to undo that, {undone.message}")

    async def _leave_to_driver(self, move: int) -> Answer:
        reasons = getattr(sys.modules.get("warmd.gpu"), "exclusions", ())
        if reasons:
            return KeepsMemory(move, f"the driver cannot move it: {reasons[0]}")
        failure = await self._tried(self._release)
        return Checkpointable(move) if failure is None else KeepsMemory(move, failure.message)

    async def _take_out(self) -> None:
        park = self._runtime.app.hook("park")
        if park is not None and not self._hook_is_out:
            self._doing, self._hook_is_out = "park", True
            await self._run_hook(park)
        self._doing = "warmd.gpu.offload"
        for one in _offloaded():
            if not one.parked:
                self._runtime.guarded(one.park)
                self._out.append(one)
        await self._release()

    async def _bring_back(self) -> None:
        self._doing = "warmd.gpu.offload"
        while self._out:
            self._runtime.guarded(self._out[-1].unpark)
            self._out.pop()
        unpark = self._runtime.app.hook("unpark")
        if unpark is not None and self._hook_is_out:
            self._doing, self._hook_is_out = "unpark", False
            await self._run_hook(unpark)

    async def _release(self) -> None:
        self._doing = "torch.cuda.empty_cache"
        self._runtime.guarded(torchuse.release_unused)

    async def _tried(self, step: Callable[[], Awaitable[None]]) -> _Failure | None:
        try:
            await step()
        except BaseException as error:
            text = describe(error)
            output.note(f"{self._doing} raised:\n{text.traceback}")
            told = f"{self._doing} raised {text.type}: {text.message}".rstrip(": ")
            return _Failure(clean(told, MAX_MESSAGE_BYTES), is_shortage(error))
        return None


def is_shortage(error: BaseException | None) -> bool:
    """Whether an exception, or one that it was raised from, says that memory is short."""
    for _ in range(_MOST_CAUSES):
        if error is None:
            return False
        if any(kind.__name__ in _SHORT for kind in type(error).__mro__):
            return True
        if _SHORT_TEXT in describe(error).message.lower():
            return True
        error = error.__cause__
    return False


def without_waiting(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of one that has nothing to wait for, since the app's hooks are no coroutines."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    coroutine.close()
    raise RuntimeError("a hook of a sync app waits for something")


def _offloaded() -> list[Any]:
    """What `warmd.gpu.offload` keeps in this process; the app has imported that, or it keeps nothing."""
    registered = getattr(sys.modules.get("warmd.gpu"), "registered", None)
    return [] if registered is None else list(registered())
