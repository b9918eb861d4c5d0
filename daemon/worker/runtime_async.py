"""The one event loop of an async app's process, and the rules for interrupts in it.

The loop also runs between calls, so the app's background tasks go on.  What escapes from a task or
callback (SystemExit) ends `run_forever`, which is then entered again.

An interrupt may raise only where the call's own code runs; raised while the loop waits, it would
tear down the loop and leave the call running.  Anywhere else the call's task is cancelled, from
the loop.  When the loop has not come to that by the next interrupt, something blocks it: if that is
a task which the same call started, it is raised there.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from types import FrameType
from typing import Any

from warmd.app import Interrupted
from warmd.daemon.worker import output, stack
from warmd.daemon.worker.coroutines import stack_of
from warmd.daemon.worker.link import Link
from warmd.daemon.worker.load import App
from warmd.daemon.worker.page import STACK_SIGNAL, ControlPage
from warmd.daemon.worker.runtime import Runtime, leave_fork
from warmd.daemon.worker.text import describe
from warmd.protocol.work import Begin

WIND_DOWN_SECONDS = 2.0
"""For tasks that the app left behind to take their cancellation at the end."""

call_of: ContextVar[int] = ContextVar("warmd_call", default=0)
"""The call in whose context a task was made; inherited by the tasks that it makes."""


class LoopRuntime(Runtime):
    """The rules for interrupts where the app's code shares the thread with an event loop."""

    cuts = (Interrupted, asyncio.CancelledError)

    def __init__(self, link: Link, page: ControlPage, begin: Begin, app: App) -> None:
        super().__init__(link, page, begin, app)
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.task: asyncio.Task[Any] | None = None
        self._awaited: Any = None
        self._cancel_pending = False
        self._hooks: set[asyncio.Task[None]] = set()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine to its end.  Raises what it raises."""
        task = self.loop.create_task(_caught(coroutine))
        task.add_done_callback(lambda _: self.loop.stop())
        self.run_until(task.done)
        error = task.result()
        if error is not None:
            raise error

    def run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            try:
                self.loop.run_forever()
            except BaseException as error:
                self.check_fork()
                output.note(f"a background task ended with:\n{describe(error).traceback}")
            if self.loop.is_closed():
                raise RuntimeError("the app has closed the worker's event loop")

    def run_hook(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.run(self.hook(function, *args, **kwargs))

    async def hook(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Like `run_hook`, for what runs in the loop already."""
        result = self.guarded(function, *args, **kwargs)
        if inspect.isawaitable(result):
            await self.awaited(result, result)

    def close(self) -> None:
        self.run(_wind_down())
        self.loop.close()

    def cut(self) -> None:
        current = asyncio.current_task(self.loop)
        if current is not None and (current is self.task or self._is_blocked_by_call()):
            super().cut()
        if not self._cancel_pending and not self.is_sparing():
            self._cancel_pending = True
            self.loop.call_soon_threadsafe(self._cancel, self.ordinal)

    def _is_blocked_by_call(self) -> bool:
        return self._cancel_pending and call_of.get() == self.ordinal

    def _cancel(self, ordinal: int) -> None:
        self._cancel_pending = False
        if self.ordinal == ordinal and self.armed and self.task is not None:
            self.spare()
            self.task.cancel()

    def call_on_cancel(self, on_cancel: Callable[[], Any]) -> None:
        self.loop.call_soon_threadsafe(self._start_on_cancel, on_cancel)

    def _start_on_cancel(self, on_cancel: Callable[[], Any]) -> None:
        task = self.loop.create_task(_run_on_cancel(on_cancel))
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)

    async def awaited(self, awaitable: Any, seen: Any) -> Any:
        """`guarded` for what must be awaited; `seen` is what a stack shows of it."""
        try:
            self._awaited = seen
            self.armed = True
            if self._missed:
                self._look()
            return await awaitable
        finally:
            self.armed = False
            self._awaited = None
            self.check_fork()

    def show_coroutines(self, stack_fd: int) -> None:
        """From now on a stack that is asked for while the loop is idle is that of the call."""
        self._stack = stack.Writer(stack_fd)
        signal.signal(STACK_SIGNAL, self._on_stack_signal)

    def _on_stack_signal(self, _signum: int, frame: FrameType | None) -> None:
        if self.link.forked:
            return
        idle = self._awaited is not None and asyncio.current_task(self.loop) is None
        self._stack.write(lambda: stack_of(self._awaited) if idle else stack.text_of(frame))

    def check_fork(self) -> None:
        """A forked child that comes back into the runtime ends here."""
        if self.link.forked:
            leave_fork(sys.exception())


async def _caught(coroutine: Coroutine[Any, Any, None]) -> BaseException | None:
    # SystemExit would otherwise leave the loop as well as the task.
    try:
        await coroutine
    except BaseException as error:
        return error
    return None


async def _run_on_cancel(on_cancel: Callable[[], Any]) -> None:
    try:
        result = on_cancel()
        if inspect.isawaitable(result):
            await result
    except BaseException as error:
        output.note(f"on_cancel raised:\n{describe(error).traceback}")


async def _wind_down() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=WIND_DOWN_SECONDS)
    await asyncio.get_running_loop().shutdown_asyncgens()
