"""The logs of sessions: one append-only file each, which the session's process writes itself.

The daemon never stands between an app and its output: it watches the files grow, keeps each under
its cap, and hands new lines to those who follow.

The cap works on the file itself (`logfile.halve`), since the writers hold it open; a line at its top
says that older ones are gone.  That can take milliseconds per megabyte, so it is done on a helper
thread; until it is done the file is read by nobody.

Who reads (`logreaders`) is served a chunk at a time, each in turn, for a few milliseconds of each
turn of the loop.  Nothing here raises on a failing disk: `errors` counts, the call goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from warmd.daemon import descriptors
from warmd.daemon.inotify import GrowthWatch
from warmd.daemon.logfile import Cut, cleaned, halve, last_words, read_end
from warmd.daemon.logreaders import Follower, Log
from warmd.daemon.worker.output import REPEATED_BYTES

TAIL_READ_BYTES = 16 * 1024
SERVE_SECONDS = 0.005
"""Of one turn of the loop, for all who read logs."""

MOST_SHARED = 10_000
_SESSION_ID = re.compile(r"(?:sess|pool|tmpl|desc)_[0-9a-f]{32}")


InThread = Callable[[Callable[[], Cut], Callable[[Cut | BaseException], None]], object]


def _at_once(work: Callable[[], Cut], done: Callable[[Cut | BaseException], None]) -> None:
    try:
        result: Cut | BaseException = work()
    except OSError as error:
        result = error
    done(result)


class SessionLogs:
    """All session logs of one daemon.  Used by the loop's thread alone."""

    def __init__(self, folder: Path, max_bytes: int, keep: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.keep = keep
        self.errors = 0
        """Failures of the file system that cost log lines and nothing else."""
        self.last_error = ""
        self.in_thread: InThread = _at_once
        """Set by the server: a cut must not hold its loop."""
        self._logs: dict[str, Log] = {}
        self._past: set[Log] = set()
        """Those of sessions that are gone, while somebody reads them."""
        self._ready: dict[Follower, None] = {}
        """Those that there may be something to do for, in the order of their turns."""
        self._shared: dict[str, str] = {}
        """Sessions without a log of their own, and whose is told for them."""
        self._sharing: list[tuple[str, Follower]] = []
        """Who reads such a log, and for which session."""
        self._by_watch: dict[int, Log] = {}
        self._growing: set[Log] = set()
        """They grew at the last look, and are looked at again at the next tick."""
        self._watch = GrowthWatch.open()
        with self._counted():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ended = deque(self._found())
        self._prune()

    @property
    def inotify_fd(self) -> int:
        """Polled by the loop, level-triggered, which calls `readable()`; -1 where there is none."""
        return self._watch.fd if self._watch else -1

    def path(self, session: str) -> str:
        """Raises ValueError for what is no session's id: it must not lead out of the folder."""
        if not _SESSION_ID.fullmatch(session):
            raise ValueError(f"{session!r} is not the id of a session")
        return str(self.folder / f"{session}.log")

    def open_session(self, session: str) -> str:
        """Creates and watches the session's file; its path, also when that failed."""
        path = self.path(session)
        if path in self._ended:
            # Workers of the shared pool have the same ids after each start of the daemon.
            self._ended.remove(path)
            with self._counted(), contextlib.suppress(FileNotFoundError):
                self._unlink(path)
        with self._counted():
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._logs[session] = log = self._opened(path, flags)
            self._look(log)
            self._rewatch(log)
            self._move_readers(session, log)
        self._shared.pop(session, None)
        return path

    def share(self, session: str, owner: str) -> None:
        """What `owner` writes is told for `session` too, until that has a log of its own."""
        self._shared[session] = owner
        if len(self._shared) > MOST_SHARED:
            del self._shared[next(iter(self._shared))]

    def _move_readers(self, session: str, log: Log) -> None:
        readers = [follower for name, follower in self._sharing if name == session]
        self._sharing = [one for one in self._sharing if one[0] != session and not one[1].closed]
        for follower in readers:
            if not follower.closed and follower.goes_on:
                follower.move(log, REPEATED_BYTES)

    def close_session(self, session: str) -> None:
        """The session's processes are gone: readers get the rest, and old files go."""
        log = self._logs.pop(session, None)
        if log is not None:
            self._unwatch(log)
            with self._counted():
                self._look(log)
            log.open = False
            self._past.add(log)
            log.feed()
            log.release()
        self._ended.append(self.path(session))
        self._prune()

    def tail(self, session: str) -> str:
        """What it says last (`logfile.last_words`), cleaned of what would disturb a terminal."""
        with self._counted():
            fd = os.open(self.path(session), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                size, data = read_end(fd, TAIL_READ_BYTES)
            finally:
                os.close(fd)
            if size > TAIL_READ_BYTES:
                data = data[data.find(b"\n") + 1 :]
            return last_words(cleaned(data))
        return ""

    def follow(
        self,
        session: str,
        tail_lines: int | None,
        follow: bool,
        deliver: Callable[[bytes], None],
        done: Callable[[OSError | None], None],
    ) -> Follower:
        """A reader of the log from its last `tail_lines` lines on (None: all), without credit yet.

        With `follow` it goes on until the session is gone.  Raises FileNotFoundError when nothing
        is kept of that session, and OSError (EMFILE) when it cannot be opened for now.
        """
        owner = self._shared.get(session, session)
        log = self._logs.get(owner) or self._of_the_past(self.path(owner))
        with self._counted():
            self._look(log)
        follower = Follower(log, tail_lines, follow, deliver, done)
        log.followers.append(follower)
        if owner != session:
            self._sharing.append((session, follower))
        self.wake(follower)
        return follower

    def wake(self, follower: Follower) -> None:
        """There may be something to do for it."""
        self._ready[follower] = None

    def serve(self, seconds: float = SERVE_SECONDS) -> bool:
        """Give those who read logs what they may have, for so long; whether there was anything to do."""
        until = time.monotonic() + seconds
        served = False
        while self._ready and not (served and time.monotonic() > until):
            follower = next(iter(self._ready))
            del self._ready[follower]
            if follower.serve():
                self.wake(follower)
            served = True
        return served

    def readable(self) -> None:
        """To be called when `inotify_fd` is readable."""
        if self._watch is None:
            return
        watches, overflowed = self._watch.fired()
        for watch in watches:
            if log := self._by_watch.pop(watch, None):
                log.watch = None
                self._growing.add(log)
        for log in [*(self._logs.values() if overflowed else self._growing)]:
            self._attend(log)
        self._watch.tick(bool(self._growing))

    def close(self) -> None:
        """The files stay.  Who still reads is told nothing more."""
        for session in [*self._logs]:
            self.close_session(session)
        for follower in [follower for log in self._past for follower in log.followers]:
            follower.close()
        if self._watch:
            self._watch.close()
            self._watch = None

    def _attend(self, log: Log) -> None:
        with self._counted():
            before = log.end
            self._look(log)
            if log.end == before:
                self._growing.discard(log)
                self._rewatch(log)
        log.feed()

    def _look(self, log: Log) -> None:
        log.look()
        if log.cutting or log.size <= max(self.max_bytes, log.cut_from):
            return
        log.cutting = True
        fd, size, max_bytes = log.fd, log.size, self.max_bytes
        self.in_thread(lambda: halve(fd, size, max_bytes), lambda cut: self._cut(log, cut))

    def _cut(self, log: Log, cut: Cut | BaseException) -> None:
        log.cutting = False
        with self._counted():
            if isinstance(cut, BaseException):
                log.cut_from = log.size + self.max_bytes
                raise cut
            log.cut_from = 0
            log.moved(cut)
        log.feed()
        log.release()

    def _rewatch(self, log: Log) -> None:
        if self._watch is None or log.watch is not None:
            return
        log.watch = self._watch.add(log.path)
        self._by_watch[log.watch] = log
        # What came between the last look and the new watch fires nothing.
        self._look(log)

    def _unwatch(self, log: Log) -> None:
        self._growing.discard(log)
        if self._watch and log.watch is not None:
            self._watch.remove(log.watch)
            self._by_watch.pop(log.watch, None)
            log.watch = None

    def _opened(self, path: str, flags: int) -> Log:
        return Log(path, os.open(path, flags, 0o600), self.wake, self._past.discard)

    def _of_the_past(self, path: str) -> Log:
        for log in self._past:
            if log.path == path:
                return log
        descriptors.check()
        log = self._opened(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        log.open = False
        self._past.add(log)
        return log

    def _unlink(self, path: str) -> None:
        """Raises OSError.  Who reads the file may go on."""
        for log in self._past:
            if log.path == path:
                log.path = ""
        os.unlink(path)

    def _found(self) -> list[str]:
        with self._counted(), os.scandir(self.folder) as entries:
            logs = [entry for entry in entries if _SESSION_ID.fullmatch(entry.name.removesuffix(".log"))]
            return [entry.path for entry in sorted(logs, key=lambda entry: entry.stat().st_mtime)]
        return []

    def _prune(self) -> None:
        while len(self._ended) > self.keep:
            with self._counted(), contextlib.suppress(FileNotFoundError):
                self._unlink(self._ended.popleft())

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.errors += 1
            self.last_error = str(error)
