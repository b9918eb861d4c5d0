"""How many connections the clients' socket takes: libzmq's listener aborts the process without descriptors.

Connections are counted, also those that never say a word, and from `max_connections` on the socket's
file gets another name until some have closed.  (`unbind` would end them all.)  The number of the
descriptor that a connection got says how many are open at least, whatever for: from a mark on
(`descriptors`) it closes the gate too.  Clients that find the other name know why they find no
daemon (`places.full_path`).
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from warmd.daemon import descriptors
from warmd.protocol import places

log = logging.getLogger("warmd.front")

OPEN_AGAIN_BELOW = 0.9
"""Of the connections at which no more were let in."""


class Gate:
    """`most`: connections at one time; 0 for half of the descriptors that this process may have."""

    def __init__(self, path: Path, most: int) -> None:
        half = descriptors.most() // 2
        self.most = min(most or half, half)
        self.backlog = descriptors.backlog()
        self._path = path
        self._hidden_path = places.full_path(path)
        self._mark = descriptors.mark()
        self._closed_at = 0
        """How many there were when the gate closed; 0: it is open."""
        self._connections: set[int] = set()
        self._remote: set[int] = set()
        """Those of them that came over TCP."""

    def came(self, fd: int) -> None:
        """One more connection through the Unix socket."""
        self._connections.add(fd)
        self._close_if_full(fd)

    def came_over_tcp(self, fd: int) -> bool:
        """The same over TCP, where nobody can be kept from connecting: whether it may stay.

        Strangers come that way too, before they show a key.  They get half of the places at most.
        """
        if self._closed_at or len(self._remote) >= self.most // 2:
            return False
        self._remote.add(fd)
        self.came(fd)
        return True

    def _close_if_full(self, fd: int) -> None:
        connections = self._connections
        if not self._closed_at and (len(connections) >= self.most or fd >= self._mark):
            log.warning("%d connections: no more until some of them close", len(connections))
            self._closed_at = len(connections)
            _rename(self._path, self._hidden_path)

    def has(self, fd: int) -> bool:
        return fd in self._connections

    def went(self, fd: int) -> None:
        self._connections.discard(fd)
        self._remote.discard(fd)
        if self._closed_at and len(self._connections) < self._closed_at * OPEN_AGAIN_BELOW:
            self._closed_at = 0
            _rename(self._hidden_path, self._path)

    def close(self) -> None:
        if self._closed_at:
            with contextlib.suppress(OSError):
                self._hidden_path.unlink()


def _rename(old: Path, new: Path) -> None:
    try:
        os.rename(old, new)
    except OSError as error:
        # Somebody took the file or its directory away: who is connected is to be served all the same.
        log.warning("%s cannot become %s: %s", old, new.name, error.strerror)
