"""Pyro5: an object in a server process, called through a proxy on a Unix socket.

With marshal, the fastest of its serializers, arrays go as bytes; and without a time-out of its own,
since with one it copies the rest of a large message for each piece that it sends.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import Pyro5.api

from benchmarks.peers import Peer
from benchmarks.peers.children import child, first_line
from benchmarks.peers.work import Work

OBJECT = "work"


@Pyro5.api.expose
class Exposed(Work):
    """Pyro5 shows what is marked; methods of a class above are not, so they are named again."""

    def incr(self, by: int = 1) -> dict[str, int]:
        return super().incr(by)

    def echo(self, input: bytes) -> bytes:
        return input


class PyroObject(Peer):
    name = "Pyro5"
    kind = "proxy"

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def open(self) -> None:
        self._proxy = self._started(self._stack)

    def _started(self, stack: contextlib.ExitStack) -> Any:
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="pyro-")) + "/s"
        first_line(stack.enter_context(child("benchmarks.peers.pyro_object", path)))
        proxy = stack.enter_context(Pyro5.api.Proxy(f"PYRO:{OBJECT}@./u:{path}"))
        proxy._pyroSerializer = "marshal"
        return proxy

    def call(self, by: int) -> int:
        return int(self._proxy.incr(by)["n"])

    def echo(self, array: Any) -> Any:
        import numpy

        return numpy.frombuffer(self._proxy.echo(array.tobytes()), array.dtype)

    def new_session(self) -> Callable[[], object]:
        stack = contextlib.ExitStack()
        with contextlib.ExitStack() as unless_it_starts:
            unless_it_starts.callback(stack.close)
            self._started(stack).incr(1)
            unless_it_starts.pop_all()
        return stack.close

    def close(self) -> None:
        self._stack.close()


def main(path: str) -> None:
    """The server: until it is killed."""
    with Pyro5.api.Daemon(unixsocket=path) as daemon:
        daemon.register(Exposed(), OBJECT)
        print("ready", flush=True)
        daemon.requestLoop()


if __name__ == "__main__":
    main(sys.argv[1])
