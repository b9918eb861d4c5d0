"""The gateway as an application: its parts, made once, and which path goes to which of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.routing import Route, Router
from starlette.types import ASGIApp

from warmd.http.endless import Endless
from warmd.http.fileroutes import FileRoutes
from warmd.http.files import Files
from warmd.http.front import Front
from warmd.http.health import Health
from warmd.http.keys import ANYBODY, Caller, Keys
from warmd.http.live import Live
from warmd.http.liveroutes import LiveRoutes
from warmd.http.metrics import Metrics
from warmd.http.openapi import OpenApi
from warmd.http.options import Options
from warmd.http.outputs import Outputs
from warmd.http.owners import Owners
from warmd.http.pages import Pages
from warmd.http.proxy import Proxy
from warmd.http.runs import RunRoutes
from warmd.http.sessions import SessionRoutes
from warmd.http.streams import Streams
from warmd.http.task import Task
from warmd.http.taskfiles import TaskFiles
from warmd.http.tasks import Tasks
from warmd.http.webhooks import Webhooks
from warmd.protocol.errors import WarmdError

if TYPE_CHECKING:
    from warmd.aio import AsyncClient

RESUME_SECONDS = 5.0
"""How often a daemon that is away is asked for what earlier gateways have begun."""


class Gateway:
    """All of it, for one daemon.  `folder` is where its files are, `keys` who may come in."""

    def __init__(self, client: AsyncClient, options: Options, folder: Path, keys: Keys) -> None:
        self.client = client
        self.options = options
        self.keys = keys
        self.metrics = Metrics(client)
        self.files = Files(folder, options, lambda: self.tasks.live(), client.address)
        self.owners = Owners(client)
        self.outputs = Outputs(self.files)
        self.webhooks = Webhooks(folder, self.metrics, options.webhook_hosts)
        self.tasks = Tasks(client, self.owners, self.files, self.outputs, self._ended)
        self.endless = Endless()
        self.streams = Streams(client, self.tasks, self.outputs, self.endless)
        self.live = Live(client, options.open, self.tasks.owner_of)
        self.metrics.open_streams.set_function(lambda: len(self.endless.open))

    def application(self) -> ASGIApp:
        """What the server runs."""
        router = Router(self._routes(), lifespan=self._lifespan, redirect_slashes=False)
        front = Front(router, self.options, self.caller, self.metrics)
        router.routes.append(Proxy(router, front, self.options, self.keys.named).route())
        return front

    def caller(self, token: str | None) -> Caller:
        """Who comes with this token.  Raises HttpProblem for nobody."""
        return ANYBODY if self.options.open else self.keys.caller(token)

    def check(self, caller: Caller) -> None:
        """Raises HttpProblem for a key that was one, and was revoked."""
        if not self.options.open:
            self.keys.check(caller)

    def _routes(self) -> list[Route]:
        return [
            *RunRoutes(self.options, self.tasks, self.streams).routes(),
            *SessionRoutes(self.client, self.owners).routes(),
            *LiveRoutes(self.client, self.owners, self.live, self.endless, self.check).routes(),
            *Pages().routes(),
            *FileRoutes(self.options, self.files).routes(),
            *TaskFiles(self.tasks, self.files).routes(),
            *Health(self.client, self.metrics, self.options).routes(),
            *OpenApi(self.options).routes(),
        ]

    def _ended(self, task: Task) -> None:
        self.metrics.task(task)
        self.webhooks.ended(task)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Any) -> AsyncIterator[None]:
        await self.files.open()
        self.webhooks.open()
        resuming = asyncio.create_task(self._resume())
        try:
            yield
        finally:
            resuming.cancel()
            await self.webhooks.close()
            await self.tasks.close()
            await self.outputs.close()
            await self.files.close()
            await self.client.aclose()

    async def _resume(self) -> None:
        """When the daemon can be asked first: a gateway may be there before it."""
        while True:
            try:
                await self.tasks.resume()
                return
            except WarmdError:
                await asyncio.sleep(RESUME_SECONDS)
