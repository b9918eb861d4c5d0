"""One log file, and those who read it.

Readers count in bytes ever written, not in places of the file: `base` is the difference, and grows
with each cut.  All readers of a log share its descriptor, also after its session is gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from warmd.daemon.logfile import CHUNK_BYTES, Cut, lines_from_end, read_at


class Log:
    """One file.  `base` + a place in the file = bytes ever written up to there.

    `wake(follower)` is called when there may be something for it, `released(log)` when the descriptor is
    given back.
    """

    def __init__(
        self,
        path: str,
        fd: int,
        wake: Callable[[Follower], object],
        released: Callable[[Log], object],
    ) -> None:
        self.path = path
        self.fd = fd
        self.wake = wake
        self._released = released
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

    def feed(self) -> None:
        """There may be more."""
        for follower in self.followers:
            self.wake(follower)

    def release(self) -> None:
        """Gives the descriptor back once nobody needs it."""
        if not (self.open or self.followers or self.cutting or self.fd < 0):
            os.close(self.fd)
            self.fd = -1
            self._released(self)


class Follower:
    """One reader of a log: chunks go to `deliver` as far as `credit` reaches, then `done` is called,
    with the error if the log could not be read.  All of it happens in `serve`."""

    def __init__(
        self,
        log: Log,
        tail_lines: int | None,
        follow: bool,
        deliver: Callable[[bytes], None],
        done: Callable[[OSError | None], None],
    ) -> None:
        self._log = log
        self._tail_lines = tail_lines
        self._position = -1
        """Not known yet."""
        self._last = None if follow else log.end
        self._deliver = deliver
        self._done = done
        self._credit = 0
        self._paused = False
        self.closed = False

    def add_credit(self, chunks: int) -> None:
        """Room for `chunks` more."""
        self._credit += chunks
        self._log.wake(self)

    def pause(self, paused: bool) -> None:
        """Its reader takes nothing for now."""
        self._paused = paused
        self._log.wake(self)

    def serve(self) -> bool:
        """Does one piece of work, and says whether there may be more."""
        if self.closed or self._log.cutting:
            return False
        try:
            if self._position < 0:
                self._position = self._begin()
                return True
            chunk = self._next()
        except OSError as error:
            self._end(error)
            return False
        if chunk:
            self._credit -= 1
            self._deliver(chunk)
        if not self.closed and self._finished():
            self._end(None)
        return bool(chunk)

    def finish(self) -> None:
        """What is written by now is delivered yet, and then it is done."""
        self._log.look()
        self._last = self._log.end
        self._log.wake(self)

    @property
    def goes_on(self) -> bool:
        """It waits for what is yet to be written."""
        return self._last is None

    def move(self, log: Log, alike_bytes: int) -> None:
        """Go on in a log that begins as this one does, for so many bytes at most."""
        before, self._log = self._log, log
        if self._position >= 0:
            self._position = log.base + min(self._position - before.base, alike_bytes)
        before.followers.remove(self)
        log.followers.append(self)
        before.release()
        log.wake(self)

    def close(self) -> None:
        """Nothing is delivered any more, and `done` is not called."""
        if not self.closed:
            self.closed = True
            self._log.followers.remove(self)
            self._log.release()

    def catch_up(self, kept_from: int) -> None:
        """What lies before `kept_from` has been cut away: a reader behind that goes on at the mark."""
        if 0 <= self._position < kept_from:
            self._position = self._log.base

    def _begin(self) -> int:
        log = self._log
        if self._tail_lines is None:
            return log.base
        stop = log.end if self._last is None else max(self._last, log.base)
        return log.base + lines_from_end(log.fd, stop - log.base, self._tail_lines)

    def _next(self) -> bytes:
        if self._paused or self._credit <= 0:
            return b""
        log = self._log
        stop = log.end if self._last is None else min(self._last, log.end)
        wanted = max(0, min(CHUNK_BYTES, stop - self._position))
        chunk = read_at(log.fd, self._position - log.base, wanted)
        self._position += len(chunk)
        return chunk

    def _finished(self) -> bool:
        if self._last is not None:
            return self._position >= min(self._last, self._log.end)
        return not self._log.open and self._position >= self._log.end

    def _end(self, error: OSError | None) -> None:
        self.close()
        self._done(error)
