"""The logs of sessions: one append-only file each, which the session's process writes itself.

The daemon never stands between an app and its output: it watches the files grow, keeps each under
its cap, and hands new lines to those who follow.

The cap works on the file itself (`logfile.halve`), since the writers hold it open; a line at its top
says that older ones are gone.  That can take milliseconds per megabyte, so it is done on a helper
thread; until it is done the file is read by nobody.

Followers count in bytes ever written, not in places of the file: `base` is the difference, and
grows with each cut.  Nothing here raises on a failing disk: `errors` counts, the call goes on.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from warmd.daemon.inotify import GrowthWatch
from warmd.daemon.logfile import CHUNK_BYTES, Cut, cleaned, halve, last_words, lines_from_end, read_at

TAIL_READ_BYTES = 16 * 1024

_SESSION_ID = re.compile(r"(?:sess|pool)_[0-9a-f]{32}")


InThread = Callable[[Callable[[], Cut], Callable[[Cut | BaseException], None]], object]


def _at_once(work: Callable[[], Cut], done: Callable[[Cut | BaseException], None]) -> None:
    try:
        result: Cut | BaseException = work()
    except OSError as error:
        result = error
    done(result)


class _Log:
    """One file.  `base` + a place in the file = bytes ever written up to there."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.base = 0
        self.size = 0
        self.watch: int | None = None
        self.followers: list[Follower] = []
        self.open = True
        """Its session is alive, so that more may come."""
        self.cutting = False
        self.cut_from = 0
        """After a cut that failed: no other before the file has grown to this."""

    @property
    def end(self) -> int:
        return self.base + self.size

    def look(self) -> None:
        """Takes in what happened to the file.  Raises OSError."""
        if self.cutting:
            return
        size = os.fstat(self.fd).st_size
        if size < self.size:
            # Someone else emptied the file: what is there now came after what was there before.
            self.base += self.size
        self.size = size

    def moved(self, cut: Cut) -> None:
        """The file has been cut."""
        self.base += cut.by
        self.size = os.fstat(self.fd).st_size
        for follower in self.followers:
            follower.catch_up(self.base + cut.begin)

    def release(self) -> None:
        """Gives the descriptor back once nobody needs it."""
        if not (self.open or self.followers or self.cutting or self.fd < 0):
            os.close(self.fd)
            self.fd = -1


