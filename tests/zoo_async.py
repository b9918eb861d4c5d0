"""Async apps of the zoo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import warmd.app

context = warmd.app.context
FOREVER = 3600.0


def note(path: str, line: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


class Async:
    """An async app, with a background task and every kind of function."""

    async def setup(self, config: Any = None) -> None:
        self.n = 0
        self.beats = 0
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            self.beats += 1
            await asyncio.sleep(0.005)

    async def run(self, input: Any) -> Any:
        self.n += 1
        await asyncio.sleep(0)
        return {"n": self.n, "input": input, "same_loop": asyncio.get_running_loop() is self.loop}

    def sync(self, input: Any) -> Any:
        asyncio.get_running_loop()
        return input

    async def echo(self, input: Any) -> Any:
        return input

    async def slow_echo(self, input: Any) -> Any:
        await asyncio.sleep(0.002)
        return input

    async def slow_clean_up(self) -> None:
        try:
            context.progress("in")
            await asyncio.sleep(FOREVER)
        finally:
            await asyncio.sleep(0.3)
            print("cleaned up")

    async def how_many_beats(self) -> int:
        return self.beats

    async def until_beats(self, n: int) -> int:
        while self.beats < n:
            await asyncio.sleep(0.001)
        return self.beats

    async def raises(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("an async error")

    async def exit(self) -> None:
        sys.exit(3)

    async def keyboard(self) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    async def cancelled(self) -> None:
        raise asyncio.CancelledError

    async def exit_in_task(self) -> str:
        async def leave() -> None:
            sys.exit(3)

        self.leaving = asyncio.create_task(leave())
        return "left behind"

    async def cancel_all_tasks(self) -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(FOREVER)

    async def stop_loop(self) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "stopped and going on"

    async def count_up(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    def sync_count_up(self, n: int) -> Iterator[int]:
        yield from range(n)

    async def alive(self) -> int:
        self.n += 1
        return self.n

    async def shielded(self) -> None:
        """Its task cannot be cancelled, only left behind."""
        self.left = asyncio.create_task(asyncio.sleep(FOREVER))
        context.progress("in")
        await asyncio.shield(self.left)

    async def swallow(self) -> None:
        """Catches every cancellation and goes on: only SIGKILL helps."""
        said = False
        while True:
            with contextlib.suppress(BaseException):
                if not said:
                    said = True
                    context.progress("in")
                await asyncio.sleep(0.01)

    async def sleep(self) -> None:
        context.progress("in")
        await asyncio.sleep(FOREVER)

    async def inner(self) -> None:
        await self.sleep()

    async def stream_that_waits(self) -> AsyncIterator[int]:
        context.progress("in")
        await asyncio.sleep(FOREVER)
        yield 1

    async def gather(self) -> None:
        context.progress("in")
        await asyncio.gather(*(asyncio.sleep(FOREVER) for _ in range(3)))

    async def task_group(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(asyncio.sleep(FOREVER))
            context.progress("in")

    async def loop_in_task(self) -> None:
        """A child task of the call blocks the loop."""

        async def block() -> None:
            context.progress("in")
            while True:
                pass

        await asyncio.gather(block(), asyncio.sleep(FOREVER))

    async def loop_in_coroutine(self) -> None:
        context.progress("in")
        while True:
            pass

    def loop_in_sync(self) -> None:
        context.progress("in")
        while True:
            pass

    async def in_thread(self) -> None:
        context.progress("in")
        await asyncio.to_thread(time.sleep, 1.0)

    async def wait_for(self) -> None:
        context.progress("in")
        async with asyncio.timeout(FOREVER):
            await asyncio.sleep(FOREVER)

    async def swallow_once(self) -> str:
        try:
            context.progress("in")
            await asyncio.sleep(FOREVER)
        except (asyncio.CancelledError, warmd.app.Interrupted):
            return "swallowed"
        return "slept"

    async def swallow_twice(self) -> None:
        for n in range(2):
            with contextlib.suppress(asyncio.CancelledError, warmd.app.Interrupted):
                if n == 0:
                    context.progress("in")
                await asyncio.sleep(FOREVER)
        await asyncio.sleep(FOREVER)

    async def stream(self, path: str | None = None) -> AsyncIterator[int]:
        n = 0
        try:
            while True:
                yield n
                n += 1
        finally:
            if path:
                note(path, f"closed after {n}")

    async def stuck_stream(self, path: str | None = None) -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.sleep(FOREVER)
        finally:
            if path:
                note(path, "closed")

    async def return_in_child(self, path: str) -> int:
        pid = os.fork()
        if pid == 0:
            note(path, f"child {os.getpid()}")
            return -1
        os.waitpid(pid, 0)
        return os.getpid()

    async def unload(self, reason: str) -> None:
        await asyncio.sleep(0)
        if isinstance(self.config, dict) and "unloaded" in self.config:
            note(self.config["unloaded"], f"unloaded {reason}")


class AsyncOnCancel:
    async def setup(self) -> None:
        self.stopped = asyncio.Event()
        self.told = 0

    async def run(self) -> str:
        self.stopped.clear()
        context.progress("in")
        await self.stopped.wait()
        return "stopped by on_cancel"

    async def how_often(self) -> int:
        return self.told

    async def on_cancel(self) -> None:
        self.told += 1
        await asyncio.sleep(0)
        self.stopped.set()


class AsyncSetupRaises:
    async def setup(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("async setup does not want to")

    def run(self) -> None:
        pass


class AsyncSetupExits:
    async def setup(self) -> None:
        sys.exit(4)

    def run(self) -> None:
        pass
