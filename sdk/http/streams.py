"""A run, told line by line while it goes on: NDJSON, or server-sent events for who asks for those.

What the clients need (docs/http.md):

* The first line at once, and it is the whole task as it is; the last line is the whole task, ended.
* Each connection stands alone: who comes again begins with the state so far.
* A line at least each 15 s, and a real one: some of them take heartbeats for silence.
* Without a last line the connection must not end cleanly, or one of them waits for ever.  So what
  fails here raises, and the server then cuts the connection.

Each reader attaches to the call by itself, with its own credit: one that does not read is told the
latest state when it reads again, and holds up neither the worker nor other readers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from warmd.http.outputs import Outputs
from warmd.http.task import Status, Task
from warmd.http.tasks import Tasks
from warmd.protocol.errors import CallGone, WarmdError

if TYPE_CHECKING:
    from warmd.aio import AsyncClient

REPEAT_SECONDS = 15.0
LOOKS_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""When a task that waits for its turn is asked after again; then with each repetition."""


class Streams:
    """All streams that are being read."""

    def __init__(self, client: AsyncClient, tasks: Tasks, outputs: Outputs) -> None:
        self._client = client
        self._tasks = tasks
        self._outputs = outputs
        self.open: set[asyncio.Task[Any]] = set()
        """Those who read one."""

    def cut_all(self) -> None:
        """The gateway stops: who reads comes again, or fails."""
        for reader in tuple(self.open):
            reader.cancel()

    async def lines(self, task: Task) -> AsyncGenerator[bytes]:
        """The task's JSON again and again, several lines at once where they come so."""
        parts = await self._tasks.look(task)
        if not task.status.final:
            yield task.json()
            async for line in self._until_its_end(task, parts):
                yield line
        yield task.json()

    async def _until_its_end(self, task: Task, parts: int) -> AsyncGenerator[bytes]:
        number = max(0, parts - 1)
        stream = self._client.calls.attach(task.call, number)
        looks = iter(LOOKS_SECONDS)
        try:
            while True:
                waits = task.status < Status.RUNNING
                seconds = next(looks, REPEAT_SECONDS) if waits else REPEAT_SECONDS
                try:
                    async with asyncio.timeout(seconds):
                        values = await stream.batch()
                except TimeoutError:
                    before = task.status
                    if waits:
                        await self._tasks.look(task)
                    if seconds == REPEAT_SECONDS or task.status is not before:
                        yield task.json()
                    continue
                if not values:
                    break
                task.becomes(Status.RUNNING)
                yield await self._told(task, values, number)
                number += len(values)
        except CallGone as gone:
            if (first := gone.details.get("first_part")) is None:
                await task.ended.wait()
                return
            async for line in self._until_its_end(task, first + 1):
                yield line
            return
        except WarmdError:
            pass  # of the call's end the task knows
        finally:
            await stream.aclose()
        await task.ended.wait()

    async def _told(self, task: Task, values: list[Any], number: int) -> bytes:
        outputs = [
            await self._outputs.encoded(value, task.facts, (task.call, n))
            for n, value in enumerate(values, number)
        ]
        if not task.status.final:
            task.output = outputs[-1]
        return b"\n".join(map(task.line, outputs))

    def ndjson(self, task: Task) -> ASGIApp:
        """The answer for fetching clients: a line for each state."""
        return _Lines(self, self.lines(task), b"application/x-ndjson")

    def events(self, task: Task) -> ASGIApp:
        """The answer for an EventSource: `update` for each state, and `done` for the last."""
        return _Lines(self, _as_events(self.lines(task), task), b"text/event-stream")


async def _as_events(lines: AsyncGenerator[bytes], task: Task) -> AsyncGenerator[bytes]:
    async with aclosing(lines):
        async for some in lines:
            event = b"done" if task.status.final and some == task.json() else b"update"
            for line in some.split(b"\n"):
                yield b"event: %b\ndata: %b\n" % (event, line)


class _Lines:
    """An answer that ends with its lines; cut off, it ends without its end."""

    def __init__(self, streams: Streams, lines: AsyncGenerator[bytes], content_type: bytes) -> None:
        self._streams = streams
        self._lines = lines
        self._headers = [
            (b"content-type", content_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        reader = asyncio.current_task()
        assert reader is not None, "an application runs in a task"
        watcher = asyncio.create_task(_until_gone(receive, reader))
        self._streams.open.add(reader)
        try:
            await self._tell(send)
        except asyncio.CancelledError:
            pass  # not ended: the server closes the connection, if it is there
        finally:
            watcher.cancel()
            self._streams.open.discard(reader)

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        async with aclosing(self._lines) as lines:
            async for some in lines:
                await send({"type": "http.response.body", "body": some + b"\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, reader: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.cancel()
