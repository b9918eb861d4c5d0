"""What apps give, as JSON with the files that it names.

Most outputs are plain, and written as JSON at once.  One that is not is written in a thread: there its
files are kept first (`outfiles`), and then the JSON that names them (`plainjson`).

Several may follow one run, and each part of it is told to all of them: so what a part became is
remembered by the part's number, or each reader, and the end, would be given copies of their own.  And
the ids of files are made of the call, the part and the file's place in it, so that other gateways, and
those that come after this one, tell the same files.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from warmd.http.files import Files
from warmd.http.filestore import Record
from warmd.http.outfiles import content_of
from warmd.http.plainjson import dumped, plain
from warmd.http.problems import HttpProblem
from warmd.http.task import Facts
from warmd.protocol.files import File

MOST_PARTS = 1024
MOST_PARTS_BYTES = 16 * 1024 * 1024
"""So much is remembered of parts with files."""

THREADS = 4
"""Of its own: what is written may wait long for the files' lock, or a disk."""

Part = tuple[str, int]
_END = -1
"""The number of what is no part, and told once."""


class Written(NamedTuple):
    json: bytes
    files: tuple[str, ...]
    """The ids of those that it names."""


class Outputs:
    """Encodes values; the files among them are written before the JSON that names them goes out."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._parts: OrderedDict[Part, asyncio.Future[Written]] = OrderedDict()
        self._bytes = 0
        self._threads = ThreadPoolExecutor(THREADS, "warmd-outputs")
        self._writing: set[asyncio.Future[Written]] = set()

    async def encoded(self, value: Any, facts: Facts, part: Part | None = None) -> bytes:
        """The value as JSON; `part` is the call and number of one that may be told several times.

        Raises HttpProblem for what cannot be told, or kept.
        """
        try:
            return dumped(value)
        except TypeError:
            pass  # it is not plain, or too deep
        if part is not None:
            await self._use_again(part)
        # A reader that leaves does not take the part from the others.
        return (await asyncio.shield(self._written(value, facts, part))).json

    async def _use_again(self, part: Part) -> None:
        """A part that is told again keeps its files, and is forgotten where these are gone."""
        writing = self._parts.get(part)
        if writing is None or not _size(writing) or await self._files.are_used(writing.result().files):
            return
        if self._parts.get(part) is writing:
            del self._parts[part]
            self._bytes -= _size(writing)

    async def encoded_end(
        self, value: Any, facts: Facts, call: str, parts: Callable[[], Awaitable[int]]
    ) -> bytes:
        """What a call ended with, as `encoded`.  A generator's is the last of its parts again, of which
        there are `parts`: that is not kept twice, unless the part's files are gone."""
        try:
            return dumped(value)
        except TypeError:
            count = await parts()
        return await self.encoded(value, facts, (call, count - 1 if count else _END))

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writing, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    def _written(self, value: Any, facts: Facts, part: Part | None) -> asyncio.Future[Written]:
        if part is not None and part in self._parts:
            self._parts.move_to_end(part)
            return self._parts[part]
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(self._threads, self._write, value, facts, part)
        self._writing.add(writing)
        writing.add_done_callback(self._is_written)
        if part is not None and part[1] != _END:
            self._parts[part] = writing
            writing.add_done_callback(partial(self._remember, part))
        return writing

    def _is_written(self, writing: asyncio.Future[Written]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # seen, also where nobody waits any more

    def _remember(self, part: Part, writing: asyncio.Future[Written]) -> None:
        if self._parts.get(part) is not writing:
            return  # there were too many
        if not _size(writing):
            del self._parts[part]  # it failed; the next reader tries again
        self._bytes += _size(writing)
        while len(self._parts) > MOST_PARTS or (self._bytes > MOST_PARTS_BYTES and len(self._parts) > 1):
            _, oldest = self._parts.popitem(last=False)
            self._bytes -= _size(oldest)

    def _write(self, value: Any, facts: Facts, part: Part | None) -> Written:
        kept: list[Record] = []
        new: list[Record] = []

        def file_of(one: Any) -> dict[str, Any] | None:
            if isinstance(one, File) and self._files.far:
                raise TypeError(
                    f"it holds a warmd.File, which is on the daemon's machine ({self._files.far}), out of "
                    "the gateway's reach: return its bytes, or run the gateway there (`warmd serve --http`)"
                )
            content = content_of(one)
            if content is None:
                return None
            of = "" if part is None else f"{part[0]} {part[1]} {len(kept)}"
            record, is_new = self._files.keep(content, facts.owner, facts.base_url, of)
            kept.append(record)
            if is_new:
                new.append(record)
            return self._files.stand_in(record)

        try:
            return Written(dumped(plain(value, file_of)), tuple(record.id for record in kept))
        except BaseException as error:
            for record in new:
                self._files.discard(record)
            if isinstance(error, TypeError | ValueError | RecursionError):
                raise HttpProblem("INVALID", f"the output cannot be told as JSON: {error}") from None
            raise


def _size(writing: asyncio.Future[Written]) -> int:
    """Of what was written; 0 before that, and when it failed."""
    failed = not writing.done() or writing.cancelled() or writing.exception() is not None
    return 0 if failed else len(writing.result().json)
