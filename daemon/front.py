"""The clients' side of the daemon: one ROUTER socket, and who is connected to it.

Theory
------
* ZMQ_FD is edge-triggered: it becomes readable when the socket's state may have changed, and any
  call on the socket may consume that edge.  So whether messages wait is read from ZMQ_EVENTS:
  before each message, and before the loop waits if anything was sent since (`_unsure`).
* That a client left is told by the socket's monitor: `connections`; and of a process that dies
  while a child of its own holds the connection open by a pidfd, one for each client process.
* MANDATORY makes a send to a peer that has left fail instead of vanishing.  SNDHWM is 0: at its
  default a ROUTER drops parts silently.
* libzmq's listener aborts the process when it runs out of descriptors: `gate`.
* What a client does not read gathers here: `unread`.
* MAXMSGSIZE bounds a frame before memory is taken for it.  It ends the connection of
  whoever exceeds it; clients check sizes before they send.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq
from zmq.utils.garbage import gc

from warmd.daemon.clientprocs import ClientProcesses, hang_up
from warmd.daemon.connections import Connections
from warmd.daemon.gate import Gate
from warmd.daemon.lanes import Lanes
from warmd.daemon.loans import NotALoan
from warmd.daemon.loop import Loop
from warmd.daemon.peers import Peer, introduced, refusal
from warmd.daemon.remote import Remote, forbidden
from warmd.daemon.unread import MESSAGE_BYTES, Readers
from warmd.protocol.errors import Problem
from warmd.protocol.iothread import IoThread
from warmd.protocol.messages import (
    CALL_ID_BYTES,
    NOTHING,
    PROTOCOL,
    Body,
    Call,
    ClientId,
    Failure,
    FromClient,
    FromDaemon,
    HandBack,
    Hello,
    Pong,
    Refused,
    Request,
    Welcome,
)
from warmd.protocol.parcels import Parcel
from warmd.protocol.regions import lent_bytes
from warmd.protocol.wire import FROM_CLIENT, FROM_DAEMON, MAX_HEADER_BYTES, WireError

log = logging.getLogger("warmd.front")

MESSAGES_PER_TURN = 64
"""Then the workers get their turn; what is left is taken up at once afterwards."""
TURN_SECONDS = 0.01
"""The same after so long: a few large listings take as long as many calls."""
MAX_FRAMES = 5
MANY_SENT_A_TURN = 2
"""More, on the average of the last turns, are a rush (`protocol.iothread`)."""
TURNS_REMEMBERED = 8
RECEIVE_QUEUE_MESSAGES = 1000
"""Per client, inside libzmq; beyond it the client's own socket fills."""
HANDSHAKE_MILLISECONDS = 5000
COPY_BELOW_BYTES = 16 * 1024
"""Below it a copied body is cheaper than a view that keeps the message's memory."""


_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_NOBLOCK = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_pack = FROM_DAEMON.pack
_unpack = FROM_CLIENT.unpack


