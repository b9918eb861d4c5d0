"""The floor: the least that a call through a broker costs on this machine.

Three processes, as in warmd, with the same transports and the same bytes:

    client DEALER -> ROUTER in an epoll loop that only forwards -> worker on a Unix socket

The broker reads no header and keeps no state but which of its workers serves which client (the
first that comes gets the first worker).  A worker unpacks nothing and answers with fixed bytes, or
in a floor for streams with so many parts first, each sent when a generator would have yielded it.
Whatever warmd costs beyond this is its own work: checks, sessions, deadlines, packing.

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
from collections.abc import Iterator, Sequence

import zmq

from benchmarks.figures import IN_FLIGHT, call_times, rate
from warmd.protocol import messages, values, wire

PREFIX = struct.Struct("<4I")
"""Lengths of the identity, the header and the body frame; the fourth is 0."""
BATCH_BYTES = 256 * 1024
REPLY_SECONDS = 30.0


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


def part_frames() -> list[bytes]:
    """What warmd's daemon sends for a part of `count_up`."""
    part = messages.Part(messages.CallId(os.urandom(16)), 1000, values.pack({"i": 1000}))
    return [bytes(frame) for frame in wire.FROM_DAEMON.pack(part)]


class FloorClient:
    """A plain blocking DEALER; `zmq.Again` after 30 s without an answer."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.broker_pid = 0
        self.worker_pids: list[int] = []
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

    def stream(self, parts: int) -> None:
        """A call to a floor whose workers send so many parts before their answer."""
        self._socket.send_multipart(self._request)
        for _ in range(parts + 1):
            self._socket.recv_multipart()

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def running_floor(workers: int = 1, parts: int = 0) -> Iterator[FloorClient]:
    """A client of a floor of its own; its broker and workers end with the block.

    With `parts` each call is answered with so many parts before the end, for `FloorClient.stream`.
    """
    with tempfile.TemporaryDirectory(prefix="floor-") as folder, contextlib.ExitStack() as stack:
        address = f"ipc://{folder}/floor.sock"
        ours, pids = [], []
        for _ in range(workers):
            pair = socket.socketpair()
            with pair[1]:
                pids.append(stack.enter_context(_started("worker", str(parts), links=[pair[1]])))
            ours.append(stack.enter_context(pair[0]))
        broker_pid = stack.enter_context(_started("broker", address, links=ours))
        client = FloorClient(address)
        client.broker_pid, client.worker_pids = broker_pid, pids
        stack.callback(client.close)
        client.stream(parts)
        yield client


@contextlib.contextmanager
def _started(role: str, argument: str, links: Sequence[socket.socket]) -> Iterator[int]:
    fds = [link.fileno() for link in links]
    command = [sys.executable, "-m", "benchmarks.floor", role, argument, *map(str, fds)]
    process = subprocess.Popen(command, pass_fds=fds)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait(10)


def run_broker(address: str, *links: socket.socket) -> None:
    """Forwards until it is killed."""
    router: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    # At the default a ROUTER drops parts silently once a client is slow to read.
    router.setsockopt(zmq.SNDHWM, 0)
    router.setsockopt(zmq.RCVHWM, 0)
    router.bind(address)
    poll = select.epoll()
    poll.register(router.fileno(), select.EPOLLIN)
    by_descriptor = {link.fileno(): link for link in links}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    unread = dict.fromkeys(by_descriptor, b"")
    routes: dict[bytes, socket.socket] = {}
    while True:
        # ZMQ_FD is edge-triggered; this reads until there is nothing, so no edge is lost.
        _requests_to_workers(router, links, routes)
        for descriptor, _ in poll.poll():
            if descriptor in unread:
                link = by_descriptor[descriptor]
                unread[descriptor] = _answers_to_clients(link, unread[descriptor], router)


def _requests_to_workers(
    router: zmq.Socket[bytes], links: Sequence[socket.socket], routes: dict[bytes, socket.socket]
) -> None:
    batches: dict[socket.socket, list[bytes]] = {}
    while True:
        try:
            identity, *frames = router.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            break
        link = routes.get(identity)
        if link is None:
            link = routes[identity] = links[len(routes) % len(links)]
        batches.setdefault(link, []).extend(packed(identity, frames))
    for link, batch in batches.items():
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


def run_worker(parts: str, link: socket.socket) -> None:
    """Answers every message with fixed bytes, after so many parts, until the broker is gone."""
    part, reply = part_frames(), reply_frames()
    unread = b""
    while data := link.recv(BATCH_BYTES):
        calls, unread = taken(unread + data)
        answers: list[bytes] = []
        for identity, *_ in calls:
            for _ in range(int(parts)):
                link.sendall(b"".join(packed(identity, part)))
            answers += packed(identity, reply)
        link.sendall(b"".join(answers))


def main(arguments: list[str]) -> None:
    """A process of the floor, or without arguments the measurement of the floor alone."""
    if arguments:
        role, argument, *descriptors = arguments
        run = run_broker if role == "broker" else run_worker
        run(argument, *(socket.socket(fileno=int(descriptor)) for descriptor in descriptors))
        return
    with running_floor() as client:
        for _ in range(3):
            times = sorted(call_times(client.call, 5000))
            throughput = rate(client.pipeline, 20000)
            p50, p99 = times[2500] * 1e6, times[4950] * 1e6
            print(f"p50 {p50:.0f} us  p99 {p99:.0f} us  pipelined {throughput:.0f} calls/s")


if __name__ == "__main__":
    main(sys.argv[1:])
