"""What is uploaded, and what outputs hold that JSON cannot.

A file has a record beside its bytes (`filestore`), so that its address outlives the gateway's process,
and is the same at all gateways of a daemon.  It is there until nobody has used it for `file_seconds`; to
be the input of a call that has not ended is to be used (`leases`).

* What there is says the disk alone.  Whatever asks it blocks, and is called in threads.
* An upload comes block by block under a name of its own and is the file when it is whole.  Of several
  to one address the one that is whole last stays.  One that breaks off leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from warmd.http.addresses import Addresses, Purpose
from warmd.http.contents import HEAD_BYTES, safe_name, type_of
from warmd.http.filestore import Record, Sink, Store
from warmd.http.inputs import replaced, with_mark
from warmd.http.leases import Leases
from warmd.http.moments import moment, now
from warmd.http.options import Options
from warmd.http.problems import HttpProblem
from warmd.http.room import Room, disk_told, of_disk
from warmd.protocol.errors import quoted
from warmd.protocol.places import TCP_SCHEME

BLOCK_BYTES = 1024 * 1024
MOST_TIMER_SECONDS = 60.0
log = logging.getLogger("warmd.http")


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
        self._leases = Leases(self._store, live)
        self.far = daemon_address if daemon_address.startswith(TCP_SCHEME) else ""
        """The daemon's address if it may be on another machine: then a path means nothing to the other."""
        self._timer: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take up what is there, and begin to expire it.  Raises OSError."""
        self._addresses = Addresses(await self._store.in_thread(self._store.open))
        due = await self._store.in_thread(self._sweep, 0.0)
        await self._store.in_thread(lambda: self._drop([id for id in due if not self._store.calls(id)]))
        self._timer = asyncio.create_task(self._expire_again_and_again())

    async def close(self) -> None:
        """The files stay."""
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        await asyncio.to_thread(self._store.close)

    # uploads

    async def announce(self, files: Sequence[Announced], owner: str, base_url: str) -> list[Record]:
        """Records for files that are yet to come.  Raises HttpProblem when there is no room."""
        for file in files:
            self._room.check_one(file.size, quoted(file.filename, 80))
        self._room.check(sum(file.size for file in files))
        self._room.check_count(len(files))
        records = [self._new(file.filename, file.content_type, owner, base_url) for file in files]
        added = 0
        try:
            for record in records:
                await self._store.in_thread(self._store.add, record)
                added += 1
        except OSError as error:
            for record in records[:added]:
                await self._store.in_thread(self._forget, record)
            raise of_disk(error) from None
        self._room.add(added)
        return records

    async def receive(self, record: Record, chunks: AsyncIterator[bytes], announced: int) -> None:
        """The bytes of a file.  Raises HttpProblem, and what the chunks raise."""
        self._room.check(announced)
        sink: Sink | None = None
        try:
            sink = await self._store.in_thread(self._store.sink, record, self._room.take)
            async with contextlib.aclosing(_blocks(chunks)) as blocks:
                async for block in blocks:
                    await asyncio.to_thread(sink.write, block)
            before = await self._store.in_thread(self._store.finish, record, sink)
            self._room.keep(sink.size, before)
        except FileNotFoundError:
            raise self.missing(record.id) from None
        except OSError as error:
            raise of_disk(error) from None
        finally:
            if sink is not None and not sink.is_kept:
                self._room.give(sink.size)
                await asyncio.shield(asyncio.to_thread(sink.discard))

    # what there is

    def find(self, id: str) -> Record:
        """Raises HttpProblem for a file that is not, or no more.  Blocks."""
        record = self._found(id)
        if record is None:
            raise self.missing(id)
        return record

    def opened(self, id: str, secret: str, purpose: Purpose) -> Record:
        """The file of an address.  Raises HttpProblem, the same for a wrong secret as for none.  Blocks."""
        if not self._addresses.opens(id, secret, purpose):
            raise self.missing(id)
        return self.find(id)

    def reading(self, id: str, secret: str) -> tuple[Record, BinaryIO]:
        """The file of an address, and its bytes as they are now.  As `opened`."""
        record = self.opened(id, secret, "read")
        try:
            with disk_told():
                return record, open(self._store.path(record), "rb")
        except FileNotFoundError:
            raise self.missing(id) from None

    def _found(self, id: str) -> Record | None:
        with disk_told():
            record = self._store.read(id)
        return None if record is None or self._has_expired(record) else record

    def missing(self, id: str) -> HttpProblem:
        """The answer to who asks for a file that is not theirs, or not at all."""
        return HttpProblem(
            "NOT_FOUND",
            f"there is no file {quoted(id, 60)} at this address, or no more: files are kept for "
            f"{self._seconds:g} s after their last use",
        )

    def path(self, record: Record) -> Path:
        return self._store.path(record)

    def described(self, record: Record) -> dict[str, Any]:
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
        """It is gone at once for all who ask.  Raises HttpProblem when it cannot be."""
        with disk_told():
            await self._store.in_thread(self._drop, [id], False)

    def _drop(self, ids: Sequence[str], expired: bool = True) -> None:
        for id in ids:
            gone = self._store.delete(id, now() - self._seconds if expired else None)
            if gone is not None:
                self._room.add(-1, -(gone.size or 0))

    # inputs and outputs

    async def in_input(self, value: Any, owner: str) -> Any:
        """The input with the addresses of the owner's uploaded files replaced by their paths.

        Only texts that are an address as a whole are looked at, and only this gateway's own.  The value
        itself where there is none.  The files are kept for `file_seconds` from now, and while a call has
        them (`lend`).  Raises HttpProblem for one that is not the owner's to use.
        """
        texts = with_mark(value)
        paths = await self._store.in_thread(self._paths_of, texts, owner) if texts else None
        if not paths:
            return value
        try:
            return replaced(value, paths)
        except RecursionError:
            raise HttpProblem("INVALID", "the input is nested too deep") from None

    def _paths_of(self, texts: Sequence[str], owner: str) -> dict[str, str]:
        found = ((text, self._path_of(text, owner)) for text in dict.fromkeys(texts))
        return {text: path for text, path in found if path is not None}

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
        record = self._found(id)
        if record is None or not is_right or record.owner != owner:
            raise self._not_yours(text)
        if record.size is None:
            raise HttpProblem(
                "INVALID", f"input: nothing was uploaded yet to {quoted(text, 300)}: PUT it to its upload_url"
            )
        try:
            self._store.touch(id)
        except FileNotFoundError:
            raise self._not_yours(text) from None
        except OSError as error:
            raise of_disk(error) from None
        return str(self._store.path(record))

    def _not_yours(self, text: str) -> HttpProblem:
        return HttpProblem(
            "INVALID",
            f"input: there is no file of yours at {quoted(text, 300)}: it has expired (files are kept "
            f"for {self._seconds:g} s), or it was another key's; upload it again",
        )

    async def named_in(self, value: Any) -> list[Record]:
        """The files whose addresses are in it, each once, in no order."""
        found = [self._addresses.id_in(text) for text in with_mark(value)]
        ids = {told[0] for told in found if told is not None and told[1]}
        if not ids:
            return []
        return await asyncio.to_thread(lambda: [one for id in ids if (one := self._found(id)) is not None])

    async def lend(self, value: Any, call: str) -> None:
        """The files in an input stay until the call, which was given them, has `ended`."""
        try:
            await self._leases.give(await self.named_in(value), call)
        except (OSError, HttpProblem) as error:
            log.warning("the files of call %s stay %g s at least: %s", call, self._seconds, error)

    async def ended(self, call: str) -> None:
        try:
            await self._leases.ended(call)
        except OSError as error:
            log.warning("the files of call %s stay until the daemon was asked for it: %s", call, error)

    def keep(self, content: Content, owner: str, base_url: str, of: str = "") -> tuple[Record, bool]:
        """A file of an output, written in this thread; and whether it is new.

        `of` says which it is: what another gateway has kept of the same is not written again.  Raises
        HttpProblem when it cannot be kept.
        """
        record = self._new(content.filename or "output", content.content_type or "", owner, base_url, of)
        sink: Sink | None = None
        is_new = False

        def admit(size: int) -> None:
            assert sink is not None, "nothing is written before there is somewhere to"
            self._room.check_one(sink.size + size, quoted(content.filename or "of an output", 80))
            self._room.take(size)

        try:
            if of and (kept := self._kept(record.id)) is not None:
                return kept, False
            self._room.check_count(1)
            is_new = self._store.add(record)
            sink = self._store.sink(record, admit)
            content.write(sink)  # type: ignore[arg-type]
            self._name(record, content, sink)
            self._room.keep(sink.size, self._store.finish(record, sink))
            self._room.add(int(is_new))
        except OSError as error:
            raise of_disk(error) from None
        finally:
            if sink is not None and not sink.is_kept:
                self._room.give(sink.size)
                sink.discard()
            if is_new and (sink is None or not sink.is_kept):
                self._forget(record)
        return record, is_new

    def _kept(self, id: str) -> Record | None:
        record = self._found(id)
        try:
            if record is not None:
                self._store.touch(id)
        except FileNotFoundError:
            return None
        return None if record is None or record.size is None else record

    def _forget(self, record: Record) -> None:
        """One that was not counted yet; where it cannot go now it expires."""
        with contextlib.suppress(OSError):
            self._store.delete(record.id)

    async def are_used(self, ids: Sequence[str]) -> bool:
        """They are used now; False where one of them is gone."""
        try:
            for id in ids:
                await self._store.in_thread(self._store.touch, id)
        except FileNotFoundError:
            return False
        except OSError as error:
            log.warning("the files of an output expire early: %s", error)
        return True

    def discard(self, record: Record) -> None:
        """A file that nobody was told of; where it cannot go now it expires."""
        with contextlib.suppress(OSError):
            self._drop([record.id], expired=False)

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
            try:
                due = await self._store.in_thread(self._sweep, 2 * seconds)
                kept = await self._leases.renew(due)
                await self._store.in_thread(self._drop, [id for id in due if id not in kept])
            except OSError as error:
                log.warning("files cannot be expired: %s", error)

    def _sweep(self, in_seconds: float) -> list[str]:
        """Count what there is; the files that will have expired by then."""
        before, due, files, size = self._room.counting(), [], 0, 0
        for record in self._store.sweep(self._addresses.is_ours):
            files, size = files + 1, size + (record.size or 0)
            if self._has_expired(record, in_seconds):
                due.append(record.id)
        self._room.counted(files, size, before)
        return due

    def _has_expired(self, record: Record, in_seconds: float = 0.0) -> bool:
        return record.used + self._seconds <= now() + in_seconds

    def _new(self, filename: str, content_type: str, owner: str, base_url: str, of: str = "") -> Record:
        name, at = safe_name(filename, content_type), now()
        return Record(self._addresses.new_id(of), owner, name, content_type, base_url, at, used=at)

    def _address(self, record: Record, purpose: Purpose) -> str:
        return record.base_url + self._addresses.path(record.id, record.filename, purpose)


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The chunks in blocks that are worth a thread's turn."""
    block = bytearray()
    async for chunk in chunks:
        block += chunk
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)
