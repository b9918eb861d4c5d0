"""The route that browsers' clients call: they have no key, the gateway puts one to what they ask.

`inference({proxyUrl})` sends each request to one address and says in `x-inf-target-url`, or in the query
where it opens a stream, what it is meant for.  That is answered here, by the gateway's own application,
whatever the target's scheme: it must name this gateway or the clients' default, api.inference.sh, which
nothing is ever sent to.

Whoever reaches this route may do what the key may, so `warmd.http.origins` keeps strangers' pages out.
What is more than a read has to say its target in the header, which no page can send across origins
without being asked for its origin before.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, unquote, urlsplit

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from warmd.http import origins
from warmd.http.front import Front, unversioned
from warmd.http.keys import Caller
from warmd.http.options import Options
from warmd.http.problems import HttpProblem
from warmd.protocol.errors import quoted

METHODS = ("GET", "POST", "PUT", "DELETE")
PATH = "/api/inference/proxy"
TARGET_HEADER = "x-inf-target-url"
TARGET_PARAMETER = "__inf_target"
CLIENTS_HOST = "api.inference.sh"
"""What the clients aim at when they are told nothing else."""
NOT_PASSED_ON = frozenset({b"authorization", b"cookie", TARGET_HEADER.encode()})


class Proxy:
    """Passes requests on to `app`, behind the front; `named` knows the keys by their names.

    Raises what `named` raises for a key that there is not.
    """

    def __init__(self, app: ASGIApp, front: Front, options: Options, named: Callable[[str], Caller]) -> None:
        self._app = app
        self._front = front
        self._options = options
        self._named = named
        if options.proxy_key:
            named(options.proxy_key)

    def route(self) -> Route:
        return Route(PATH, self.pass_on, methods=METHODS)

    async def pass_on(self, request: Request) -> ASGIApp:
        """Raises HttpProblem for what is not passed on."""
        if not self._options.proxy_key:
            raise HttpProblem("NOT_FOUND", "there is no proxy here: start the gateway with --proxy-key NAME")
        origins.check(self._options, request.headers)
        path, query = self._target(request)
        try:
            caller = self._named(self._options.proxy_key)
        except ValueError as error:  # it was revoked
            raise HttpProblem("NOT_ALLOWED", f"the proxy has no key any more: {error}") from None
        self._front.admit_as(request.scope, caller)

        async def passed_on(scope: Scope, receive: Receive, send: Send) -> None:
            # The very scope: so logs and metrics tell of what was asked for, not of this route.
            scope.update(
                path=path, raw_path=quote(path).encode(), query_string=query.encode(), path_params={}
            )
            scope["headers"] = [item for item in scope["headers"] if item[0] not in NOT_PASSED_ON]
            unversioned(scope)
            await self._app(scope, receive, send)

        return passed_on

    def _target(self, request: Request) -> tuple[str, str]:
        """Path and query that are meant."""
        url = request.headers.get(TARGET_HEADER)
        if url is None and request.method in ("GET", "HEAD"):
            url = request.query_params.get(TARGET_PARAMETER)
        if url is None:
            raise HttpProblem(
                "INVALID",
                f"there is no {TARGET_HEADER} header: set proxyUrl of the client to this address "
                f"(a GET may say ?{TARGET_PARAMETER}=... instead)",
            )
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            raise HttpProblem("INVALID", f"{TARGET_HEADER}: {quoted(url, 100)} is no address") from None
        if host != CLIENTS_HOST and not origins.is_own_host(self._options, parts.netloc):
            raise HttpProblem(
                "NOT_ALLOWED",
                f"{TARGET_HEADER}: {quoted(host, 100)} is not this gateway: leave baseUrl of the client out",
            )
        path = unquote(parts.path)
        if not path.startswith("/") or path.startswith((PATH, f"/v1{PATH}")):
            raise HttpProblem("INVALID", f"{TARGET_HEADER}: {quoted(url, 100)} names nothing to pass on to")
        return path, parts.query
