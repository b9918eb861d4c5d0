"""Where a daemon is, and how to get to it: over a Unix socket, or over TCP with a key.

libzmq would not say that nobody is there: it waits for somebody to come.  So both are tried with a
plain connection first.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from warmd.protocol import places
from warmd.protocol.errors import DaemonUnavailable, NotAllowed
from warmd.protocol.keys import ClientKey
from warmd.protocol.places import TcpAddress

if TYPE_CHECKING:
    from warmd.transport import Transport

CONNECT_SECONDS = 3.0
_NOBODY = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR)
_UCRED = struct.Struct("3i")


class Place(Protocol):
    """Somewhere that a daemon can be."""

    @property
    def address(self) -> str: ...

    def listening(self) -> bool:
        """Whether a daemon listens there.  Raises DaemonUnavailable or NotAllowed where it is certain
        that it would not let this client in."""

    def open(self) -> Transport:
        """A connection on its way."""


class UnixPlace:
    """A daemon of this user on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.address = places.address_of(path)

    def listening(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            code = probe.connect_ex(os.fspath(self.path))
            if code == 0:
                self._check_owner(probe)
        if code == errno.ENOENT and self._full():
            raise DaemonUnavailable(
                f"the daemon at {self.address} has as many connections as it takes (max_connections): "
                "close clients that are not needed, or raise the setting"
            )
        if code in (errno.EACCES, errno.EPERM):
            raise NotAllowed(f"the daemon at {self.address} is not yours: {os.strerror(code)}")
        if code not in (0, errno.EAGAIN, *_NOBODY):
            raise DaemonUnavailable(f"{self.address}: {os.strerror(code)}")
        return code not in _NOBODY

    def _check_owner(self, probe: socket.socket) -> None:
        """In /tmp anybody could have put a socket where the user's own daemon would be."""
        _, uid, _ = _UCRED.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != os.getuid():
            raise NotAllowed(f"the daemon at {self.address} belongs to uid {uid}, not to you")

    def open(self) -> Transport:
        from warmd.transport import Transport

        return Transport(f"ipc://{self.path}")

    def _full(self) -> bool:
        """Whether a daemon of this user hides its socket because it takes no more connections."""
        try:
            hidden = places.full_path(self.path).lstat()
        except OSError:
            return False
        return hidden.st_uid == os.getuid() and stat.S_ISSOCK(hidden.st_mode)


class TcpPlace:
    """A daemon on any machine that has let this client's key in."""

    def __init__(self, address: TcpAddress, key: ClientKey) -> None:
        self._given, self._key = address, key
        self._found = address
        self.address = str(address)

    def listening(self) -> bool:
        problem: OSError | None = None
        for family, numbers in self._resolved():
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(CONNECT_SECONDS)
                try:
                    probe.connect(numbers)
                except OSError as error:
                    problem = problem or error
                    continue
                self._found = TcpAddress(str(numbers[0]), self._given.port)
                return True
        if isinstance(problem, ConnectionRefusedError):
            return False
        raise DaemonUnavailable(f"{self.address} cannot be reached: {problem or 'it has no address'}")

    def open(self) -> Transport:
        from warmd.transport import Transport

        return Transport(str(self._found), self._key)

    def _resolved(self) -> list[tuple[int, Any]]:
        """Its numbers.  In a thread: the system's resolver has no time-out of ours."""
        found: list[Any] = []

        def resolve() -> None:
            try:
                found.append(socket.getaddrinfo(*self._given, type=socket.SOCK_STREAM))
            except OSError as error:
                found.append(error)

        thread = threading.Thread(target=resolve, name="warmd-resolver", daemon=True)
        thread.start()
        thread.join(CONNECT_SECONDS)
        if not found or isinstance(found[0], OSError):
            why = f"no answer within {CONNECT_SECONDS:g} s" if not found else str(found[0])
            raise DaemonUnavailable(f"{self.address}: the name could not be resolved: {why}")
        return [(family, numbers) for family, _kind, _protocol, _name, numbers in found[0]]


def place_of(address: str, key: str | None) -> UnixPlace | TcpPlace:
    """What an address names.  Raises ValueError, also for a key that is missing or of no use."""
    if not address.startswith(places.TCP_SCHEME):
        if key is not None:
            raise ValueError(f"key: the daemon at {address!r} needs none; it is for tcp://HOST:PORT")
        return UnixPlace(places.path_of(address))
    given = key if key is not None else os.environ.get("WARMD_KEY")
    if not given:
        raise ValueError(
            f"address {address!r} needs a key (key= or WARMD_KEY): "
            "`warmd keys new NAME` on the daemon's machine makes one"
        )
    return TcpPlace(places.tcp_of(address), ClientKey.parse(given))
