"""A road to a gateway that can be cut while somebody travels on it."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

import httpx

CHUNK_BYTES = 65536


class Relay:
    """Passes bytes on both ways, in a thread; `cut` breaks off all that is under way."""

    def __init__(self, url: str) -> None:
        parsed = httpx.URL(url)
        self._target = (parsed.host, parsed.port or 80)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*self._server.getsockname())
        self._selector = selectors.DefaultSelector()
        self._wake, self._awake = socket.socketpair()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._pass_on)
        self._thread.start()

    def cut(self) -> None:
        """Returns before it has happened; who reads sees it soon."""
        self._wake.send(b"c")

    def close(self) -> None:
        self._wake.send(b"q")
        self._thread.join()
        for held in (self._selector, self._server, self._wake, self._awake):
            held.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pass_on(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._awake:
                    told = self._awake.recv(1)
                    for one in [*self._pairs]:
                        self._drop(one)
                    if told == b"q":
                        return
                elif key.fileobj is self._server:
                    self._join()
                elif key.fileobj in self._pairs:
                    self._move(key.fileobj)  # type: ignore[arg-type]

    def _join(self) -> None:
        near, _ = self._server.accept()
        far = socket.create_connection(self._target)
        for one, other in ((near, far), (far, near)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _move(self, one: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = one.recv(CHUNK_BYTES)
            self._pairs[one].sendall(data)
        if not data:
            self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is not None:
            self._selector.unregister(one)
            one.close()
            self._drop(other)
