"""Apps of the zoo that die when they are told to: by a named pipe that somebody writes to."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import warmd.app

context = warmd.app.context
FOREVER = 3600.0


class Mortal:
    """Dies in a chosen way (`how`) when the pipe `when` says so."""

    def pid(self) -> int:
        return os.getpid()

    def wait(self) -> None:
        context.progress("in")
        time.sleep(FOREVER)

    def note(self, path: str) -> int:
        """One byte more in the file, in one system call; how many there were before."""
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, b"x")
        finally:
            os.close(fd)
        return os.getpid()

    def note_and_die(self, path: str) -> None:
        """The effect is there, the reply never comes."""
        self.note(path)
        os.kill(os.getpid(), signal.SIGKILL)

    def die(self, how: str, when: str) -> None:
        context.progress("in")
        _die(how, when)

    def die_later(self, how: str, when: str) -> str:
        threading.Thread(target=_die, args=(how, when), daemon=True).start()
        return "waiting for it"

    def die_in_stream(self, how: str, when: str) -> Iterator[int]:
        yield 0
        yield 1
        _die(how, when)

    def die_between_parts(self, how: str, when: str) -> Iterator[int]:
        """Another thread kills it, while this one is busy with parts."""
        yield 0
        self.die_later(how, when)
        yield 1
        while True:
            time.sleep(FOREVER)

    def close_and_return(self) -> None:
        os.closerange(0, 1000)

    def close_and_wait(self) -> None:
        os.closerange(0, 1000)
        time.sleep(FOREVER)

    def close_later(self) -> None:
        """Once the process waits for its next call."""
        threading.Timer(0.05, os.closerange, (0, 1000)).start()


def _die(how: str, when: str) -> None:
    Path(when).read_text()
    print(f"about to {how}", flush=True)
    WAYS[how]()


WAYS: Mapping[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit_0": lambda: os._exit(0),
    "exit_7": lambda: os._exit(7),
}