class Front:
    """Receives from clients and sends to them.

    `handlers` has a function of (client, message) for each class of message but `Pong`;
    `gone(client)` is called once for each client that left; `behind(client, unread)` and
    `caught_up(client)` as `max_unread_bytes` has it.  `counters` counts what was dropped, by reason.
    Raises OSError if the socket cannot be bound.
    """

    told_of_refusal: Callable[[Call, Failure], object] = staticmethod(lambda _call, _failure: None)
    """A call was refused here, before the rule book saw it; set by who remembers."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        welcome: Welcome,
        handlers: Mapping[type, Callable[[ClientId, Any], object]],
        gone: Callable[[ClientId], object],
        behind: Callable[[ClientId, int], object] = lambda _client, _unread: None,
        caught_up: Callable[[ClientId], object] = lambda _client: None,
        *,
        lanes: Lanes,
        max_unread_bytes: int = 32 * 2**20,
        max_connections: int = 0,
        remote: Remote | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._loop, self._welcome, self._handlers, self._gone = loop, welcome, handlers, gone
        self._peers: dict[bytes, Peer] = {}
        self._processes = ClientProcesses(loop, self._left)
        self._unsure, self._sent, self._sent_a_turn = True, 0, 0.0
        self._path, self._remote, self._lanes = path, remote, lanes
        gate = Gate(path, max_connections)
        self._readers = Readers(loop, max_unread_bytes, self.send, behind, caught_up, self._cut_off_later)
        self._io_thread = IoThread()
        self._context = zmq.Context(io_threads=1)
        self._socket = self._configured(gate.backlog)
        self._connections = Connections(loop, self._socket, gate, self._left)
        try:
            self._bind()
        except BaseException:
            self._connections.close()
            self._context.destroy(0)
            raise
        # The wrappers of zmq.Socket cost as much as the call itself.
        self._recv: Any = self._socket.recv
        self._get: Any = zmq.backend.Socket.get.__get__(self._socket)
        self._send: Any = zmq.backend.Socket.send.__get__(self._socket)
        self._fd = int(self._get(zmq.FD))
        loop.watch(self._fd, self._on_readable)
        loop.before_wait.append(self._before_wait)

    def _configured(self, backlog: int) -> zmq.Socket[bytes]:
        self._context.set(zmq.THREAD_NAME_PREFIX, self._io_thread.number)
        sock: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
        sock.setsockopt(zmq.SNDHWM, 0)
        sock.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE_MESSAGES)
        sock.setsockopt(zmq.MAXMSGSIZE, max(self._welcome.max_message_bytes, MAX_HEADER_BYTES))
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MILLISECONDS)
        sock.setsockopt(zmq.BACKLOG, backlog)
        sock.copy_threshold = 0  # what is to be lent is lent, whatever its size
        return sock

    def _bind(self) -> None:
        old_umask = os.umask(0o077)
        try:
            self._socket.bind(f"ipc://{self._path}")
        except zmq.ZMQError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        finally:
            os.umask(old_umask)
        if self._remote is not None:
            self._remote.bind(self._socket)

    def send(self, client: ClientId, message: FromDaemon) -> None:
        """Send; silently nothing for a client that has left.  Raises WireError if it cannot be packed."""
        value = getattr(message, "value", None)
        if type(value) is Parcel:
            message = self._lanes.parted(client, message)
        header, *bodies = _pack(message)
        send = self._send
        peer = self._peers.get(client)
        self._unsure = True
        self._sent += 1
        try:
            send(client, _MORE)
            if bodies:
                send(header, _MORE)
                for body in bodies[:-1]:
                    self._send_body(body, peer, _MORE)
                owner = value if type(value) is Parcel else None
                self._send_body(bodies[-1], peer, _NOBLOCK, owner)
            else:
                send(header, _NOBLOCK)
        except zmq.ZMQError as error:
            self._unsendable(client, error)
            return
        if peer is not None:
            reading = peer.reading
            size = len(header) + MESSAGE_BYTES
            if type(value) is Parcel:
                size += lent_bytes(message)
            reading.copied += size
            reading.sent += size
            if reading.sent >= reading.look_at:
                self._readers.look(client, reading)

    def _send_body(self, body: Body, peer: Peer | None, flags: int, owner: object = None) -> None:
        """`owner` is kept until libzmq has done with the body."""
        if peer is None:
            self._send(body, flags)
            return
        reading, size = peer.reading, len(body)
        reading.sent += size
        if size < reading.lend_from:
            self._send(body, flags)
            reading.copied += size
        else:
            reading.lent(size, self._send(body, flags, False, True), owner)
            if owner is not None:
                self._readers.borrows(reading)

    def broadcast(self, message: FromDaemon) -> None:
        for identity in list(self._peers):
            self.send(ClientId(identity), message)

    def connected(self) -> dict[ClientId, tuple[int, str]]:
        """Process id and program name of each client."""
        return {ClientId(identity): (peer.pid, peer.name) for identity, peer in self._peers.items()}

    def close(self, linger_seconds: float = 0.0) -> None:
        """Close the socket; what is still unsent gets `linger_seconds`."""
        self._loop.before_wait.remove(self._before_wait)
        self._loop.unwatch(self._fd)
        self._processes.close()
        self._connections.close()
        if self._remote is not None:
            self._remote.close()
        self._socket.close(int(linger_seconds * 1000))
        self._context.term()
        self._readers.close()
        gc.stop()  # pyzmq's thread for bodies that were sent without a copy

    # Receiving

    def _before_wait(self) -> bool:
        self._sent_a_turn += (self._sent - self._sent_a_turn) / TURNS_REMEMBERED
        self._sent = 0
        self._io_thread.wait_for_its_turn(self._sent_a_turn > MANY_SENT_A_TURN)
        if self._unsure:
            return self._drain()
        return False

    def _on_readable(self, _mask: int) -> None:
        # Something came: to try is cheaper than to ask first, and what follows is asked for later.
        self._unsure = True
        with contextlib.suppress(zmq.Again):
            self._receive()

    def _drain(self) -> bool:
        """Take one turn's messages; whether there are more."""
        get, until = self._get, time.monotonic() + TURN_SECONDS
        for _ in range(MESSAGES_PER_TURN):
            self._unsure = False
            if not get(_EVENTS) & _POLLIN:
                return self._unsure
            self._receive()
            if time.monotonic() > until:
                break
        self._unsure = True
        return True

    def _receive(self) -> None:
        """Take one message.  Raises zmq.Again when there is none."""
        recv = self._recv
        client: ClientId = recv(_NOBLOCK)
        frame = header = recv(_NOBLOCK, False)
        # One that is too long is not copied: it is refused for that.
        frames: list[Body] = [header.bytes if len(header) <= MAX_HEADER_BYTES else NOTHING]
        while frame.more:
            frame = recv(_NOBLOCK, False)
            frames.append(frame.bytes if len(frame) < COPY_BELOW_BYTES else frame.buffer)
            if len(frames) > MAX_FRAMES:
                # Still to be taken off the socket, but an endless message must not gather.
                frames[1:] = [NOTHING] * MAX_FRAMES
        try:
            message = _unpack(frames)
        except WireError as error:
            self._malformed(client, error)
            return
        peer = self._peers.get(client)
        if peer is None:
            self._greet(client, header, message)
        elif isinstance(message, Pong):
            self._readers.acknowledged(client, peer.reading, message.number)
        elif isinstance(message, HandBack):
            self._lanes.handed_back(client, message)
        elif isinstance(message, Hello) or len(message.id) != CALL_ID_BYTES:
            self._malformed(client, WireError("a second hello, or an id that is not 16 bytes"))
        elif len(frames) > 1 and sum(map(len, frames[1:])) > self._welcome.max_message_bytes:
            self._refuse(client, message, self._too_large())
        elif peer.key and (problem := forbidden(message)) is not None:
            self._refuse(client, message, problem)
        elif type(message) is Call and (message.lent is not None or len(message.region)):
            self._receive_parcel(client, message)
        else:
            self._handlers[type(message)](client, message)

    def _receive_parcel(self, client: ClientId, call: Call) -> None:
        """A call whose large data lie apart, perhaps in memory that is lent."""
        if len(call.input) + lent_bytes(call) > self._welcome.max_message_bytes:
            self._refuse(client, call, self._too_large())
            return
        try:
            call = self._lanes.received(client, call)
        except NotALoan as error:
            self._refuse(client, call, Problem(error.code, f"the input cannot be had: {error}"))
            if call.lent is not None:
                self.send(client, HandBack([call.lent.number]))
        else:
            self._handlers[Call](client, call)

    def _malformed(self, identity: bytes, error: WireError) -> None:
        self.counters["malformed"] += 1
        log.debug("dropped a malformed message from %s: %s", identity.hex(), error)

    def _too_large(self) -> Problem:
        limit = self._welcome.max_message_bytes
        text = f"the call's input is over the limit of {limit} bytes (max_message_bytes): send less"
        return Problem("TOO_LARGE", text, details={"limit": limit})

    def _refuse(self, client: ClientId, message: FromClient, problem: Problem) -> None:
        if isinstance(message, Call | Request):
            failure = refusal(message.id, problem)
            self.send(client, failure)
            if isinstance(message, Call):
                self.told_of_refusal(message, failure)

    # Who is there

    def _greet(self, identity: bytes, frame: zmq.Frame, message: FromClient) -> None:
        if not isinstance(message, Hello):
            self.counters["before hello"] += 1
            return
        peer = introduced(frame, message, self._welcome, self._remote, self._readers.new())
        if isinstance(peer, str):
            self.counters["refused"] += 1
            self.send(ClientId(identity), Refused(PROTOCOL, self._welcome.version, peer))
            return
        if not self._connections.bind(peer.fd, identity):
            self.counters["left at its hello"] += 1
            return
        self._admit(identity, peer)
        if not peer.key:
            self._handlers[Hello](ClientId(identity), message)

    def _admit(self, identity: bytes, peer: Peer) -> None:
        self._peers[identity] = peer
        self._processes.add(peer.pid, identity)
        client, welcome = ClientId(identity), self._welcome
        self.send(client, welcome if peer.key else self._lanes.invited(client, welcome, self.send))

    def _unsendable(self, client: ClientId, error: zmq.ZMQError) -> None:
        if error.errno != zmq.EHOSTUNREACH:
            self.counters["unsendable"] += 1
            log.warning("a message to %s was not sent: %s", client.hex(), error)
        elif client in self._peers:
            # Not from within the rule book's turn: it is told when the loop is free again.
            self._loop.post(lambda: self._left(client))

    def _cut_off_later(self, client: ClientId) -> None:
        self._loop.post(lambda: self._cut_off(client))

    def _cut_off(self, client: ClientId) -> None:
        """End the connection of a client that asks for more and more and reads nothing."""
        self._connections.read()
        peer = self._peers.get(client)
        if peer is None:
            return
        self.counters["cut off"] += 1
        log.warning("%s (pid %d) does not read what it asks for: it is cut off", peer.name, peer.pid)
        hang_up(peer.fd, peer.pid)
        self._left(client)

    def admit_keys(self, names: Mapping[bytes, str]) -> int:
        """From now on these keys may come in over TCP; how many connections of others were ended."""
        if self._remote is None:
            return 0
        self._remote.admit(names)
        strangers = [id for id, peer in self._peers.items() if peer.key and not self._remote.knows(peer.key)]
        for identity in strangers:
            hang_up(self._peers[identity].fd, 0)
            self._left(identity)
        return len(strangers)

    def _left(self, identity: bytes) -> None:
        peer = self._peers.pop(identity, None)
        if peer is None:
            return
        self._readers.forget(ClientId(identity))
        self._connections.forget(peer.fd, identity)
        self._processes.discard(peer.pid, identity)
        self._lanes.forget(ClientId(identity))
        self._gone(ClientId(identity))
