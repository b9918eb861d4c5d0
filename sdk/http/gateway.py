"""The gateway as an application: its parts, made once, and which path goes to which of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.routing import Route, Router
from starlette.types import ASGIApp

from warmd.http.fileroutes import FileRoutes
from warmd.http.files import Files
from warmd.http.front import Front
from warmd.http.health import Health
from warmd.http.keys import ANYBODY, Caller, Keys
from warmd.http.metrics import Metrics
from warmd.http.openapi import OpenApi
from warmd.http.options import Options
from warmd.http.outputs import Outputs
from warmd.http.owners import Owners
from warmd.http.proxy import Proxy
from warmd.http.runs import RunRoutes
from warmd.http.sessions import SessionRoutes
from warmd.http.streams import Streams
from warmd.http.tasks import Tasks
from warmd.http.webhooks import Webhooks

if TYPE_CHECKING:
    from warmd.aio import AsyncClient


class Gateway:
    """All of it, for one daemon.  `folder` is where its files are, `keys` who may come in."""

    def __init__(self, client: AsyncClient, options: Options, folder: Path, keys: Keys) -> None:
        self.client = client
        self.options = options
        self.keys = keys
        self.metrics = Metrics(client)
        self.files = Files(folder, options)
        self.owners = Owners(client)
        self.outputs = Outputs(self.files)
        self.webhooks = Webhooks(self.metrics)
        self.tasks = Tasks(client, self.owners, self.files, self.outputs, self.webhooks.ended)
        self.streams = Streams(client, self.tasks, self.outputs)

    def application(self) -> ASGIApp:
        """What the server runs."""
        router = Router(self._routes(), lifespan=self._lifespan)
        front = Front(router, self.options, self.caller, self.metrics)
        router.routes.append(Proxy(front, self.options, self.keys).route())
        return front

    def caller(self, token: str | None) -> Caller:
        """Who comes with this token.  Raises HttpProblem for nobody."""
        return ANYBODY if self.options.open else self.keys.caller(token)

    def _routes(self) -> list[Route]:
        return [
            *RunRoutes(self.options, self.tasks, self.streams).routes(),
            *SessionRoutes(self.client, self.owners).routes(),
            *FileRoutes(self.options, self.files).routes(),
            *Health(self.client, self.metrics).routes(),
            *OpenApi(self.options).routes(),
        ]

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Any) -> AsyncIterator[None]:
        await self.files.open()
        try:
            yield
        finally:
            await self.webhooks.close()
            await self.tasks.close()
            await self.outputs.close()
            await self.files.close()
            await self.client.aclose()
