"""A wire between a client and a daemon that can be listened to, and cut without either being told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Self

PATIENCE_SECONDS = 10.0


class Relay:
    """Forwards each connection to `port`; after `fall_silent` nothing comes through, and nothing closes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.seen = bytearray()
        self._ends: list[socket.socket] = []
        self._silent = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def fall_silent(self) -> None:
        self._silent.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._pass_on, args=(source, target))
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if not self._silent.is_set():
                    self.seen += piece
                    target.sendall(piece)
            if not self._silent.is_set():
                target.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(PATIENCE_SECONDS)
        for end in self._ends:
            end.close()


@contextlib.contextmanager
def relayed(address: str) -> Iterator[tuple[Relay, str]]:
    """A wire to a daemon's TCP address, and the address at its near end."""
    host, _, port = address.rpartition(":")
    with Relay(int(port)) as relay:
        yield relay, f"{host}:{relay.port}"
