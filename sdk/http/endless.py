"""Answers that come piece by piece, for as long as there is something to tell.

One that fails, or is cut off because the gateway stops, ends without its end: the connection breaks, and
its reader knows that there is more (`warmd.http.streams` says who needs that).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from warmd.http.logs import FACTS
from warmd.http.problems import HttpProblem
from warmd.protocol.errors import WarmdError

log = logging.getLogger("warmd.http")
NDJSON = b"application/x-ndjson"


class Endless:
    """All such answers that are being read."""

    def __init__(self) -> None:
        self.open: dict[asyncio.Task[Any], Scope] = {}
        """Who reads one, and what was asked."""

    def answer(self, pieces: AsyncGenerator[bytes], content_type: bytes) -> ASGIApp:
        """An application that answers with these, each as soon as it is there."""
        return _Answer(self.open, pieces, content_type)

    def cut_all(self) -> None:
        """The gateway stops: who reads comes again, or fails."""
        for reader in tuple(self.open):
            reader.cancel()


class _Answer:
    def __init__(
        self,
        open: dict[asyncio.Task[Any], Scope],
        pieces: AsyncGenerator[bytes],
        content_type: bytes,
    ) -> None:
        self._open = open
        self._pieces = pieces
        self._headers = [
            (b"content-type", content_type),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = asyncio.current_task()
        assert reader is not None, "an application runs in a task"
        watcher = asyncio.create_task(_until_gone(receive, reader))
        self._open[reader] = scope
        try:
            await self._tell(send)
        except asyncio.CancelledError:
            pass  # not ended: the server closes the connection, if it is there
        except (HttpProblem, WarmdError) as error:
            log.warning("an answer was cut", extra={FACTS: {"why": str(error)}})
        finally:
            watcher.cancel()
            del self._open[reader]

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, reader: asyncio.Task[Any]) -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except HttpProblem:
        pass  # a body that was promised and does not come: nobody knows whether the reader is there
    reader.cancel()
