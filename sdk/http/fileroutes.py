"""Files over HTTP: announced with a key, then written and read at addresses that need none.

Whatever somebody has uploaded must not run as a page of the gateway's: nothing is guessed about its
type, all of it is in a sandbox, and what could hold a script is saved, not shown.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, BinaryIO

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from warmd import plan
from warmd.http.access import allowed
from warmd.http.contents import is_type, may_be_shown, type_of
from warmd.http.files import Announced, Files
from warmd.http.filestore import Record
from warmd.http.options import Options
from warmd.http.problems import HttpProblem
from warmd.http.replies import base_url, json_body, reply_value
from warmd.protocol.errors import quoted

MOST_ANNOUNCED = 1000
ADDRESS = "/content/{id}/{secret}/{filename}"
ANNOUNCED_FIELDS = ("uri", "filename", "content_type", "path", "size", "public", "metadata", "category")
"""Those of one file; of them uri, path, public, metadata and category mean nothing here."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}


class FileRoutes:
    """`/files`, and `/content` where the bytes are."""

    def __init__(self, options: Options, files: Files) -> None:
        self._options = options
        self._files = files

    def routes(self) -> list[Route]:
        return [
            Route("/files", self.announce, methods=["POST"]),
            Route("/files/{id}", self.get),
            Route("/files/{id}", self.delete, methods=["DELETE"]),
            Route(ADDRESS, self.receive, methods=["PUT"]),
            Route(ADDRESS, self.content),
        ]

    async def announce(self, request: Request) -> Response:
        """Records for files, each with the address where its bytes are to go."""
        caller = allowed(request, "run")
        files = _announced(await json_body(request))
        records = await self._files.announce(files, caller.id, base_url(request, self._options))
        told = [{**self._files.described(r), "upload_url": self._files.upload_url(r)} for r in records]
        for one, file in zip(told, files, strict=True):
            one["size"] = file.size
        return reply_value(request, told)

    async def get(self, request: Request) -> Response:
        return reply_value(request, self._files.described(await self._own(request, "read")))

    async def delete(self, request: Request) -> Response:
        await self._files.delete((await self._own(request, "run")).id)
        return Response(status_code=204)

    async def _own(self, request: Request, scope: str) -> Record:
        caller = allowed(request, scope)
        record = await asyncio.to_thread(self._files.find, request.path_params["id"])
        if not caller.may_see(record.owner):
            raise self._files.missing(record.id)
        return record

    async def receive(self, request: Request) -> Response:
        """Takes the bytes.  Of several uploads to one address the one that is whole last stays."""
        at = request.path_params
        record = await asyncio.to_thread(self._files.opened, at["id"], at["secret"], "write")
        announced = request.headers.get("content-length", "")
        try:
            await self._files.receive(
                record, request.stream(), int(announced) if announced.isdecimal() else 0
            )
        except ClientDisconnect:
            raise HttpProblem("INVALID", "the upload broke off: nothing of it was kept") from None
        return Response(status_code=200)

    async def content(self, request: Request) -> Response:
        """The bytes, or the range of them that is asked for."""
        at = request.path_params
        return _Content(*await asyncio.to_thread(self._files.reading, at["id"], at["secret"]))


class _Content(FileResponse):
    """What is in an open file, which it closes: whatever becomes of its name meanwhile."""

    chunk_size = 512 * 1024

    def __init__(self, record: Record, file: BinaryIO) -> None:
        self._file = file
        super().__init__(
            f"/proc/self/fd/{file.fileno()}",
            headers=_HEADERS,
            media_type=record.content_type,
            filename=record.filename,
            stat_result=os.fstat(file.fileno()),
            content_disposition_type="inline" if may_be_shown(record.content_type) else "attachment",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises HttpProblem, in place of the plain text that would be sent, for ranges that are none."""

        async def checked(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                raise HttpProblem(
                    "BAD_RANGE",
                    f"Range: {quoted(Headers(scope=scope).get('range'), 80)} is refused: the file has "
                    f"{self.headers['content-length']} bytes; give one such as bytes=0-99, or none",
                )
            if message["type"] == "http.response.body":
                self._file.close()  # it is read from a descriptor of starlette's by now
            await send(message)

        with self._file:
            await super().__call__(scope, receive, checked)


def _announced(body: Any) -> list[Announced]:
    files = body.get("files") if isinstance(body, dict) else None
    if not isinstance(files, list) or not 0 < len(files) <= MOST_ANNOUNCED:
        example = '{"files": [{"filename": "a.png", "content_type": "image/png", "size": 1000}]}'
        raise HttpProblem("INVALID", f"expected 1 to {MOST_ANNOUNCED} files, as in {example}")
    return [_one(file, f"files[{n}]") for n, file in enumerate(files)]


def _one(file: Any, where: str) -> Announced:
    if not isinstance(file, dict):
        raise HttpProblem("INVALID", f"{where}: expected an object, got {quoted(file, 60)}")
    for field in file:
        if field not in ANNOUNCED_FIELDS:
            raise HttpProblem("INVALID", f"{where}: {plan.unknown('field', field, ANNOUNCED_FIELDS)}")
    filename, content_type = _text(file, "filename", where), _text(file, "content_type", where)
    if content_type and not is_type(content_type):
        raise HttpProblem(
            "INVALID", f"{where}.content_type: expected one such as image/png, got {quoted(content_type, 80)}"
        )
    size = 0 if file.get("size") is None else file["size"]
    if type(size) is not int or size < 0:
        raise HttpProblem("INVALID", f"{where}.size: expected a number of bytes, got {quoted(size, 60)}")
    return Announced(filename, content_type or type_of(b"", filename), size)


def _text(file: dict[str, Any], field: str, where: str) -> str:
    value = file.get(field)
    if value is not None and not isinstance(value, str):
        raise HttpProblem("INVALID", f"{where}.{field}: expected a text, got {quoted(value, 60)}")
    return value or ""
