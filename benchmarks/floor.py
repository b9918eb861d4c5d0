"""The floor: the least that a call through a broker costs on this machine.

Three processes, as in warmd, with the same transports and the same bytes:

    client DEALER -> ROUTER in an epoll loop that only forwards -> worker on a Unix socket

The broker knows one worker, reads no header, keeps no state.  The worker unpacks nothing and
answers with fixed bytes.  Whatever warmd costs beyond this is its own work: checks, sessions,
deadlines, packing.

`python -m benchmarks.floor` measures the floor alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import zmq

from warmd.protocol import messages, values, wire

PREFIX = struct.Struct("<4I")
"""Lengths of the identity, the header and the body frame; the fourth is 0."""
BATCH_BYTES = 256 * 1024
REPLY_SECONDS = 30.0
IN_FLIGHT = 64


def request_frames() -> list[bytes]:
    """What warmd's client sends for `incr` of the counter in a session named by id."""
    call = messages.Call(
        id=messages.CallId(os.urandom(16)),
        session="sess_" + "0" * 32,
        app=messages.AppRef("counter"),
        function="incr",
        timeout_seconds=3600.0,
        input=values.pack({"by": 1}),
    )
    return [bytes(frame) for frame in wire.FROM_CLIENT.pack(call)]


def reply_frames() -> list[bytes]:
    """What warmd's daemon answers."""
    result = messages.Result(
        id=messages.CallId(os.urandom(16)),
        session=messages.SessionId("sess_" + "0" * 32),
        timing=messages.Timing(False, 1e-5, 0.0, 0.0, 0.0, 1e-5),
        value=values.pack({"n": 1000}),
    )
    return [bytes(frame) for frame in wire.FROM_DAEMON.pack(result)]


class FloorClient:
    """A plain blocking DEALER; `zmq.Again` after 30 s without an answer."""

    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, int(REPLY_SECONDS * 1000))
        self._socket.connect(address)
        self._request = request_frames()

    def call(self) -> None:
        """One call, there and back."""
        self._socket.send_multipart(self._request)
        self._socket.recv_multipart()

    def pipeline(self, calls: int, in_flight: int = IN_FLIGHT) -> None:
        """`calls` calls with at most `in_flight` unanswered."""
        sent = min(calls, in_flight)
        for _ in range(sent):
            self._socket.send_multipart(self._request)
        for _ in range(calls):
            self._socket.recv_multipart()
            if sent < calls:
                self._socket.send_multipart(self._request)
                sent += 1

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def running_floor() -> Iterator[FloorClient]:
    """A client of a floor of its own; its broker and worker end with the block."""
    with tempfile.TemporaryDirectory(prefix="floor-") as folder:
        address = f"ipc://{folder}/floor.sock"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            worker = _start("worker", theirs)
            broker = _start("broker", ours, address)
        client = FloorClient(address)
        try:
            client.call()
            yield client
        finally:
            client.close()
            for process in (broker, worker):
                process.kill()
                process.wait(10)


def _start(role: str, link: socket.socket, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.floor", role, str(link.fileno()), *arguments]
    return subprocess.Popen(command, pass_fds=[link.fileno()])


def run_broker(link: socket.socket, address: str) -> None:
    """Forwards until it is killed."""
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    # At the default a ROUTER drops parts silently once a client is slow to read.
    router.setsockopt(zmq.SNDHWM, 0)
    router.setsockopt(zmq.RCVHWM, 0)
    router.bind(address)
    poll = select.epoll()
    poll.register(link, select.EPOLLIN)
    poll.register(router.fileno(), select.EPOLLIN)
    unread = b""
    while True:
        # ZMQ_FD is edge-triggered; this reads until there is nothing, so no edge is lost.
        _requests_to_worker(router, link)
        ready = [descriptor for descriptor, _ in poll.poll()]
        if link.fileno() in ready:
            unread = _answers_to_clients(link, unread, router)


def _requests_to_worker(router: zmq.Socket[bytes], link: socket.socket) -> None:
    batch = []
    while True:
        try:
            identity, *frames = router.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            break
        batch += packed(identity, frames)
    if batch:
        link.sendall(b"".join(batch))


def _answers_to_clients(link: socket.socket, unread: bytes, router: zmq.Socket[bytes]) -> bytes:
    answers, rest = taken(unread + link.recv(BATCH_BYTES))
    for frames in answers:
        router.send_multipart(frames)
    return rest


def packed(identity: bytes, frames: Sequence[bytes]) -> list[bytes]:
    """One message on the Unix socket."""
    header, body = frames
    return [PREFIX.pack(len(identity), len(header), len(body), 0), identity, header, body]


def taken(data: bytes) -> tuple[list[list[bytes]], bytes]:
    """The whole messages at the beginning of `data`, and the rest."""
    found = []
    at = 0
    while len(data) - at >= PREFIX.size:
        identity, header, body, _ = PREFIX.unpack_from(data, at)
        first = at + PREFIX.size
        second = first + identity
        third = second + header
        end = third + body
        if len(data) < end:
            break
        found.append([data[first:second], data[second:third], data[third:end]])
        at = end
    return found, data[at:]


def run_worker(link: socket.socket) -> None:
    """Answers every message with fixed bytes until the broker is gone."""
    reply = reply_frames()
    unread = b""
    while data := link.recv(BATCH_BYTES):
        calls, unread = taken(unread + data)
        answers: list[bytes] = []
        for identity, *_ in calls:
            answers += packed(identity, reply)
        link.sendall(b"".join(answers))


def main(arguments: list[str]) -> None:
    """A process of the floor, or without arguments the measurement of the floor alone."""
    if arguments:
        role, descriptor, *rest = arguments
        link = socket.socket(fileno=int(descriptor))
        roles: dict[str, Any] = {"broker": run_broker, "worker": run_worker}
        return roles[role](link, *rest)  # type: ignore[no-any-return]
    with running_floor() as client:
        for _ in range(3):
            times = []
            for _ in range(5000):
                begun = time.perf_counter()
                client.call()
                times.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            client.pipeline(20000)
            rate = 20000 / (time.perf_counter() - begun)
            times.sort()
            p50, p99 = times[2500] * 1e6, times[4950] * 1e6
            print(f"p50 {p50:.0f} us  p99 {p99:.0f} us  pipelined {rate:.0f} calls/s")
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
