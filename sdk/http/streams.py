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
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from warmd.http.endless import NDJSON, Endless
from warmd.http.outputs import Outputs
from warmd.http.problems import HttpProblem
from warmd.http.progress import Listener, Progress
from warmd.http.task import Status, Task
from warmd.http.tasks import LOOK_SECONDS, Tasks
from warmd.protocol.errors import CallGone, WarmdError

if TYPE_CHECKING:
    from warmd.aio import AsyncClient
    from warmd.aiocalls import AsyncStream

REPEAT_SECONDS = 15.0
LOOKS_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""When a task that waits for its turn is asked after again; then with each repetition."""
LONG_SECONDS = 0.5
"""A run that gives nothing for so long may tell how far it is."""
MOST_TOGETHER_BYTES = 64 * 1024


class Streams:
    """Runs as those who stream them read them."""

    def __init__(self, client: AsyncClient, tasks: Tasks, outputs: Outputs, endless: Endless) -> None:
        self._client = client
        self._tasks = tasks
        self._outputs = outputs
        self._progress = Progress(client)
        self._endless = endless

    async def look(self, task: Task) -> None:
        """Learn how far the task is, its last part so far included, as one who streams it would."""
        count = await self._tasks.look(task)
        if not count or task.status.final:
            return
        number = count - 1
        parts = self._client.calls.attach(task.call, number)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                values = await parts.batch()
        except (WarmdError, TimeoutError):
            return  # it has ended, or that part is no more
        finally:
            await parts.aclose()
        if values:
            async for _ in self._told(task, values[-1:], number + len(values) - 1):
                pass  # the task has it now

    async def lines(self, task: Task, offset: int | None = None) -> AsyncGenerator[bytes]:
        """The task's JSON again and again, several lines at once where they come so.

        With an `offset` all parts come from that number on, as far as they are kept, also of a task that
        has ended; else the stream begins with the latest.
        """
        parts = await self._tasks.look(task)
        if not task.status.final:
            yield task.json()
        if not task.status.final or offset is not None:
            first = max(0, parts - 1) if offset is None else offset
            async with aclosing(self._until_its_end(task, first)) as lines:
                async for line in lines:
                    yield line
        yield task.json()

    async def _until_its_end(self, task: Task, number: int) -> AsyncGenerator[bytes]:
        """Lines from its part `number` on, and the whole task where there is none for long."""
        with self._progress.stream(task) as progress:
            async with aclosing(self._parts_and_progress(task, number, progress)) as lines:
                async for line in lines:
                    yield line

    async def _parts_and_progress(
        self, task: Task, number: int, progress: Listener
    ) -> AsyncGenerator[bytes]:
        pace = _Pace()
        parts: AsyncStream | None = self._client.calls.attach(task.call, number)
        try:
            while parts is not None or not task.ended.is_set():
                try:
                    seconds = pace.seconds(task.status < Status.RUNNING)
                    async with asyncio.timeout(seconds) as limit:
                        with progress.ends(limit):
                            values = await _next(task, parts)
                except CallGone as gone:
                    number = gone.details.get("first_part", number)
                    parts = self._rest(task, gone)
                except WarmdError:
                    parts = None  # of the call's end the task knows
                except TimeoutError:
                    before = task.status
                    if before < Status.RUNNING:  # later it is told by what comes of it
                        await self._tasks.look(task)
                    else:
                        progress.begin()
                    if progress.has_news() or pace.is_due or task.status is not before:
                        yield task.json()
                        pace.begin()
                else:
                    if not values:
                        parts = None
                        continue
                    if task.status < Status.RUNNING:
                        task.becomes(Status.RUNNING)
                    async for some in self._told(task, values, number):
                        yield some
                    number += len(values)
                    pace.begin()
        finally:
            if parts is not None:
                await parts.aclose()

    def _rest(self, task: Task, gone: CallGone) -> AsyncStream | None:
        """What is still kept of a stream whose next parts are not: who is slow is told the latest."""
        first = gone.details.get("first_part")
        return None if first is None else self._client.calls.attach(task.call, first)

    async def _told(self, task: Task, values: list[Any], number: int) -> AsyncGenerator[bytes]:
        """Their lines, together as long as they are short."""
        lines: list[bytes] = []
        size = 0
        for n, value in enumerate(values, number):
            try:
                output = await self._outputs.encoded(value, task.facts, (task.call, n))
            except HttpProblem:
                continue  # the next replaces it, and if it is the last, the run fails with this
            if not task.status.final:
                task.output = output
            lines.append(task.line(output))
            size += len(lines[-1])
            if size > MOST_TOGETHER_BYTES:
                yield b"\n".join(lines)
                lines, size = [], 0
        if lines:
            yield b"\n".join(lines)

    def ndjson(self, task: Task, offset: int | None = None) -> ASGIApp:
        """The answer for fetching clients: a line for each state."""
        return self._endless.answer(_as_lines(self.lines(task, offset)), NDJSON)

    def events(self, task: Task, offset: int | None = None) -> ASGIApp:
        """The answer for an EventSource: `update` for each state, and `done` for the last."""
        return self._endless.answer(_as_events(self.lines(task, offset), task), b"text/event-stream")


class _Pace:
    """When the task is to be looked at, and told of though nothing is new."""

    def __init__(self) -> None:
        self._looks = iter(LOOKS_SECONDS)
        self._first = iter((LONG_SECONDS,))
        self.begin()

    def begin(self) -> None:
        self._due = time.monotonic() + REPEAT_SECONDS

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due

    def seconds(self, waits: bool) -> float:
        """How long to wait for what comes by itself."""
        left = max(0.0, self._due - time.monotonic())
        return min(left, next(self._looks if waits else self._first, left))


async def _next(task: Task, parts: AsyncStream | None) -> list[Any]:
    """The parts that have come, none at the end."""
    if parts is not None:
        return await parts.batch()
    await task.ended.wait()
    return []


async def _as_lines(lines: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(lines):
        async for some in lines:
            yield some + b"\n"


async def _as_events(lines: AsyncGenerator[bytes], task: Task) -> AsyncGenerator[bytes]:
    async with aclosing(lines):
        async for some in lines:
            event = b"done" if task.status.final and some == task.json() else b"update"
            for line in some.split(b"\n"):
                yield b"event: %b\ndata: %b\n\n" % (event, line)
