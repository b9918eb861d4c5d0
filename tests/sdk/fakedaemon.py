"""A daemon in a thread that does as it is told: for what a real one never does."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq

from warmd.protocol.messages import (
    PROTOCOL,
    Accepted,
    Body,
    Call,
    Cancel,
    Failure,
    FromDaemon,
    Hello,
    Part,
    Request,
    Result,
    SessionId,
    Timing,
    Welcome,
)
from warmd.protocol.values import pack, unpack
from warmd.protocol.wire import FROM_CLIENT, FROM_DAEMON, WireError

SESSION = SessionId("sess_" + "0" * 32)
TIMING = Timing(False, 0.0, 0.0, 0.0, 0.0, 0.001)


class FakeDaemon:
    """Answers `Hello`, and calls by their function's name:

        echo     the input           silent   nothing, ever
        raise    an APP_ERROR        parts    as many parts as the input says, then the end
        torn     a part is missing   garbage  no message at all
        spoilt   a part that is no value
        free     the input, and then CANCELLED to each silent call

    What it heard is in `heard`; `say` sends anything to the last client.  A silent call that is
    cancelled ends as CANCELLED.
    """

    def __init__(self, path: Path, hello: Callable[[], FromDaemon | None] | None = None) -> None:
        self.path = path
        self.heard: list[Any] = []
        self.hellos = 0
        self._hello = hello or (lambda: Welcome(PROTOCOL, "0", "boot", os.getpid(), 1 << 20))
        self._news = threading.Condition()
        self._stop, self._stop_end = os.pipe()
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.set(zmq.LINGER, 0)
        self._router.set(zmq.SNDHWM, 0)
        self._router.bind(f"ipc://{path}")
        self._thread = threading.Thread(target=self._run, name="fake daemon")
        self._thread.start()

    def wait_for(self, kind: type, count: int = 1) -> list[Any]:
        """The messages of a kind, when there are `count`."""
        with self._news:
            found = self._news.wait_for(lambda: len(self.of(kind)) >= count, timeout=10)
            assert found, f"no {count} {kind.__name__} came, but {self.heard}"
        return self.of(kind)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    def close(self) -> None:
        if self._context.closed:
            return
        os.close(self._stop_end)
        self._thread.join()
        self._router.close(linger=1000)
        self._context.term()
        os.close(self._stop)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._stop, zmq.POLLIN)
        while self._stop not in dict(poller.poll()):
            client, *frames = self._router.recv_multipart()
            try:
                message = FROM_CLIENT.unpack(frames)
            except WireError:
                continue  # as the daemon does with what is none
            with self._news:
                self.heard.append(message)
                self._news.notify_all()
            for answer in self.frames(message):
                self._router.send_multipart([client, *answer])

    def frames(self, message: Any) -> Iterator[list[Body]]:
        """What this message is answered with."""
        yield from map(FROM_DAEMON.pack, self._answers(message))
        if isinstance(message, Call) and message.function == "garbage":
            yield [b"\xc1"]

    def _answers(self, message: Any) -> Iterator[FromDaemon]:
        if isinstance(message, Hello):
            self.hellos += 1
            welcome = self._hello()
            if welcome is not None:
                yield welcome
        elif isinstance(message, Call):
            if message.session is None or message.session == "new":
                yield Accepted(message.id, SESSION)
            yield from self._of_call(message)
        elif isinstance(message, Request):
            yield Result(message.id, None, value=pack({"verb": message.verb, **message.arguments}))
        elif isinstance(message, Cancel):
            yield Failure(message.id, SESSION, "CANCELLED", "cancelled", "maybe")

    def _of_call(self, call: Call) -> Iterator[FromDaemon]:
        if call.function in ("echo", "run", ""):
            yield Result(call.id, SESSION, 0, TIMING, call.input)
        elif call.function == "raise":
            facts = {"type": "ValueError", "traceback": "Traceback ..."}
            yield Failure(call.id, SESSION, "APP_ERROR", "ValueError: no", "yes", facts)
        elif call.function == "parts":
            count = int(unpack(call.input))
            yield from (Part(call.id, number, pack(number)) for number in range(count))
            yield Result(call.id, SESSION, count, TIMING)
        elif call.function == "free":
            yield Result(call.id, SESSION, 0, TIMING, call.input)
            for silent in (heard for heard in self.of(Call) if heard.function == "silent"):
                yield Failure(silent.id, SESSION, "CANCELLED", "cancelled", "maybe")
        elif call.function == "spoilt":
            yield Part(call.id, 0, b"\xc1")
        elif call.function == "torn":
            yield Part(call.id, 0, pack(0))
            yield Part(call.id, 2, pack(2))


@contextmanager
def fake_daemon(hello: Callable[[], FromDaemon | None] | None = None) -> Iterator[FakeDaemon]:
    with tempfile.TemporaryDirectory(prefix="fake-") as folder:
        found = FakeDaemon(Path(folder) / "s", hello)
        try:
            yield found
        finally:
            found.close()
