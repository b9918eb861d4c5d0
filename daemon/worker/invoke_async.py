"""Calls of an async app: one at a time, each a task in the process's event loop.

The runtime has no task of its own that waits, so an app that cancels all tasks does no harm.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections import deque
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from warmd.daemon.worker import output
from warmd.daemon.worker.invoke import Reply, arguments, packed
from warmd.daemon.worker.parking import Answer, Parking
from warmd.daemon.worker.runtime_async import LoopRuntime, call_of
from warmd.daemon.worker.text import describe
from warmd.daemon.worker.window import Window
from warmd.protocol.gpus import KeepsMemory, Park, Unpark
from warmd.protocol.messages import NOTHING
from warmd.protocol.parcels import copied
from warmd.protocol.segments import KEPT_SECONDS
from warmd.protocol.work import AskCancel, Finish, Invoke, MoreCredit, Returned, Yielded
from warmd.protocol.work import Interrupted as CutOff

EXIT_WORKER_FAILED = 70


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
                return await self._runtime.awaited(self._generator.__anext__(), self._generator)
            # A sync generator never waits: without this the loop would stand still until its end.
            await asyncio.sleep(0)
            return self._runtime.guarded(next, self._generator)
        except (StopIteration, StopAsyncIteration):
            return _End

    async def close(self) -> None:
        try:
            self._runtime.spare()
            if self._is_async:
                await self._runtime.awaited(self._generator.aclose(), self._generator)
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
        self._parking = Parking(runtime, runtime.hook)
        self._finish: Finish | None = None
        self._early: deque[Invoke | Park | Unpark] = deque()
        self._window = Window(0, None)
        self._unwanted = False
        self._stalled: asyncio.Future[None] | None = None
        self._trimmer: asyncio.TimerHandle | None = None

    def serve(self) -> Finish:
        """Answers calls until the daemon says to finish."""
        runtime = self._runtime
        runtime.loop.add_reader(runtime.link.socket, self._on_readable)
        runtime.link.returned = lambda: runtime.loop.call_soon_threadsafe(runtime.link.hand_back)
        # What came together with the first message wakes up no selector.
        runtime.loop.call_soon(self._on_readable)
        runtime.run_until(lambda: self._finish is not None and runtime.task is None)
        runtime.link.returned = lambda: None
        runtime.loop.remove_reader(runtime.link.socket)
        assert self._finish is not None
        return self._finish

    def _on_readable(self) -> None:
        self._runtime.check_fork()
        try:
            for message in self._runtime.link.received():
                self._on_message(message)
            self._trim_later()
        except Exception as error:
            # The event loop would only log it, and the call wait for its deadline.
            output.note(f"the worker failed:\n{describe(error).traceback}")
            output.flush()
            os._exit(EXIT_WORKER_FAILED)

    def _trim_later(self) -> None:
        if self._runtime.link.keeps_memory and self._trimmer is None:
            self._trimmer = self._runtime.loop.call_later(KEPT_SECONDS, self._trim)

    def _trim(self) -> None:
        self._trimmer = None
        self._runtime.link.trim()
        self._trim_later()

    def _on_message(self, message: object) -> None:
        runtime = self._runtime
        if isinstance(message, Invoke | Park | Unpark):
            self._early.append(message)
            self._begin_next()
        elif isinstance(message, MoreCredit) and message.ordinal == runtime.ordinal:
            self._window.more(message.parts)
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
        if not isinstance(invoke, Invoke):
            self._begin_move(invoke)
            return
        # Now, not in the task's first step: credit may have come together with the call.
        self._window, self._unwanted = Window(invoke.window or 0, invoke.window_bytes), False
        may_run = runtime.begin(invoke)
        runtime.task = runtime.loop.create_task(self._call(invoke, may_run))
        # The app may cancel the task before its first step; then nothing of it runs.
        runtime.task.add_done_callback(lambda task: self._on_task_done(invoke, task))

    def _begin_move(self, order: Park | Unpark) -> None:
        runtime = self._runtime
        task = runtime.loop.create_task(self._parking.answer(order))
        # Like a call, so that no other begins before it is over.
        runtime.task = task
        task.add_done_callback(lambda _: self._on_move_done(order, task))

    def _on_move_done(self, order: Park | Unpark, task: asyncio.Task[Answer]) -> None:
        runtime = self._runtime
        runtime.check_fork()
        cancelled = KeepsMemory(order.move, "the app has cancelled it before it began")
        runtime.link.send(cancelled if task.cancelled() else task.result())
        runtime.task = None
        self._begin_next()
        if self._finish is not None:
            runtime.loop.stop()

    async def _call(self, invoke: Invoke, may_run: bool) -> None:
        runtime = self._runtime
        call_of.set(invoke.ordinal)
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
                result = await runtime.awaited(result, result)
            if isinstance(result, (GeneratorType, AsyncGeneratorType)):
                return await self._stream(invoke, _Values(runtime, result))
            return Returned(invoke.ordinal, runtime.seconds(), 0, packed(runtime, result, "result"))
        except BaseException as error:
            return runtime.bad_end(invoke.ordinal, error)

    async def _stream(self, invoke: Invoke, values: _Values) -> Reply:
        runtime, parts, last, is_empty = self._runtime, 0, None, True
        wants_parts = invoke.window is not None
        try:
            while (value := await values.next()) is not _End:
                if runtime.asked_to_stop():
                    return CutOff(invoke.ordinal, runtime.seconds())
                is_empty = False
                if not wants_parts:
                    last = value
                    continue
                body = packed(runtime, value, f"part {parts}")
                if not self._window.is_open:
                    body = copied(body)  # other tasks may change what it lies in
                if not await self._opens():
                    return CutOff(invoke.ordinal, runtime.seconds())
                runtime.link.send(Yielded(invoke.ordinal, parts, body))
                self._window.sent(len(body))
                parts += 1
            if is_empty:
                runtime.app.check_not_empty(invoke.function)
            body = NOTHING if wants_parts else packed(runtime, last, "result")
            return Returned(invoke.ordinal, runtime.seconds(), parts, body)
        finally:
            await values.close()

    async def _opens(self) -> bool:
        """Waits until the consumer has room for a part; False when it wants no more of them."""
        while not self._window.is_open and not self._is_unwanted():
            self._stalled = self._runtime.loop.create_future()
            await self._stalled
        return not self._is_unwanted()

    def _is_unwanted(self) -> bool:
        return self._unwanted or self._finish is not None or self._runtime.asked_to_stop()
