"""Reads session logs as the daemon's loop does, for tests of them."""

from __future__ import annotations

import select
import time

from warmd.daemon.logs import SessionLogs

A = "sess_" + "a" * 32
B = "sess_" + "b" * 32


class Reader:
    """Collects what a follower delivers, driving the logs as the daemon's loop does."""

    def __init__(
        self,
        logs: SessionLogs,
        session: str,
        tail: int | None = None,
        follow: bool = True,
        credit: int = 10**6,
    ):
        self.logs = logs
        self.data = b""
        self.chunks = 0
        self.ended = False
        self.follower = logs.follow(session, tail, follow, self._deliver, self._done)
        self.add_credit(credit)

    def add_credit(self, credit: int) -> None:
        self.follower.add_credit(credit)
        serve(self.logs)

    def _deliver(self, chunk: bytes) -> None:
        self.data += chunk
        self.chunks += 1

    def _done(self, error: OSError | None) -> None:
        self.ended = True
        self.error = error


def serve(logs: SessionLogs) -> None:
    """Everybody gets what he may have."""
    while logs.serve():
        pass


def close(logs: SessionLogs, session: str) -> None:
    """The session ends."""
    logs.close_session(session)
    serve(logs)


def drive(logs: SessionLogs, until, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        left = deadline - time.monotonic()
        assert left > 0, "not in time"
        if select.select([logs.inotify_fd], [], [], left)[0]:
            logs.readable()
            serve(logs)


def append(path: str, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


class Later:
    """Stands for the helper thread: the work is done when the test says so."""

    def __init__(self) -> None:
        self.jobs = []

    def __call__(self, work, done) -> None:
        self.jobs.append((work, done))

    def work(self) -> None:
        (work, done), *self.jobs = self.jobs
        try:
            result = work()
        except OSError as error:
            result = error
        done(result)
