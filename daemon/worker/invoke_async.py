"""Calls of an async app: one at a time, each a task in the one event loop of the process.

The loop also runs between calls, so the app's background tasks go on.  The runtime has no task of
its own that waits: an app that cancels all tasks does no harm, and what escapes from a task or
callback (SystemExit) ends `run_forever`, which is then entered again.

An interrupt may raise only where the call's own code runs; raised while the loop waits, it would
tear down the loop and leave the call running.  Anywhere else the call's task is cancelled, from
the loop.  When the loop has not come to that by the next interrupt, something blocks it: if that is
a task which the same call started, it is raised there.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from warmd.app import Interrupted
from warmd.daemon.worker import output
from warmd.daemon.worker.invoke import Reply, arguments, packed
from warmd.daemon.worker.link import Link
from warmd.daemon.worker.load import App
from warmd.daemon.worker.page import ControlPage
from warmd.daemon.worker.runtime import Runtime, leave_fork
from warmd.daemon.worker.text import describe
from warmd.protocol.messages import NOTHING
from warmd.protocol.work import AskCancel, Begin, Finish, Invoke, MoreCredit, Returned, Yielded
from warmd.protocol.work import Interrupted as CutOff

WIND_DOWN_SECONDS = 2.0
"""For tasks that the app left behind to take their cancellation at the end."""

_call_of: ContextVar[int] = ContextVar("warmd_call", default=0)
"""The call in whose context a task was made; inherited by the tasks that it makes."""


class LoopRuntime(Runtime):
    """The rules for interrupts where the app's code shares the thread with an event loop."""

    cuts = (Interrupted, asyncio.CancelledError)

    def __init__(self, link: Link, page: ControlPage, begin: Begin, app: App) -> None:
        super().__init__(link, page, begin, app)
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.task: asyncio.Task[None] | None = None
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
        self.run(self._hook(function, *args, **kwargs))

    async def _hook(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        result = self.guarded(function, *args, **kwargs)
        if inspect.isawaitable(result):
            await self.awaited(result)

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
        return self._cancel_pending and _call_of.get() == self.ordinal

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

    async def awaited(self, awaitable: Any) -> Any:
        """`guarded` for what must be awaited."""
        try:
            self.armed = True
            if self._missed:
                self._look()
            return await awaitable
        finally:
            self.armed = False
            self.check_fork()

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


class _End:
    pass


class _Values:
    """The values of a sync or an async generator, both awaited."""

    def __init__(self, runtime: LoopRuntime, generator: Any) -> None:
        self._runtime = runtime
        self._generator = generator
        self._is_async = isinstance(generator, AsyncGeneratorType)

    async def next(self) -> Any:
        """The next value, or the class `_End`."""
        try:
            if self._is_async:
                return await self._runtime.awaited(self._generator.__anext__())
            # A sync generator never waits: without this the loop would stand still until its end.
            await asyncio.sleep(0)
            return self._runtime.guarded(next, self._generator)
        except (StopIteration, StopAsyncIteration):
            return _End

    async def close(self) -> None:
        try:
            self._runtime.spare()
            if self._is_async:
                await self._runtime.awaited(self._generator.aclose())
            else:
                self._runtime.guarded(self._generator.close)
        except self._runtime.cuts:
            return
        except BaseException as error:
            output.note(f"closing the generator raised:\n{describe(error).traceback}")


class AsyncCalls:
    """Serves an async app."""

    def __init__(self, runtime: LoopRuntime) -> None:
        self._runtime = runtime
        self._finish: Finish | None = None
        self._early: deque[Invoke] = deque()
        self._credit = 0
        self._unwanted = False
        self._stalled: asyncio.Future[None] | None = None

    def serve(self) -> str:
        """Answers calls until the daemon says to finish; returns its reason."""
        runtime = self._runtime
        runtime.loop.add_reader(runtime.link.socket, self._on_readable)
        # What came together with the first message wakes up no selector.
        runtime.loop.call_soon(self._on_readable)
        runtime.run_until(lambda: self._finish is not None and runtime.task is None)
        runtime.loop.remove_reader(runtime.link.socket)
        assert self._finish is not None
        return self._finish.reason

    def _on_readable(self) -> None:
        self._runtime.check_fork()
        for message in self._runtime.link.received():
            self._on_message(message)

    def _on_message(self, message: object) -> None:
        runtime = self._runtime
        if isinstance(message, Invoke):
            self._early.append(message)
            self._begin_next()
        elif isinstance(message, MoreCredit) and message.ordinal == runtime.ordinal:
            self._credit += message.parts
            self._wake()
        elif isinstance(message, AskCancel) and message.ordinal == runtime.ordinal:
            self._unwanted = True
            if runtime.asked_to_stop():
                runtime.tell()
            self._wake()
        elif isinstance(message, Finish):
            self._finish = message
            self._wake()
            runtime.loop.stop()

    def _begin_next(self) -> None:
        runtime = self._runtime
        if runtime.task is not None or not self._early:
            return
        invoke = self._early.popleft()
        # Now, not in the task's first step: credit may have come together with the call.
        self._credit, self._unwanted = invoke.window or 0, False
        may_run = runtime.begin(invoke)
        runtime.task = runtime.loop.create_task(self._call(invoke, may_run))
        # The app may cancel the task before its first step; then nothing of it runs.
        runtime.task.add_done_callback(lambda task: self._on_task_done(invoke, task))

    async def _call(self, invoke: Invoke, may_run: bool) -> None:
        runtime = self._runtime
        _call_of.set(invoke.ordinal)
        reply = await self._reply(invoke) if may_run else CutOff(invoke.ordinal, 0.0)
        runtime.check_fork()
        self._settle(reply)

    def _on_task_done(self, invoke: Invoke, task: asyncio.Task[None]) -> None:
        runtime = self._runtime
        runtime.armed = False
        runtime.check_fork()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if runtime.ordinal == invoke.ordinal and error is not None:
            self._settle(runtime.bad_end(invoke.ordinal, error))
        runtime.task = None
        self._begin_next()
        if self._finish is not None:
            runtime.loop.stop()

    def _settle(self, reply: Reply) -> None:
        self._runtime.end()
        self._runtime.link.send(reply)

    def _wake(self) -> None:
        if self._stalled is not None and not self._stalled.done():
            self._stalled.set_result(None)

    async def _reply(self, invoke: Invoke) -> Reply:
        runtime = self._runtime
        try:
            function, args, kwargs = arguments(runtime, invoke)
            result = runtime.guarded(function, *args, **kwargs)
            if inspect.isawaitable(result):
                result = await runtime.awaited(result)
            if isinstance(result, (GeneratorType, AsyncGeneratorType)):
                return await self._stream(invoke, _Values(runtime, result))
            return Returned(invoke.ordinal, runtime.seconds(), 0, packed(runtime, result, "result"))
        except BaseException as error:
            return runtime.bad_end(invoke.ordinal, error)

    async def _stream(self, invoke: Invoke, values: _Values) -> Reply:
        runtime, parts, last = self._runtime, 0, None
        wants_parts = invoke.window is not None
        try:
            while (value := await values.next()) is not _End:
                if runtime.asked_to_stop():
                    return CutOff(invoke.ordinal, runtime.seconds())
                if not wants_parts:
                    last = value
                    continue
                body = packed(runtime, value, f"part {parts}")
                if not await self._has_credit():
                    return CutOff(invoke.ordinal, runtime.seconds())
                runtime.link.send(Yielded(invoke.ordinal, parts, body))
                self._credit, parts = self._credit - 1, parts + 1
            body = NOTHING if wants_parts else packed(runtime, last, "result")
            return Returned(invoke.ordinal, runtime.seconds(), parts, body)
        finally:
            await values.close()

    async def _has_credit(self) -> bool:
        """Waits until the consumer asks for parts; False when it wants no more of them."""
        while not self._credit and not self._is_unwanted():
            self._stalled = self._runtime.loop.create_future()
            await self._stalled
        return not self._is_unwanted()

    def _is_unwanted(self) -> bool:
        return self._unwanted or self._finish is not None or self._runtime.asked_to_stop()
