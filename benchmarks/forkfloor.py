"""The floor of a new session: a process with all that a worker imports forks, and the child answers.

What every new session must do at the least: nobody checks, registers or limits the child.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys
from collections.abc import Callable, Iterator

from benchmarks.peers.children import child, first_line
from benchmarks.peers.work import Work
from warmd.protocol import values

REPLY_SECONDS = 30.0


@contextlib.contextmanager
def running_forkfloor() -> Iterator[Callable[[], object]]:
    """A function that has a child forked and returns at its first answer."""
    ours, theirs = socket.socketpair()
    with ours, contextlib.ExitStack() as stack:
        with theirs:
            server = stack.enter_context(child(__name__, str(theirs.fileno()), pass_fds=[theirs.fileno()]))
        first_line(server)
        ours.settimeout(REPLY_SECONDS)

        def fork() -> None:
            ours.sendall(b"1")
            ours.recv(4096)

        yield fork


def main(descriptor: int) -> None:
    """The process that forks: until the socket is closed."""
    importlib.import_module("warmd.daemon.worker.main")
    link = socket.socket(fileno=descriptor)
    print("ready", flush=True)
    while link.recv(1):
        pid = os.fork()
        if pid == 0:
            link.sendall(values.pack(Work().incr(1)))
            os._exit(0)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
