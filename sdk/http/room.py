"""How many bytes the files of a gateway may have, one and all together.

What is kept is counted again from time to time (`counted`), for several gateways may share it: what
others have kept since, and what they are just receiving, is not known here.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator

from warmd.http.problems import HttpProblem

MOST_FILES = 100_000


class Room:
    """Counts what is kept and what is being written; asked from any thread."""

    def __init__(self, most_of_one: int, most_of_all: int) -> None:
        self.most_of_one = most_of_one
        self.most_of_all = most_of_all
        self.files = 0
        self._kept = 0
        self._coming = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        return self._kept + self._coming

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

    def check_count(self, more: int) -> None:
        """Raises HttpProblem when so many more would be too many."""
        if self.files + more > MOST_FILES:
            raise _full(f"that would be {self.files + more} files, the limit is {MOST_FILES}")

    def take(self, size: int) -> None:
        """For what is being written.  Raises HttpProblem when it is not to be had."""
        with self._lock:
            self.check(size)
            self._coming += size

    def give(self, size: int) -> None:
        """What was taken; it is not kept."""
        with self._lock:
            self._coming -= size

    def keep(self, size: int, before: int) -> None:
        """What was taken; it is kept in place of so many bytes."""
        with self._lock:
            self._coming -= size
            self._kept += size - before

    def add(self, files: int, size: int = 0) -> None:
        """Files that came or, where it is less than none, went, and their bytes."""
        with self._lock:
            self.files += files
            self._kept += size

    def counting(self) -> tuple[int, int]:
        """What `counted` wants to know: taken before it is counted."""
        with self._lock:
            return self.files, self._kept

    def counted(self, files: int, size: int, before: tuple[int, int]) -> None:
        """So much there is; what came while it was counted is taken as not counted."""
        with self._lock:
            self.files = files + max(0, self.files - before[0])
            self._kept = size + max(0, self._kept - before[1])


@contextlib.contextmanager
def disk_told() -> Iterator[None]:
    """What a disk refuses in it is an HttpProblem; what is not there stays a FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise of_disk(error) from None


def of_disk(error: OSError) -> HttpProblem:
    """What a disk refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full("the gateway's disk is full")
    if isinstance(error, TimeoutError):
        return HttpProblem("FILES_BUSY", f"the gateway cannot keep or change files: {error}")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return HttpProblem(
            "FILES_BUSY",
            f"the gateway cannot open the file: {error.strerror}; ask again later, or start it with "
            "a larger limit (ulimit -n)",
        )
    return HttpProblem("INTERNAL", f"the gateway cannot keep or read the file: {error.strerror or error}")


def _full(why: str) -> HttpProblem:
    return HttpProblem(
        "FILES_FULL", f"{why}: delete some (DELETE /files/ID), or wait until they expire", retry_seconds=60
    )
