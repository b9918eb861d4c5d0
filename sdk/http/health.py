"""Whether the gateway lives, whether it can serve, and what there is to be counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from warmd.http.access import allowed
from warmd.http.metrics import Metrics
from warmd.http.problems import HttpProblem

if TYPE_CHECKING:
    from warmd.aio import AsyncClient


class Health:
    """`/healthz`, `/readyz` and `/metrics`."""

    def __init__(self, client: AsyncClient, metrics: Metrics) -> None:
        self._client = client
        self._metrics = metrics

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
        ]

    async def healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """Raises WarmdError when the daemon cannot be reached."""
        status = await self._client.status()
        if status.get("draining"):
            raise HttpProblem("DRAINING", "the daemon is stopping")
        return PlainTextResponse("ok\n")

    async def metrics(self, request: Request) -> Response:
        allowed(request, "read")
        return Response(await self._metrics.exposition(), media_type=self._metrics.CONTENT_TYPE)
