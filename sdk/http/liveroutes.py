"""`/live`, for pages, and what they ask for besides: the apps, and the logs of sessions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from warmd.http.access import allowed
from warmd.http.endless import NDJSON, Endless
from warmd.http.keys import Caller
from warmd.http.live import Live
from warmd.http.owners import Owners
from warmd.http.plainjson import dumped, plain
from warmd.http.problems import HttpProblem
from warmd.http.replies import reply, reply_value
from warmd.http.requests import app_name
from warmd.protocol.errors import quoted

if TYPE_CHECKING:
    from warmd.aio import AsyncClient
    from warmd.aiocalls import AsyncLogs

FIRST_SECONDS = 0.2
"""An answer begins when there is something to tell, or nothing has gone wrong for so long."""
CHECK_SECONDS = 15.0
"""So long a key that is revoked may go on waiting for words in a log."""
MOST_LOGS_OF_KEY = 32
LOG = b"text/plain; charset=utf-8"


class LiveRoutes:
    """`check(caller)` raises HttpProblem when the caller's key is one no more."""

    def __init__(
        self,
        client: AsyncClient,
        owners: Owners,
        live: Live,
        endless: Endless,
        check: Callable[[Caller], object],
    ) -> None:
        self._client = client
        self._owners = owners
        self._live = live
        self._endless = endless
        self._check = check
        self._reading: Counter[str] = Counter()

    def routes(self) -> list[Route]:
        return [
            Route("/live", self.live),
            Route("/apps", self.apps),
            Route("/apps/{app}", self.app),
            Route("/sessions/{id}/logs", self.logs),
        ]

    async def live(self, request: Request) -> ASGIApp:
        caller = allowed(request, "read")
        if request.method == "HEAD":
            return Response()
        self._live.check_room(caller)
        return self._endless.answer(self._live.lines(caller, lambda: self._check(caller)), NDJSON)

    async def apps(self, request: Request) -> Response:
        """By their names; where they lie is nothing for who comes by HTTP."""
        allowed(request, "read")
        found = await self._client.apps()
        return reply_value(request, [{"name": app["name"], "target": app["target"]} for app in found])

    async def app(self, request: Request) -> Response:
        """What its functions take and give, which is asked of a process that imports it."""
        allowed(request, "run")
        described = await self._client.describe(app_name(request.path_params["app"]))
        described.pop("found", None)
        return reply(request, dumped(plain(described, lambda _part: None)))

    async def logs(self, request: Request) -> ASGIApp:
        """What the session's processes have written, and with `follow` what they will."""
        caller = allowed(request, "read")
        info = await self._owners.info(caller, request.path_params["id"])
        tail, follow = _tail(request.query_params.get("tail")), _follow(request.query_params.get("follow"))
        if request.method == "HEAD":
            return Response()
        logs = self._client.logs(info["id"], tail=tail, follow=follow)
        chunks = self._chunks(logs, caller)
        try:
            await anext(chunks)
        except BaseException:
            await chunks.aclose()
            raise
        return self._endless.answer(chunks, LOG)

    async def _chunks(self, logs: AsyncLogs, caller: Caller) -> AsyncGenerator[bytes]:
        """Of a log, as they come; first nothing, once that it can be read is likely."""
        if self._reading[caller.id] >= MOST_LOGS_OF_KEY:
            raise HttpProblem(
                "QUEUE_FULL", f"this key reads {MOST_LOGS_OF_KEY} logs already, which is the limit: close one"
            )
        self._reading[caller.id] += 1
        coming = asyncio.ensure_future(anext(logs, None))
        try:
            async with aclosing(logs):
                await asyncio.wait([coming], timeout=FIRST_SECONDS)
                if not coming.done() or coming.exception() is None:
                    yield b""
                while (chunk := await self._next(coming, caller)) is not None:
                    yield chunk
                    coming = asyncio.ensure_future(anext(logs, None))
        finally:
            coming.cancel()
            self._reading[caller.id] -= 1

    async def _next(self, coming: asyncio.Future[bytes | None], caller: Caller) -> bytes | None:
        self._check(caller)
        while not coming.done():
            await asyncio.wait([coming], timeout=CHECK_SECONDS)
            self._check(caller)
        return coming.result()


def _tail(text: str | None) -> int | None:
    if text is None or text == "all":
        return None
    if not text.isdecimal() or len(text) > 9:
        raise HttpProblem("INVALID", f"tail: {quoted(text, 40)} is refused: give a number of lines, or all")
    return int(text)


def _follow(text: str | None) -> bool:
    if text not in (None, "true", "false"):
        raise HttpProblem("INVALID", f"follow: {quoted(text, 40)} is refused: give true or false")
    return text == "true"
