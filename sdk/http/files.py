"""What is uploaded, and what outputs hold that JSON cannot.

A file has a record, known here and kept beside its bytes, so that its address outlives the gateway's
process.  It is there until nobody has used it for `file_seconds`; to be the input of a call that has
not ended is to be used (`leases`).

* The loop alone decides what there is: a file is taken out of `_records` before its folder goes, and
  what is done to a folder is done under one lock.  Only new files of outputs are put in by threads.
* An upload comes block by block under a name of its own and is the file when it is whole.  Of several
  to one address the one that is whole last stays.  One that breaks off, or stands still for
  `STALL_SECONDS`, leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from warmd.http.addresses import MARK, Addresses, Purpose
from warmd.http.contents import HEAD_BYTES, safe_name, type_of
from warmd.http.filestore import Record, Sink, Store
from warmd.http.leases import Leases
from warmd.http.moments import moment, now
from warmd.http.options import Options
from warmd.http.problems import HttpProblem
from warmd.http.room import Room, check_count, of_disk
from warmd.protocol.errors import quoted
from warmd.protocol.places import TCP_SCHEME

BLOCK_BYTES = 1024 * 1024
STALL_SECONDS = 60.0
MOST_TIMER_SECONDS = 60.0


class Announced(NamedTuple):
    """A file that is to be uploaded."""

    filename: str
    content_type: str
    size: int


class Content(NamedTuple):
    """What a file of an output is made of."""

    write: Callable[[BinaryIO], object]
    filename: str
    """Empty for one that is named after its type."""
    content_type: str | None
    """None if its name, or its first bytes, tell."""


class Files:
    """The files of one gateway, in one folder.  `open` comes before all else.

    `live()` tells the ids of the daemon's detached calls that have not ended; it may raise WarmdError.
    `daemon_address` tells whether its workers open files of this machine.
    """

    def __init__(
        self,
        folder: Path,
        options: Options,
        live: Callable[[], Awaitable[set[str]]],
        daemon_address: str = "",
    ) -> None:
        self._seconds = options.file_seconds
        self._room = Room(options.max_file_bytes, options.files_max_bytes)
        self._store = Store(folder / "files")
        self._addresses = Addresses(b"")
        self._records: dict[str, Record] = {}
        self._leases = Leases(live)
        self.far = daemon_address if daemon_address.startswith(TCP_SCHEME) else ""
        """The daemon's address if it may be on another machine: then a path means nothing to the other."""
        self._touched: set[str] = set()
        self._changing = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take up what is there, and begin to expire it.  Raises OSError."""
        self._addresses = Addresses(await asyncio.to_thread(self._store.open))
        for record in await asyncio.to_thread(self._store.records, self._is_sound):
            self._records[record.id] = record
            self._room.held += record.size or 0
        self._timer = asyncio.create_task(self._expire_again_and_again())

    async def close(self) -> None:
        """What was used lately is written down; the files stay."""
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
            await self._note_uses()

    # uploads

    async def announce(self, files: Sequence[Announced], owner: str, base_url: str) -> list[Record]:
        """Records for files that are yet to come.  Raises HttpProblem when there is no room."""
        for file in files:
            self._room.check_one(file.size, quoted(file.filename, 80))
        self._room.check(sum(file.size for file in files))
        check_count(len(self._records) + len(files))
        records = [self._new(file.filename, file.content_type, owner, base_url) for file in files]
        try:
            for record in records:
                await asyncio.to_thread(self._store.add, record)
        except OSError as error:
            for record in records:
                await asyncio.to_thread(self._store.delete, record.id)
            raise of_disk(error) from None
        self._records.update((record.id, record) for record in records)
        return records

    async def receive(self, record: Record, chunks: AsyncIterator[bytes], announced: int) -> None:
        """The bytes of a file.  Raises HttpProblem, and what the chunks raise."""
        self._room.check(announced)
        sink: Sink | None = None
        try:
            sink = await asyncio.to_thread(self._store.sink, record, self._room.take)
            async with contextlib.aclosing(_blocks(chunks)) as blocks:
                async for block in blocks:
                    await asyncio.to_thread(sink.write, block)
            await self._finish(record, sink)
        except OSError as error:
            raise self.missing(record.id) if record.id not in self._records else of_disk(error) from None
        finally:
            if sink is not None and not sink.is_kept:
                self._room.give(sink.size)
                await asyncio.shield(asyncio.to_thread(sink.discard))

    async def _finish(self, record: Record, sink: Sink) -> None:
        async with self._changing:
            if record.id not in self._records:
                raise self.missing(record.id)
            before = record.size or 0
            record.used = now()
            try:
                await asyncio.to_thread(self._store.finish, record, sink)
            finally:
                if sink.is_kept:
                    self._room.give(before)

    # what there is

    def find(self, id: str) -> Record:
        """Raises HttpProblem for a file that is not, or no more."""
        record = self._records.get(id)
        if record is None or self._has_expired(record):
            raise self.missing(id)
        return record

    def opened(self, id: str, secret: str, purpose: Purpose) -> Record:
        """The file of an address.  Raises HttpProblem, the same for a wrong secret as for no file."""
        if not self._addresses.opens(id, secret, purpose):
            raise self.missing(id)
        return self.find(id)

    def missing(self, id: str) -> HttpProblem:
        """The answer to who asks for a file that is not theirs, or not at all."""
        return HttpProblem(
            "NOT_FOUND",
            f"there is no file {quoted(id, 60)} at this address, or no more: files are kept for "
            f"{self._seconds:g} s after their last use",
        )

    def path(self, record: Record) -> Path:
        return self._store.path(record)

    def told(self, record: Record) -> dict[str, Any]:
        """All that its owner may know."""
        return {
            "id": record.id,
            **self.stand_in(record),
            "created_at": moment(record.created),
            "expires_at": moment(record.used + self._seconds),
        }

    def stand_in(self, record: Record) -> dict[str, Any]:
        """What stands for it in an output: no more, or inference.sh's `File` would not take it."""
        return {
            "uri": self._address(record, "read"),
            "content_type": record.content_type,
            "size": record.size,
            "filename": record.filename,
        }

    def upload_url(self, record: Record) -> str:
        return self._address(record, "write")

    async def delete(self, id: str) -> None:
        """It is gone at once for all who ask."""
        record = self._records.pop(id, None)
        if record is not None:
            async with self._changing:
                self._room.give(record.size or 0)
                await asyncio.to_thread(self._store.delete, id)

    # inputs and outputs

    def in_input(self, value: Any, owner: str) -> Any:
        """The input with the addresses of the owner's uploaded files replaced by their paths.

        Only texts that are an address as a whole are looked at, and only this gateway's own.  The value
        itself where there is none.  The files are kept for `file_seconds` from now, and while a call has
        them (`lend`).  Raises HttpProblem for one that is not the owner's to use.
        """
        texts = _with_mark(value)
        paths = {text: path for text in texts if (path := self._path_of(text, owner)) is not None}
        if not paths:
            return value
        try:
            return _replaced(value, paths)
        except RecursionError:
            raise HttpProblem("INVALID", "the input is nested too deep") from None

    def _path_of(self, text: str, owner: str) -> str | None:
        found = self._addresses.id_in(text)
        if found is None:
            return None
        if self.far:
            raise HttpProblem(
                "INVALID",
                f"input: the file {quoted(text, 300)} is on the gateway's machine, and the daemon is reached "
                f"over TCP ({self.far}), where its path would be another file's or nobody's: put the data "
                "itself into the input, or run the gateway beside the daemon (`warmd serve --http`)",
            )
        id, is_right = found
        record = self._records.get(id)
        if record is None or not is_right or record.owner != owner or self._has_expired(record):
            raise HttpProblem(
                "INVALID",
                f"input: there is no file of yours at {quoted(text, 300)}: it has expired (files are kept "
                f"for {self._seconds:g} s), or it was another key's; upload it again",
            )
        if record.size is None:
            raise HttpProblem(
                "INVALID", f"input: nothing was uploaded yet to {quoted(text, 300)}: PUT it to its upload_url"
            )
        record.used = now()
        self._touched.add(id)
        return str(self._store.path(record))

    def named_in(self, value: Any) -> list[Record]:
        """The files whose addresses are in it, each once, in no order."""
        found = [self._addresses.id_in(text) for text in _with_mark(value)]
        ids = {told[0] for told in found if told is not None and told[1]}
        return [self._records[id] for id in ids if id in self._records]

    async def lend(self, value: Any, call: str) -> None:
        """The files in an input stay until the call, which was given them, has `ended`."""
        records = self.named_in(value)
        self._leases.give(records, call)
        for record in records:
            async with self._changing:
                if record.id in self._records:
                    with contextlib.suppress(OSError):  # it is known here, if not to the next gateway
                        await asyncio.to_thread(self._store.save, record)

    def ended(self, call: str) -> None:
        self._leases.ended(call)

    def keep(self, content: Content, owner: str, base_url: str) -> Record:
        """A file of an output, written in this thread.  Raises HttpProblem when it cannot be kept."""
        check_count(len(self._records) + 1)
        record = self._new(content.filename or "output", content.content_type or "", owner, base_url)
        sink: Sink | None = None

        def admit(size: int) -> None:
            assert sink is not None, "nothing is written before there is somewhere to"
            self._room.check_one(sink.size + size, quoted(content.filename or "of an output", 80))
            self._room.take(size)

        try:
            self._store.add(record)
            sink = self._store.sink(record, admit)
            content.write(sink)  # type: ignore[arg-type]
            self._name(record, content, sink)
            self._store.finish(record, sink)
            self._records[record.id] = record
        except OSError as error:
            raise of_disk(error) from None
        finally:
            if record.id not in self._records:
                if sink is not None:
                    sink.close()
                    self._room.give(sink.size)
                self._store.delete(record.id)
        return record

    def discard(self, record: Record) -> None:
        """A file of an output that nobody was told of."""
        if self._records.pop(record.id, None) is not None:
            self._room.give(record.size or 0)
            self._store.delete(record.id)

    def _name(self, record: Record, content: Content, sink: Sink) -> None:
        """By what was written, where nobody has said what it is."""
        if content.content_type is None:
            with open(sink.path, "rb") as file:
                record.content_type = type_of(file.read(HEAD_BYTES), content.filename)
        record.filename = safe_name(content.filename, record.content_type)

    # in the background

    async def _expire_again_and_again(self) -> None:
        seconds = min(MOST_TIMER_SECONDS, max(0.05, self._seconds / 4))
        while True:
            await asyncio.sleep(seconds)
            due = [record for record in self._records.values() if self._has_expired(record, 2 * seconds)]
            self._touched.update(record.id for record in await self._leases.renew(due))
            await self._note_uses()
            for record in [record for record in self._records.values() if self._has_expired(record)]:
                await self.delete(record.id)

    async def _note_uses(self) -> None:
        for id in tuple(self._touched):
            self._touched.discard(id)
            record = self._records.get(id)
            if record is not None:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._store.touch, record)

    def _is_sound(self, record: Record) -> bool:
        is_kept = bool(record.calls) or not self._has_expired(record)
        return self._addresses.is_ours(record.id) and is_kept

    def _has_expired(self, record: Record, in_seconds: float = 0.0) -> bool:
        return record.used + self._seconds <= now() + in_seconds

    def _new(self, filename: str, content_type: str, owner: str, base_url: str) -> Record:
        name, at = safe_name(filename, content_type), now()
        return Record(self._addresses.new_id(), owner, name, content_type, base_url, at, used=at)

    def _address(self, record: Record, purpose: Purpose) -> str:
        return record.base_url + self._addresses.path(record.id, record.filename, purpose)


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The chunks in blocks that are worth a thread's turn.  Raises HttpProblem when none comes."""
    block = bytearray()
    try:
        while True:
            async with asyncio.timeout(STALL_SECONDS):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            block += chunk
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    except TimeoutError:
        raise HttpProblem(
            "INVALID", f"the upload stood still for {STALL_SECONDS:g} s: send it again"
        ) from None
    if block:
        yield bytes(block)


def _with_mark(value: Any) -> list[str]:
    """All texts in it that may be addresses; in one pass, for most inputs have none."""
    found, left = [], [[value]]
    while left:
        some: Any = left.pop()
        for item in some.values() if type(some) is dict else some:
            kind = type(item)
            if kind is str:
                if MARK in item:
                    found.append(item)
            elif kind is dict or kind is list:
                left.append(item)
    return found


def _replaced(value: Any, paths: dict[str, str]) -> Any:
    kind = type(value)
    if kind is str:
        return paths.get(value, value)
    if kind is list:
        return [_replaced(item, paths) for item in value]
    if kind is dict:
        return {key: _replaced(item, paths) for key, item in value.items()}
    return value
