"""Files on the disk: a folder for each, named by its id, private to the user.

    files/key                   what all addresses are made of
    files/{id}/.record          JSON: whose it is, its name and type; its time is that of the last use
    files/{id}/{filename}       the bytes, once they are whole
    files/{id}/.part-...        while they come

Names of files never begin with a dot.  All of this blocks, and is called in threads.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from warmd.http.addresses import ID, KEY_BYTES

_RECORD = ".record"


@dataclass(slots=True, eq=False)
class Record:
    """What is known about a file."""

    id: str
    owner: str
    filename: str
    content_type: str
    base_url: str
    created: float
    size: int | None = None
    """None until its bytes are here."""
    used: float = 0.0
    """When it was used last; the times are Unix times."""
    calls: list[str] = field(default_factory=list)
    """Those that were given it and may not have ended."""


class Sink(io.RawIOBase):
    """A new file that is written to; `admit(size)` is asked before each write and may raise."""

    def __init__(self, path: Path, admit: Callable[[int], None]) -> None:
        super().__init__()
        self.path = path
        self.size = 0
        self.is_kept = False
        self._admit = admit
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        """All of the data.  Raises OSError, and what `admit` raises."""
        rest = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = len(rest)
        self._admit(size)
        self.size += size
        while len(rest):
            rest = rest[os.write(self._fd, rest) :]
        return size

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()

    def discard(self) -> None:
        """Nothing is left of it."""
        self.close()
        self.path.unlink(missing_ok=True)


class Store:
    """The folder of one gateway.  Methods raise OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> bytes:
        """The key of its addresses, a new one in a new folder."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        path = self.folder / "key"
        with contextlib.suppress(FileNotFoundError):
            key = path.read_bytes()
            if len(key) == KEY_BYTES:
                return key
        key = secrets.token_bytes(KEY_BYTES)
        _replace(path, key)
        return key

    def records(self, is_sound: Callable[[Record], bool]) -> list[Record]:
        """Those of all files here that are sound and whole; what else there is of files goes."""
        found = []
        for path in self.folder.glob("file_*"):
            if not ID.fullmatch(path.name):
                continue
            record = self._read(path)
            if record is not None and is_sound(record):
                found.append(record)
                for part in path.glob(".part-*"):
                    part.unlink(missing_ok=True)
            else:
                self.delete(path.name)
        return found

    def path(self, record: Record) -> Path:
        return self.folder / record.id / record.filename

    def add(self, record: Record) -> None:
        """A folder for a new file."""
        (self.folder / record.id).mkdir(mode=0o700)
        self.save(record)

    def save(self, record: Record) -> None:
        told = asdict(record)
        del told["used"]
        _replace(self.folder / record.id / _RECORD, orjson.dumps(told))
        self.touch(record)

    def touch(self, record: Record) -> None:
        """Write down when it was used."""
        os.utime(self.folder / record.id / _RECORD, (record.used, record.used))

    def sink(self, record: Record, admit: Callable[[int], None]) -> Sink:
        """Where bytes of the file can be written to."""
        return Sink(self.folder / record.id / f".part-{secrets.token_hex(8)}", admit)

    def finish(self, record: Record, sink: Sink) -> None:
        """What was written is the file from now on."""
        sink.close()
        os.replace(sink.path, self.path(record))
        sink.is_kept = True
        record.size = sink.size
        self.save(record)

    def delete(self, id: str) -> None:
        shutil.rmtree(self.folder / id, ignore_errors=True)

    def _read(self, path: Path) -> Record | None:
        try:
            with open(path / _RECORD, "rb") as file:
                record = Record(**orjson.loads(file.read()), used=os.fstat(file.fileno()).st_mtime)
            whole = record.size is None or os.stat(path / record.filename).st_size == record.size
        except (OSError, ValueError, TypeError):
            return None
        return record if whole and record.id == path.name else None


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(f".part-{secrets.token_hex(8)}")
    sink = Sink(new, lambda _size: None)
    try:
        sink.write(data)
        sink.close()
        os.replace(new, path)
    except BaseException:
        sink.discard()
        raise
