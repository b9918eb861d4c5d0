"""Files on the disk: a folder for each, named by its id, private to the user.

    files/key                   what all addresses are made of
    files/lock                  held for moments by whoever changes what others look at
    files/{id}/.record          JSON: whose it is, its name, type and size; its time is that of the last use
    files/{id}/{filename}       the bytes, once they are whole
    files/{id}/.call-{call}     for a call that was given the file, until it is known to have ended
    files/{id}/.part-...        bytes while they come, locked by the process that writes them
    files/.gone-...             what is being deleted

Several gateways may share the folder, and each may die at any time: so what there is of a file is only
here, and none keeps it in mind.  What a dead one has left of an upload is told from what a living one
writes by its lock, which the kernel takes back.

One name cannot be changed together with another.  So before other bytes take the place of a file's, its
record says both sizes, and which of them is true is told by the bytes: whoever dies in between leaves one
whole version or the other.

Names of files never begin with a dot.  All of this blocks, and is called in threads: what waits for the
lock in some of its own (`in_thread`), for its holder may be stopped, and must not hold up all else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import io
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from warmd.http.addresses import ID, KEY_BYTES
from warmd.http.moments import now
from warmd.locks import lock

LOCK_SECONDS = 10.0
THREADS = 8
_RECORD = ".record"
_PART = ".part-"
_CALL = ".call-"
_GONE = ".gone-"
T = TypeVar("T")
log = logging.getLogger("warmd.http")


@dataclass(slots=True, eq=False)
class Record:
    """What is known about a file, at the time of looking."""

    id: str
    owner: str
    filename: str
    content_type: str
    base_url: str
    created: float
    size: int | None = None
    """None until its bytes are here."""
    coming: int | None = None
    """The size of what is about to take the place of its bytes."""
    used: float = 0.0
    """When it was used last; the times are Unix times."""


class Sink(io.RawIOBase):
    """A new file that is written to; `admit(size)` is asked before each write and may raise."""

    def __init__(self, path: Path, admit: Callable[[int], None]) -> None:
        super().__init__()
        self.path = path
        self.size = 0
        self.is_kept = False
        self._admit = admit
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

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
    """The folder.  Methods raise OSError: FileNotFoundError for a file that is not, or no more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._turn = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "warmd-files")

    def open(self) -> bytes:
        """The key of its addresses, a new one in a new folder."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        path = self.folder / "key"
        with self._changing():
            with contextlib.suppress(FileNotFoundError):
                key = path.read_bytes()
                if len(key) == KEY_BYTES:
                    return key
            key = secrets.token_bytes(KEY_BYTES)
            os.replace(_written(path, key), path)
            return key

    def close(self) -> None:
        """Wait for what still runs `in_thread`."""
        self._threads.shutdown()

    async def in_thread(self, change: Callable[..., T], *args: Any) -> T:
        """What the change returns; it may wait for the lock.

        Raises what it raises, and TimeoutError when all threads wait for the lock too long.
        """
        asked = time.monotonic()

        def called() -> T:
            if time.monotonic() > asked + LOCK_SECONDS / 2:  # others have waited in vain
                raise _locked()
            return change(*args)

        return await asyncio.get_running_loop().run_in_executor(self._threads, called)

    def read(self, id: str) -> Record | None:
        """None for a file that is not, or no more.  Raises OSError where the disk does not tell."""
        if not ID.fullmatch(id):
            return None
        try:
            with open(self.folder / id / _RECORD, "rb") as file:
                told = orjson.loads(file.read())
                record = Record(**told, used=os.fstat(file.fileno()).st_mtime)
            if record.coming is not None and record.coming == self.path(record).stat().st_size:
                record.size = record.coming
            record.coming = None
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None
        return record if record.id == id else None

    def path(self, record: Record) -> Path:
        return self.folder / record.id / record.filename

    def add(self, record: Record) -> bool:
        """A folder for a new file; False where there is that file already."""
        folder = self.folder / record.id
        with self._changing():
            if self.read(record.id) is not None:
                return False
            folder.mkdir(mode=0o700, exist_ok=True)
            try:
                os.replace(_noted(folder, record), folder / _RECORD)
            except OSError:
                with contextlib.suppress(OSError):  # there is more in it: it is left to the sweep
                    folder.rmdir()
                raise
            return True

    def touch(self, id: str) -> None:
        """It is used now."""
        with self._changing():
            self._use(id)

    def _use(self, id: str) -> None:
        at = now()
        os.utime(self.folder / id / _RECORD, (at, at))

    def sink(self, record: Record, admit: Callable[[int], None]) -> Sink:
        """Where bytes of the file can be written to; to write them is to use it."""
        with self._changing():
            self._use(record.id)
            return Sink(_part(self.folder / record.id), admit)

    def finish(self, record: Record, sink: Sink) -> int:
        """What was written is the file from now on; how many bytes it had before."""
        folder = self.folder / record.id
        with self._changing():
            before = self.read(record.id)
            if before is None:
                raise FileNotFoundError(errno.ENOENT, "it was deleted")
            record.size, record.used = sink.size, now()
            note = _noted(folder, record)  # first, for this may fail
            if before.size is not None:
                before.coming = sink.size
                os.replace(_noted(folder, before), folder / _RECORD)
            os.replace(sink.path, self.path(record))
            os.replace(note, folder / _RECORD)
            sink.is_kept = True
            sink.close()
            return before.size or 0

    def delete(self, id: str, unused_since: float | None = None) -> Record | None:
        """What was there and is no more; nothing goes that was used after `unused_since`."""
        with self._changing():
            record = self.read(id)
            if record is None or (unused_since is not None and record.used > unused_since):
                return None
            gone = self._taken(id)
        shutil.rmtree(gone, ignore_errors=True)
        return record

    # calls that have files

    def lend(self, id: str, call: str) -> None:
        """Note that the call has it."""
        os.close(os.open(self.folder / id / f"{_CALL}{call}", os.O_CREAT | os.O_CLOEXEC, 0o600))

    def give_back(self, id: str, call: str) -> None:
        (self.folder / id / f"{_CALL}{call}").unlink(missing_ok=True)

    def calls(self, id: str) -> list[str]:
        """Those that were given it and may not have ended."""
        try:
            names = os.listdir(self.folder / id)
        except FileNotFoundError:
            return []
        return [name.removeprefix(_CALL) for name in names if name.startswith(_CALL)]

    # what is left over

    def sweep(self, is_ours: Callable[[str], bool]) -> Iterator[Record]:
        """All files that are sound, one after another.  What else there is of files goes, and what dead
        gateways have left.  What cannot be looked at (there may be no descriptor left) stays as it is."""
        for name in os.listdir(self.folder):
            if name.startswith(_GONE):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            elif ID.fullmatch(name):
                try:
                    record = self._swept(name, is_ours)
                except TimeoutError:
                    raise  # or each would wait
                except OSError as error:
                    log.warning("the file %s cannot be looked at: %s", name, error)
                else:
                    if record is not None:
                        yield record

    def _swept(self, id: str, is_ours: Callable[[str], bool]) -> Record | None:
        record = self._sound(id)
        if record is None or not is_ours(id):
            self._drop(id, is_ours)
            return None
        if self._is_coming(id):
            record.used = now()
        return record

    def _sound(self, id: str) -> Record | None:
        record = self.read(id)
        if record is None or record.size is None:
            return record
        try:
            whole = os.stat(self.path(record)).st_size == record.size
        except FileNotFoundError:
            return None
        return record if whole else None

    def _drop(self, id: str, is_ours: Callable[[str], bool]) -> None:
        with self._changing():  # another may have been about to change it
            if self._sound(id) is not None and is_ours(id):
                return
            try:
                gone = self._taken(id)
            except FileNotFoundError:
                return  # by another
        shutil.rmtree(gone, ignore_errors=True)

    def _is_coming(self, id: str) -> bool:
        """Whether somebody writes it, which is a use of it.  Parts that nobody writes any more go."""
        folder = self.folder / id
        if not any(folder.glob(f"{_PART}*")):
            return False
        written = False
        with self._changing():  # what is being made may not be locked yet
            for path in folder.glob(f"{_PART}*"):
                with contextlib.suppress(FileNotFoundError), open(path, "r+b") as part:
                    try:
                        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()
                    except BlockingIOError:
                        written = True
            if written:
                self._use(id)
        return written

    def _taken(self, id: str) -> Path:
        gone = self.folder / f"{_GONE}{secrets.token_hex(8)}"
        os.rename(self.folder / id, gone)
        return gone

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """One at a time of all threads of all gateways.  Raises TimeoutError when another does not end."""
        until = time.monotonic() + LOCK_SECONDS
        with contextlib.ExitStack() as held:
            if not self._turn.acquire(timeout=LOCK_SECONDS):
                raise _locked()
            held.callback(self._turn.release)
            path = self.folder / "lock"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, descriptor)
            try:
                lock(descriptor, until - time.monotonic())
            except TimeoutError:
                raise _locked() from None
            yield


def _locked() -> TimeoutError:
    return TimeoutError(
        f"another gateway of this daemon has held files/lock for {LOCK_SECONDS:g} s: if it is stopped, "
        "let it go on (kill -CONT), or end it (kill -KILL)"
    )


def _part(folder: Path) -> Path:
    return folder / f"{_PART}{secrets.token_hex(8)}"


def _noted(folder: Path, record: Record) -> Path:
    """The record, as a file that is to take its place."""
    told = {name: value for name, value in asdict(record).items() if name != "used"}
    if record.coming is None:
        del told["coming"]  # earlier gateways do not know it
    path = _written(folder / _RECORD, orjson.dumps(told))
    os.utime(path, (record.used, record.used))
    return path


def _written(path: Path, data: bytes) -> Path:
    """A new file beside the path."""
    sink = Sink(_part(path.parent), lambda _size: None)
    try:
        sink.write(data)
        sink.close()
    except BaseException:
        sink.discard()
        raise
    return sink.path
