"""Which connections the clients' socket has, and whose they are.

Theory
------
* A ROUTER never says that a peer left.  But each message carries the descriptor number of the
  connection that it came through (SRCFD), and the socket's monitor names that number when the
  connection opens and when it closes.  libzmq's one I/O thread tells both, in order.
* A message can be read after its connection has closed, and even after the number went to another
  connection.  So a number is bound to a client only while the monitor has it as open.  Of two
  clients with one number the later holds it: libzmq counts the names up that it gives them.
* The monitor's pipe has no high-water mark: libzmq's I/O thread would wait, and with it all clients.
* ZMQ_FD tells of nothing until the socket was once found empty: hence the first `read`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import zmq

from warmd.daemon.clientprocs import hang_up
from warmd.daemon.gate import Gate
from warmd.daemon.loop import Loop

_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_MONITOR_EVENT = struct.Struct("=hi")
_NAMES = 1 << 32
"""libzmq's names for clients: a zero byte, and four that count round."""


class Connections:
    """`ended(client)` is called for each client whose connection has closed."""

    def __init__(
        self, loop: Loop, socket: zmq.Socket[bytes], gate: Gate, ended: Callable[[bytes], object]
    ) -> None:
        self._loop, self._socket, self._gate, self._ended = loop, socket, gate, ended
        self._clients: dict[int, bytes] = {}
        self._monitor = self._listening()
        self._get: Any = self._monitor.get
        self._fd = int(self._get(zmq.FD))
        loop.watch(self._fd, lambda _mask: self.read())
        self.read()

    def _listening(self) -> zmq.Socket[bytes]:
        endpoint = f"inproc://monitor-{self._socket.fileno()}"
        self._socket.monitor(endpoint, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        monitor: zmq.Socket[bytes] = self._socket.context.socket(zmq.PAIR)
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.connect(endpoint)
        return monitor

    def read(self) -> None:
        """Take note of all that has come and gone by now."""
        while self._get(_EVENTS) & _POLLIN:
            event, endpoint = self._monitor.recv_multipart(zmq.NOBLOCK)
            number, fd = _MONITOR_EVENT.unpack(event)
            if number == zmq.EVENT_ACCEPTED:
                self._accepted(fd, over_tcp=endpoint.startswith(b"tcp:"))
            else:
                if client := self._clients.pop(fd, None):
                    self._ended(client)
                self._gate.went(fd)

    def _accepted(self, fd: int, over_tcp: bool) -> None:
        if not over_tcp:
            self._gate.came(fd)
        elif not self._gate.came_over_tcp(fd):
            hang_up(fd, 0)

    def bind(self, fd: int, client: bytes) -> bool:
        """The connection is this client's; False when the client has left already."""
        self.read()
        holder = self._clients.get(fd)
        if not self._gate.has(fd) or (holder is not None and not _is_later(client, holder)):
            return False
        self._clients[fd] = client
        if holder is not None:
            self._ended(holder)
        return True

    def forget(self, fd: int, client: bytes) -> None:
        """The client has left, however that was found out."""
        if self._clients.get(fd) == client:
            del self._clients[fd]

    def close(self) -> None:
        self._loop.unwatch(self._fd)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._gate.close()


def _is_later(name: bytes, other: bytes) -> bool:
    if not name[0] == other[0] == 0:
        return False  # one that it chose itself, as none of our clients does, displaces nobody
    return 0 < (int.from_bytes(name[1:]) - int.from_bytes(other[1:])) % _NAMES < _NAMES // 2