class Follower:
    """One reader of a log: chunks go to `deliver` as far as `credit` reaches, then `done` is called."""

    def __init__(
        self,
        log: _Log,
        position: int,
        follow: bool,
        deliver: Callable[[bytes], None],
        done: Callable[[], None],
    ) -> None:
        self._log = log
        self._position = position
        self._last = None if follow else log.end
        self._deliver = deliver
        self._done = done
        self._credit = 0
        self._paused = False
        self.closed = False

    def add_credit(self, chunks: int) -> None:
        """Room for `chunks` more; delivers what is there."""
        self._credit += chunks
        self.advance()

    def pause(self, paused: bool) -> None:
        """Its reader takes nothing for now."""
        self._paused = paused
        self.advance()

    def advance(self) -> None:
        """Delivers what is there and allowed; ends when there can be no more."""
        while not (self.closed or self._paused) and self._credit > 0 and (chunk := self._next()):
            self._credit -= 1
            self._deliver(chunk)
        if not self.closed and self._finished():
            self.close()
            self._done()

    def close(self) -> None:
        """Nothing is delivered any more, and `done` is not called."""
        if not self.closed:
            self.closed = True
            self._log.followers.remove(self)
            self._log.release()

    def catch_up(self, kept_from: int) -> None:
        """What lies before `kept_from` has been cut away: a reader behind that goes on at the mark."""
        if self._position < kept_from:
            self._position = self._log.base

    def _next(self) -> bytes:
        log = self._log
        if log.cutting:
            return b""
        stop = log.end if self._last is None else min(self._last, log.end)
        wanted = min(CHUNK_BYTES, stop - self._position)
        chunk = read_at(log.fd, self._position - log.base, wanted)
        self._position += len(chunk)
        return chunk

    def _finished(self) -> bool:
        if self._log.cutting:
            return False
        if self._last is not None:
            return self._position >= min(self._last, self._log.end)
        return not self._log.open and self._position >= self._log.end


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
        self._logs: dict[str, _Log] = {}
        self._by_watch: dict[int, _Log] = {}
        self._growing: set[_Log] = set()
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
                os.unlink(path)
        with self._counted():
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._logs[session] = log = _Log(path, os.open(path, flags, 0o600))
            self._look(log)
            self._rewatch(log)
        return path

    def close_session(self, session: str) -> None:
        """The session's processes are gone: readers get the rest, and old files go."""
        log = self._logs.pop(session, None)
        if log is not None:
            self._unwatch(log)
            with self._counted():
                self._look(log)
            log.open = False
            self._feed(log)
            log.release()
        self._ended.append(self.path(session))
        self._prune()

    def tail(self, session: str) -> str:
        """What it says last (`logfile.last_words`), cleaned of what would disturb a terminal."""
        with self._counted():
            fd = os.open(self.path(session), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                size = os.fstat(fd).st_size
                data = read_at(fd, max(0, size - TAIL_READ_BYTES), TAIL_READ_BYTES)
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
        done: Callable[[], None],
    ) -> Follower:
        """A reader of the log from its last `tail_lines` lines on (None: all), without credit yet.

        With `follow` it goes on until the session is gone.  Raises FileNotFoundError when nothing
        is kept of that session.
        """
        log = self._logs.get(session) or self._kept(self.path(session))
        with self._counted():
            self._look(log)
        place = 0 if tail_lines is None else lines_from_end(log.fd, log.size, tail_lines)
        follower = Follower(log, log.base + place, follow, deliver, done)
        log.followers.append(follower)
        return follower

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
        """The files stay."""
        for session in [*self._logs]:
            self.close_session(session)
        if self._watch:
            self._watch.close()
            self._watch = None

    def _attend(self, log: _Log) -> None:
        with self._counted():
            before = log.end
            self._look(log)
            if log.end == before:
                self._growing.discard(log)
                self._rewatch(log)
        self._feed(log)

    def _look(self, log: _Log) -> None:
        log.look()
        if log.cutting or log.size <= max(self.max_bytes, log.cut_from):
            return
        log.cutting = True
        fd, size, max_bytes = log.fd, log.size, self.max_bytes
        self.in_thread(lambda: halve(fd, size, max_bytes), lambda cut: self._cut(log, cut))

    def _cut(self, log: _Log, cut: Cut | BaseException) -> None:
        log.cutting = False
        with self._counted():
            if isinstance(cut, BaseException):
                log.cut_from = log.size + self.max_bytes
                raise cut
            log.cut_from = 0
            log.moved(cut)
        self._feed(log)
        log.release()

    def _feed(self, log: _Log) -> None:
        for follower in [*log.followers]:
            follower.advance()

    def _rewatch(self, log: _Log) -> None:
        if self._watch is None or log.watch is not None:
            return
        log.watch = self._watch.add(log.path)
        self._by_watch[log.watch] = log
        # What came between the last look and the new watch fires nothing.
        self._look(log)

    def _unwatch(self, log: _Log) -> None:
        self._growing.discard(log)
        if self._watch and log.watch is not None:
            self._watch.remove(log.watch)
            self._by_watch.pop(log.watch, None)
            log.watch = None

    @staticmethod
    def _kept(path: str) -> _Log:
        log = _Log(path, os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
        log.open = False
        return log

    def _found(self) -> list[str]:
        with self._counted(), os.scandir(self.folder) as entries:
            logs = [entry for entry in entries if _SESSION_ID.fullmatch(entry.name.removesuffix(".log"))]
            return [entry.path for entry in sorted(logs, key=lambda entry: entry.stat().st_mtime)]
        return []

    def _prune(self) -> None:
        while len(self._ended) > self.keep:
            with self._counted(), contextlib.suppress(FileNotFoundError):
                os.unlink(self._ended.popleft())

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.errors += 1
            self.last_error = str(error)
