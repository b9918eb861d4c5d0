"""How many bytes the files of a gateway may have, one and all together."""

from __future__ import annotations

import errno
import threading

from warmd.http.problems import HttpProblem

MOST_FILES = 100_000


class Room:
    """Counts what is kept and what is being written; asked from any thread."""

    def __init__(self, most_of_one: int, most_of_all: int) -> None:
        self.most_of_one = most_of_one
        self.most_of_all = most_of_all
        self.held = 0
        self._lock = threading.Lock()

    def check_one(self, size: int, name: str) -> None:
        """Raises HttpProblem for a file that is too large, whatever else is kept."""
        if size > self.most_of_one:
            raise HttpProblem(
                "TOO_LARGE",
                f"the file {name} has {size} bytes or more, the limit is {self.most_of_one}: split it, or "
                "start the gateway with a larger max_file_bytes",
            )

    def check(self, size: int) -> None:
        """Raises HttpProblem when so much more would be too much of all."""
        if self.held + size > self.most_of_all:
            raise _full(
                f"the files here have {self.held} bytes, and {size} more would pass the limit of "
                f"{self.most_of_all} (files_max_bytes)"
            )

    def take(self, size: int) -> None:
        """Raises HttpProblem when it is not to be had."""
        with self._lock:
            self.check(size)
            self.held += size

    def give(self, size: int) -> None:
        with self._lock:
            self.held -= size


def check_count(count: int) -> None:
    """Raises HttpProblem for more files than are kept."""
    if count > MOST_FILES:
        raise _full(f"that would be {count} files, the limit is {MOST_FILES}")


def of_disk(error: OSError) -> HttpProblem:
    """What a disk refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full("the gateway's disk is full")
    return HttpProblem("INTERNAL", f"the gateway cannot keep the file: {error.strerror or error}")


def _full(why: str) -> HttpProblem:
    return HttpProblem(
        "FILES_FULL", f"{why}: delete some (DELETE /files/ID), or wait until they expire", retry_seconds=60
    )
