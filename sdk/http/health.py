"""Whether the gateway lives, whether it can serve, and what there is to be counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from warmd.http.access import allowed
from warmd.http.metrics import Metrics
from warmd.http.options import Options
from warmd.http.problems import HttpProblem

if TYPE_CHECKING:
    from warmd.aio import AsyncClient

READY_SECONDS = 2.0
"""A daemon that says nothing for so long is not ready."""


class Health:
    """`/healthz`, `/readyz` and `/metrics`."""

    def __init__(self, client: AsyncClient, metrics: Metrics, options: Options) -> None:
        self._client = client
        self._metrics = metrics
        self._options = options

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
        ]

    async def healthz(self, _request: Request) -> Response:
        """This process serves, whatever the daemon does."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """Raises HttpProblem and WarmdError when the daemon takes no calls, or cannot be asked."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                status = await self._client.status()
        except TimeoutError:
            raise HttpProblem(
                "DAEMON_UNAVAILABLE",
                f"the daemon has not answered for {READY_SECONDS:g} s: `warmd status` and its log say more",
            ) from None
        if status["draining"]:
            raise HttpProblem("DRAINING", "the daemon is stopping and takes no more calls: start it again")
        return PlainTextResponse("ok\n")

    async def metrics(self, request: Request) -> Response:
        if not self._options.open_metrics:
            allowed(request, "read")
        return Response(await self._metrics.exposition(), media_type=self._metrics.CONTENT_TYPE)
