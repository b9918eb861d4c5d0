"""What the gateway offers, as OpenAPI."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from warmd.http.options import Options


class OpenApi:
    """`/openapi.json`."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def routes(self) -> list[Route]:
        return [Route("/openapi.json", self.told)]

    def document(self) -> dict[str, Any]:
        return {"openapi": "3.1.0", "info": {"title": "warmd", "version": "0"}, "paths": {}}

    async def told(self, _request: Request) -> Response:
        return JSONResponse(self.document())
