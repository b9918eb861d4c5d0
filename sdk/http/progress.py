"""How far runs are, as their apps tell; heard of only while somebody streams a run that takes long.

A stream waits for parts with a time limit, and what is new here ends that wait.  The daemon tells the latest
whenever there is room for it (`calls.watch`), and there is room again after a pause: so an app that tells
much costs the gateway no more than one that tells ten times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from warmd.http.plainjson import dumped, plain
from warmd.http.task import NULL, Task
from warmd.protocol.errors import WarmdError

if TYPE_CHECKING:
    from warmd.aio import AsyncClient

PAUSE_SECONDS = 0.1


def json_of(value: Any) -> bytes:
    """A value that was told, as JSON; null for one that JSON cannot have."""
    try:
        return dumped(plain(value, lambda _part: None))
    except (TypeError, ValueError, RecursionError):
        return NULL


class Progress:
    """What is heard for the streams that are open."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._heard: dict[str, asyncio.Task[None]] = {}
        """By call, those that are listened to."""
        self._waits: dict[str, dict[object, asyncio.Timeout | None]] = {}
        """By call, its streams, each with the limit of what it waits for."""

    @contextmanager
    def stream(self, task: Task) -> Iterator[Listener]:
        """For as long as somebody streams it."""
        listener = Listener(self, task)
        self._waits.setdefault(task.call, {})[listener] = None
        try:
            yield listener
        finally:
            waits = self._waits[task.call]
            del waits[listener]
            if not waits:
                del self._waits[task.call]
                if (heard := self._heard.pop(task.call, None)) is not None:
                    heard.cancel()

    def listen(self, task: Task) -> None:
        if task.call not in self._heard:
            self._heard[task.call] = asyncio.create_task(self._listen(task))

    async def _listen(self, task: Task) -> None:
        try:
            async for value in self._client.calls.watch(task.call):
                task.progress = json_of(value)
                now = asyncio.get_running_loop().time()
                for limit in self._waits.get(task.call, {}).values():
                    if limit is not None and not limit.expired():
                        limit.reschedule(now)
                await asyncio.sleep(PAUSE_SECONDS)
        except WarmdError:
            # The stream itself learns what is the matter; where too many are listened to, it tries again.
            if self._heard.get(task.call) is asyncio.current_task():
                del self._heard[task.call]

    def waits(self, listener: Listener, call: str, limit: asyncio.Timeout | None) -> None:
        self._waits[call][listener] = limit


class Listener:
    """One stream of a run, which hears how far that is."""

    def __init__(self, progress: Progress, task: Task) -> None:
        self._progress = progress
        self._task = task
        self._told = task.progress

    def begin(self) -> None:
        """The run takes long: from now on it is listened to."""
        self._progress.listen(self._task)

    def has_news(self) -> bool:
        """Whether there is something that was not told in this stream; it counts as told from now on."""
        before, self._told = self._told, self._task.progress
        return self._told != before

    @contextmanager
    def ends(self, limit: asyncio.Timeout) -> Iterator[None]:
        """News end this wait."""
        self._progress.waits(self, self._task.call, limit)
        try:
            yield
        finally:
            self._progress.waits(self, self._task.call, None)
