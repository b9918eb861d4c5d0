"""The floor of floors: one message there and back between two processes on a Unix socket."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator

from benchmarks.floor import BATCH_BYTES, REPLY_SECONDS, reply_frames, request_frames
from benchmarks.peers.children import child


@contextlib.contextmanager
def running_pingpong() -> Iterator[Callable[[], object]]:
    """A function that sends a call's bytes to another process and waits for an answer's."""
    request = b"".join(request_frames())
    ours, theirs = socket.socketpair()
    with ours, contextlib.ExitStack() as stack:
        with theirs:
            stack.enter_context(child(__name__, str(theirs.fileno()), pass_fds=[theirs.fileno()]))
        ours.settimeout(REPLY_SECONDS)

        def call() -> None:
            ours.sendall(request)
            ours.recv(BATCH_BYTES)

        yield call


def main(descriptor: int) -> None:
    """The other process: until the socket is closed."""
    link, reply = socket.socket(fileno=descriptor), b"".join(reply_frames())
    while link.recv(BATCH_BYTES):
        link.sendall(reply)


if __name__ == "__main__":
    main(int(sys.argv[1]))
