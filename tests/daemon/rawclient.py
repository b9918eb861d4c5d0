"""The least that speaks the client's side of the protocol, for tests of the daemon alone."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from warmd.protocol import messages as msg
from warmd.protocol import places, values
from warmd.protocol.messages import PROTOCOL, AppRef, CallId, Lent
from warmd.protocol.regions import whole
from warmd.protocol.wire import FROM_CLIENT, FROM_DAEMON

PATIENCE_SECONDS = 20.0
SEND_MILLISECONDS = 500
"""A connection that is no more takes nothing: then `send` raises zmq.Again."""


class RawClient:
    """One DEALER; `next()` gives messages in the order in which they come."""

    def __init__(self, run_dir: Path, receive_queue: int = 1000) -> None:
        """`receive_queue`: messages that libzmq takes before they are read."""
        self._parts: deque[msg.Part] = deque()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, receive_queue)
        self._socket.setsockopt(zmq.SNDTIMEO, SEND_MILLISECONDS)
        # Not -1: that throws away what has come and was not read (docs/protocol.md).
        self._socket.setsockopt(zmq.RECONNECT_IVL, 2**31 - 1)
        self._socket.connect(f"ipc://{places.socket_path(run_dir)}")
        self.send(msg.Hello(PROTOCOL, "test", os.getpid(), "test"))
        self.welcome = self.next()
        assert type(self.welcome) is msg.Welcome, self.welcome

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close(0)
        self._context.term()

    def send(self, message: Any) -> None:
        self._socket.send_multipart(FROM_CLIENT.pack(message))

    def next(self, seconds: float = PATIENCE_SECONDS) -> Any:
        """The next message; a ping is answered, and is none."""
        while True:
            if self._parts:
                return self._parts.popleft()
            assert self._socket.poll(int(seconds * 1000)), f"no message within {seconds} s"
            message = whole(FROM_DAEMON.unpack(self._socket.recv_multipart()), _no_lane)
            if type(message) is msg.Parts:
                self._parts.extend(_apart(message))
                continue
            if type(message) is not msg.Ping:
                return message
            self.send(msg.Pong(message.number))

    def told(self, quiet_seconds: float = 1.0) -> list[Any]:
        """All that has come, unanswered pings too, until nothing more does."""
        said = []
        while self._socket.poll(int(quiet_seconds * 1000)):
            said.append(FROM_DAEMON.unpack(self._socket.recv_multipart()))
        return said

    def request(self, verb: str, window: int | None = None, **arguments: Any) -> CallId:
        id = CallId(os.urandom(16))
        self.send(msg.Request(id, verb, arguments, window))
        return id

    def ask(self, verb: str, **arguments: Any) -> Any:
        """The value that a request is answered with; its Failure is returned as it is."""
        answer = self.answer(self.request(verb, **arguments))
        return values.unpack(answer.value) if type(answer) is msg.Result else answer

    def log(self, session: str) -> bytes:
        """All that the session's processes have printed so far."""
        id, text = self.request("logs", 1000, session=session), b""
        while type(message := self.next()) is msg.Part:
            assert message.id == id
            text += values.unpack(message.value)
        assert type(message) is msg.Result, message
        return text

    def call(
        self, app: str | None, function: str = "run", input: Any = None, session: str | None = "new"
    ) -> CallId:
        id = CallId(os.urandom(16))
        self.send(msg.Call(id, session, AppRef(app) if app else None, function, input=values.pack(input)))
        return id

    def answer(self, id: CallId) -> Any:
        """The final answer to a call or request; other messages are dropped."""
        while True:
            message = self.next()
            if getattr(message, "id", None) == id and type(message) in (msg.Result, msg.Failure):
                return message

    def run(
        self, app: str | None, function: str = "run", input: Any = None, session: str | None = "new"
    ) -> Any:
        return self.answer(self.call(app, function, input, session))


def _no_lane(lent: Lent) -> Any:
    raise AssertionError(f"{lent} was lent to a client without a lane")


def _apart(parts: msg.Parts) -> Iterator[msg.Part]:
    begin = 0
    for number, size in enumerate(parts.sizes, parts.number):
        yield msg.Part(parts.id, number, parts.values[begin : begin + size])
        begin += size
