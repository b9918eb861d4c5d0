"""The files of a run: those that its input and its output, as it is now, name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warmd.http.access import allowed
from warmd.http.files import Files
from warmd.http.filestore import Record
from warmd.http.problems import HttpProblem
from warmd.http.replies import reply_value
from warmd.http.task import Task
from warmd.http.tasks import Tasks
from warmd.protocol.errors import quoted

PATH = "/tasks/{id}/files"
ROLES = ("input", "output")


class TaskFiles:
    """Told, and deleted; with `?role=input` or `output` those of one side."""

    def __init__(self, tasks: Tasks, files: Files) -> None:
        self._tasks = tasks
        self._files = files

    def routes(self) -> list[Route]:
        return [Route(PATH, self.listed), Route(PATH, self.delete, methods=["DELETE"])]

    async def listed(self, request: Request) -> Response:
        task = await self._task(request, "read")
        found = self._of(task, _roles(request))
        told = [{**self._files.described(record), "role": role} async for role, record in found]
        return reply_value(request, told)

    async def delete(self, request: Request) -> Response:
        """Of a run that has ended; also those that another run has."""
        task = await self._task(request, "run")
        roles = _roles(request)
        if not task.status.final:
            raise HttpProblem(
                "INVALID", f"{task.id} has not ended, and may need its files: wait for its end, or cancel it"
            )
        ids = {record.id async for _, record in self._of(task, roles)}
        for id in ids:
            await self._files.delete(id)
        return reply_value(request, {"deleted": sorted(ids), "skipped": []})

    async def _task(self, request: Request, scope: str) -> Task:
        task = await self._tasks.find(allowed(request, scope), request.path_params["id"])
        request.scope["task"] = task.id
        return task

    async def _of(self, task: Task, roles: tuple[str, ...]) -> AsyncIterator[tuple[str, Record]]:
        for role in roles:
            json = task.facts.input if role == "input" else task.output
            for record in await self._files.named_in(orjson.loads(json)):
                if record.owner == task.facts.owner:
                    yield role, record


def _roles(request: Request) -> tuple[str, ...]:
    role = request.query_params.get("role")
    if role is not None and role not in ROLES:
        raise HttpProblem("INVALID", f"role: expected input or output, got {quoted(role, 60)}")
    return ROLES if role is None else (role,)
