"""ZeroMQ's protocol by hand (ZMTP 3.1, rfc.zeromq.org/spec/37), for peers that break it or leave midway."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

PATIENCE_SECONDS = 20.0
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity" + bytes(4)


def connected(path: Path) -> socket.socket:
    """A connection that has said nothing; the caller closes it."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))  # with a timeout it would fail at once where others wait too
    connection.settimeout(PATIENCE_SECONDS)
    return connection


def shake_hands(connection: socket.socket) -> bool:
    """Say who is there and hear who answers; False if the other side has closed."""
    return all(_exchanged(connection, said) for said in (GREETING, READY))


def _exchanged(connection: socket.socket, said: bytes) -> bool:
    """The other side says as much; it would not hear what comes before it has spoken."""
    heard = 0
    with contextlib.suppress(ConnectionError):
        connection.sendall(said)
        while heard < len(said) and (data := connection.recv(len(said) - heard)):
            heard += len(data)
    return heard == len(said)


def frame(data: bytes, more: bool = False) -> bytes:
    """A short message's frame, as it goes over the wire."""
    return bytes([more, len(data)]) + data
