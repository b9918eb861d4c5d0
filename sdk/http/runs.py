"""Runs over HTTP: begun, looked at, followed, cancelled."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from warmd.http import requests, webhooks
from warmd.http.access import allowed
from warmd.http.moments import moment, now
from warmd.http.options import Options
from warmd.http.replies import base_url, json_body, reply, reply_value
from warmd.http.streams import Streams
from warmd.http.task import Facts, Task
from warmd.http.tasks import Tasks

MOST_LISTED = 100


class RunRoutes:
    """`/apps/run` and `/tasks`."""

    def __init__(self, options: Options, tasks: Tasks, streams: Streams) -> None:
        self._options = options
        self._tasks = tasks
        self._streams = streams

    def routes(self) -> list[Route]:
        return [
            Route("/apps/run", self.run, methods=["POST"]),
            Route("/tasks", self.listed),
            Route("/tasks/{id}", self.get),
            Route("/tasks/{id}", self.cancel, methods=["DELETE"]),
            Route("/tasks/{id}/status", self.status),
            Route("/tasks/{id}/stream", self.stream),
            Route("/tasks/{id}/cancel", self.cancel, methods=["POST"]),
            Route("/tasks/{id}/logs", self.logs),
        ]

    async def run(self, request: Request) -> Response:
        """Begins a run, and waits for its end where it is asked to."""
        caller = allowed(request, "run")
        run = requests.run(await json_body(request))
        if run.webhook is not None:
            webhooks.check(run.webhook, self._options.webhook_hosts)
        wait_seconds = run.wait_seconds
        if wait_seconds is None:
            wait_seconds = requests.wait_seconds(request.query_params.get("wait", "false"))
        facts = Facts(
            owner=caller.id,
            app=run.app or "",
            function=run.function or "run",
            input=run.input_json(),
            created=now(),
            session_timeout=run.opening.get("session_timeout"),
            webhook=run.webhook,
            base_url=base_url(request, self._options),
            request_id=request.scope["request_id"],
        )
        task = await self._tasks.run(caller, run, facts)
        request.scope["task"] = task.id
        if wait_seconds:
            await self._tasks.ended(task, wait_seconds)
            await self._streams.look(task)
        return reply(request, *task.pieces())

    async def get(self, request: Request) -> Response:
        task = await self._task(request)
        await self._streams.look(task)
        return reply(request, *task.pieces())

    async def status(self, request: Request) -> Response:
        task = await self._task(request)
        await self._tasks.look(task)
        told = {"id": task.id, "status": task.status, "updated_at": moment(task.updated)}
        return reply_value(request, told)

    async def stream(self, request: Request) -> ASGIApp:
        task = await self._task(request)
        if request.method == "HEAD":
            return Response()  # of what is still to come nothing is known
        offset = requests.offset(request.query_params.get("offset"))
        if "text/event-stream" in request.headers.get("accept", ""):
            return self._streams.events(task, offset)
        return self._streams.ndjson(task, offset)

    async def cancel(self, request: Request) -> Response:
        task = await self._task(request, "run")
        await self._tasks.cancel(task)
        return reply(request, *task.pieces())

    async def logs(self, request: Request) -> Response:
        task = await self._task(request)
        return reply_value(request, await self._tasks.logs(task))

    async def listed(self, request: Request) -> Response:
        tasks = self._tasks.of(allowed(request, "read"))
        return reply(request, b"[" + b",".join(task.json() for task in tasks[:MOST_LISTED]) + b"]")

    async def _task(self, request: Request, scope: str = "read") -> Task:
        caller = allowed(request, scope)
        task = await self._tasks.find(caller, request.path_params["id"])
        request.scope["task"] = task.id
        return task
