"""Processes that share weights, forked from this one, which has imported torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.watch import environment, until
from tests.leaks import MARK
from tests.sdk.sharestand import Mapped
from warmd.gpushare import Sharing

SECONDS = 20.0


class User:
    """One that asks for `key` once; `make` runs in it, `tell` what it has found out."""

    def __init__(self, sharing: Sharing, key: str, make: Callable[[], Any], seconds: float = SECONDS) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        read, write = os.pipe()
        self.process = context.Process(
            target=self._run, args=(theirs, write, sharing, key, make, seconds), daemon=True
        )
        self.process.start()
        theirs.close()
        os.close(write)
        self._stderr = read

    def _run(
        self, pipe: Any, stderr: int, sharing: Sharing, key: str, make: Callable[[], Any], seconds: float
    ) -> None:
        os.dup2(stderr, 2)
        try:
            tensors = sharing.share(key, make, seconds=seconds)
        except Exception as error:
            pipe.send(error)
            return
        pipe.send("shares")
        while question := pipe.recv():
            pipe.send(question(tensors))

    def answer(self) -> Any:
        assert self.pipe.poll(SECONDS), "the user says nothing"
        return self.pipe.recv()

    def ask(self, question: Callable[[Any], Any]) -> Any:
        self.pipe.send(question)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.join(SECONDS)

    def last_words(self) -> str:
        """When it has ended."""
        self.process.join(SECONDS)
        return os.read(self._stderr, 4096).decode()

    def end(self) -> None:
        self.kill()
        self.pipe.close()
        self.process.close()
        os.close(self._stderr)


@contextlib.contextmanager
def users() -> Iterator[Callable[..., User]]:
    """Makes users, which end with the block; and so do holders, soon after."""
    made: list[User] = []
    before = set(holders())

    def one(*args: Any, **named: Any) -> User:
        made.append(User(*args, **named))
        return made[-1]

    try:
        yield one
        for user in made:
            user.end()
        until(lambda: set(holders()) <= before)
    finally:
        for pid in set(holders()) - before:
            os.kill(pid, signal.SIGKILL)


def holders() -> list[int]:
    """The holders that come of this run."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    mark = f"{MARK}={os.environ[MARK]}".encode()
    return [pid for pid in pids if mark in environment(pid).split(b"\0") and _is_holder(pid)]


def _is_holder(pid: int) -> bool:
    try:
        return b"warmd.gpuholder import main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def sharing(space: str, **options: Any) -> Sharing:
    return Sharing(Mapped(**options), f"{os.getpid()} {space}")
