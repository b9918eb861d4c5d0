"""The route that browsers' clients call: they have no key, the gateway puts one to what they ask."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from warmd.http.keys import Keys
from warmd.http.options import Options
from warmd.http.problems import HttpProblem

PATH = "/api/inference/proxy"


class Proxy:
    """Passes requests on to the gateway's own application."""

    def __init__(self, app: ASGIApp, options: Options, keys: Keys) -> None:
        self._app = app
        self._options = options
        self._keys = keys

    def route(self) -> Route:
        return Route(PATH, self.pass_on, methods=["GET", "POST", "PUT", "DELETE"])

    async def pass_on(self, _request: Request) -> Response:
        raise HttpProblem("NOT_FOUND", "there is no proxy here: start the gateway with --proxy-key NAME")
