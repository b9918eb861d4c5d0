"""Sessions over HTTP: what the key has opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warmd.http.access import allowed
from warmd.http.moments import moment, now
from warmd.http.owners import Owners
from warmd.http.replies import reply_value

if TYPE_CHECKING:
    from warmd.aio import AsyncClient

OVER = {"stopping": "ended", "expired": "expired", "ended": "ended", "died": "ended"}


class SessionRoutes:
    """get, list, keepalive, end."""

    def __init__(self, client: AsyncClient, owners: Owners) -> None:
        self._client = client
        self._owners = owners

    def routes(self) -> list[Route]:
        return [
            Route("/sessions", self.listed),
            Route("/sessions/{id}", self.get),
            Route("/sessions/{id}", self.end, methods=["DELETE"]),
            Route("/sessions/{id}/keepalive", self.keepalive, methods=["POST"]),
        ]

    async def listed(self, request: Request) -> Response:
        caller = allowed(request, "read")
        infos = await self._client.sessions.list()
        mine = [described(info) for info in infos if self._owners.sees(caller, info)]
        return reply_value(request, mine)

    async def get(self, request: Request) -> Response:
        info = await self._owners.info(allowed(request, "read"), request.path_params["id"])
        return reply_value(request, described(info))

    async def keepalive(self, request: Request) -> Response:
        id = request.path_params["id"]
        await self._owners.check(allowed(request, "run"), id)
        return reply_value(request, described(await self._client.sessions.keepalive(id)))

    async def end(self, request: Request) -> Response:
        id = request.path_params["id"]
        await self._owners.check(allowed(request, "run"), id)
        await self._client.sessions.end(id)
        return Response(status_code=204)


def described(info: Mapping[str, Any]) -> dict[str, Any]:
    """A session as the clients know them, and what warmd knows besides."""
    left = info["expires_in"]
    return {
        "id": info["id"],
        "short_id": info["id"].removeprefix("sess_")[:8],
        "status": OVER.get(info["state"], "active"),
        "created_at": moment(info["created"]),
        "updated_at": moment(info["last_call"] or info["created"]),
        "last_call_at": moment(info["last_call"]),
        "expires_at": None if left is None else moment(now() + left),
        "idle_timeout": info["idle_timeout"],
        "call_count": info["calls"],
        "task_id": None if info["running_call"] is None else f"task_{info['running_call']}",
        "app_id": info["app"],
        "worker_id": None if info["pid"] is None else str(info["pid"]),
        "state": info["state"],
        "queued": info["queued"],
        "memory": info["memory"],
        "reason": info["reason"],
    }
