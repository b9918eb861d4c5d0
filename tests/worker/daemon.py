"""A small daemon for one real worker process: the other end of its link, page and log."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from warmd.daemon.stacks import C_CODE_AFTER_SECONDS
from warmd.daemon.worker.page import (
    C_STACK_SIGNAL,
    INTERRUPT_SIGNAL,
    STACK_SIGNAL,
    ControlPage,
    create_stack_file,
)
from warmd.protocol import work
from warmd.protocol.regions import whole
from warmd.protocol.stream import Inbox, marked_off
from warmd.protocol.values import pack, unpack
from warmd.protocol.wire import FROM_WORKER, TO_WORKER

PATIENCE_SECONDS = 20.0
TOKEN = "ab" * 32
ZOO = str(Path(__file__).resolve().parent.parent)


class FakeDaemon:
    """Starts one worker and talks to it; `close` leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "session.log"
        self.page = ControlPage.create()
        self.stack_fd = create_stack_file()
        self.door_path = str(folder / "door")
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.door.bind(self.door_path)
        self.door.listen()
        self.door.settimeout(PATIENCE_SECONDS)
        self.link: socket.socket | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._inbox = Inbox(2**30)
        self._said: deque[Any] = deque()
        self._ordinals = itertools.count(1)

    # Start and end.

    def spawn(
        self, command: list[str] | None = None, env: dict[str, str] | None = None, **options: Any
    ) -> None:
        whole = {
            **os.environ,
            "WARMD_WORKER_TOKEN": TOKEN,
            "WARMD_DAEMON_PID": str(os.getpid()),
            **(env or {}),
        }
        command = command or [sys.executable, "-m", "warmd.daemon.worker", self.door_path]
        self.process = subprocess.Popen(command, env=whole, stdout=subprocess.DEVNULL, **options)

    def admit(self) -> work.Arrived:
        self.link, _ = self.door.accept()
        self.link.settimeout(PATIENCE_SECONDS)
        arrived = self.next()
        assert isinstance(arrived, work.Arrived)
        return arrived

    def begin(self, target: str, **options: Any) -> None:
        setup = pack(options.pop("setup")) if "setup" in options else b""
        pickled = options.pop("pickled", b"")
        limit = options.pop("max_message_bytes", 2**20)
        gpus = options.pop("gpus", None)
        log = options.pop("log_path", str(self.log))
        spec = work.AppSpec(name="zoo", target=target, **{"paths": (ZOO,), **options})
        message = work.Begin(
            "sess_" + "0" * 32, spec, log, limit, gpus=gpus, setup=setup, pickled=pickled
        )
        first, *rest = marked_off(TO_WORKER.pack(message))
        assert self.link is not None
        socket.send_fds(self.link, [first], [self.page.fd, self.stack_fd])
        for buffer in rest:
            self.link.sendall(buffer)

    def start(self, target: str, **options: Any) -> Any:
        """The whole start; returns Ready or StartFailed."""
        self.spawn()
        self.admit()
        self.begin(target if ":" in target else f"zoo:{target}", **options)
        return self.next()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)
        for holder in (self.link, self.door):
            if holder is not None:
                holder.close()
        self.page.close()
        os.close(self.stack_fd)

    def exit_code(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_SECONDS)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # Messages.

    def tell(self, message: Any) -> None:
        assert self.link is not None
        for buffer in marked_off(TO_WORKER.pack(message)):
            self.link.sendall(buffer)

    def next(self) -> Any:
        """What the worker says next; EOFError at the end of the link."""
        assert self.link is not None
        while not self._said:
            count = self.link.recv_into(self._inbox.buffer())
            if not count:
                raise EOFError
            self._said += [
                whole(FROM_WORKER.unpack(frames), _not_lent) for frames in self._inbox.received(count)
            ]
        return self._said.popleft()

    def is_silent(self, seconds: float = 0.2) -> bool:
        """Whether the worker says nothing for a while."""
        assert self.link is not None
        return not self._said and not select.select([self.link], [], [], seconds)[0]

    def invoke(self, function: str, value: Any = None, window: int | None = None) -> work.Ordinal:
        ordinal = work.Ordinal(next(self._ordinals))
        body = b"" if value is None else pack(value)
        self.tell(work.Invoke(ordinal, work.CallId(os.urandom(16)), function, window, body))
        return ordinal

    def call(self, function: str, value: Any = None, window: int | None = None) -> Any:
        """The reply, after whatever came before it."""
        self.invoke(function, value, window)
        return self.reply()

    def reply(self) -> Any:
        while isinstance(message := self.next(), (work.Progressed, work.Yielded, work.Reloaded)):
            continue
        return message

    def value(self, function: str, value: Any = None) -> Any:
        """The value of a call that must go well."""
        reply = self.call(function, value)
        assert isinstance(reply, work.Returned), reply
        return unpack(reply.value)

    def entered(self, function: str, value: Any = None) -> work.Ordinal:
        """Begins a call of a function that says when it is in."""
        ordinal = self.invoke(function, value)
        message = self.next()
        assert isinstance(message, work.Progressed), message
        return ordinal

    def parts(self, count: int) -> list[Any]:
        said = [self.next() for _ in range(count)]
        assert all(isinstance(part, work.Yielded) for part in said), said
        return [(part.number, unpack(part.value)) for part in said]

    # The page and the signals.

    def signal(self, signum: int) -> None:
        fd = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(fd, signum)
        finally:
            os.close(fd)

    def cancel(self, ordinal: work.Ordinal, with_signal: bool = False) -> None:
        self.page.request_cancel(ordinal)
        self.tell(work.AskCancel(ordinal))
        if with_signal:
            self.signal(INTERRUPT_SIGNAL)

    def interrupt(self, ordinal: work.Ordinal) -> None:
        self.page.request_interrupt(ordinal)
        self.signal(INTERRUPT_SIGNAL)

    def interrupt_until_reply(self, ordinal: work.Ordinal, every_seconds: float = 0.1) -> Any:
        """As the ladder does: again and again, for as long as nothing is said."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self.interrupt(ordinal)
            if not self.is_silent(every_seconds):
                return self.reply()
        raise TimeoutError("no interrupt took")

    def stack(self) -> str:
        os.ftruncate(self.stack_fd, 0)
        self.signal(STACK_SIGNAL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        c_code = time.monotonic() + C_CODE_AFTER_SECONDS
        text = ""
        while time.monotonic() < deadline:
            if not text and time.monotonic() > c_code:
                self.signal(C_STACK_SIGNAL)
                c_code = deadline
            before, text = text, os.pread(self.stack_fd, 65536, 0).decode()
            if text and text == before:
                return text
            select.select([], [], [], 0.005)
        raise TimeoutError("no stack was written")

    def log_text(self) -> str:
        return self.log.read_text("utf-8", "replace")


def started(app: str, folders: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    """A worker that has come to its Ready; for fixtures."""
    fake = FakeDaemon(folders.mktemp("worker"))
    try:
        assert isinstance(fake.start(app), work.Ready)
        yield fake
    finally:
        fake.close()


def _not_lent(lent: object) -> Any:
    raise AssertionError(f"{lent} was lent by a worker that may lend nothing")
