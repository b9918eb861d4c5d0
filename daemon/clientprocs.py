"""The clients' processes: one pidfd for each, whatever number of connections it has."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from warmd.daemon import descriptors
from warmd.daemon.loop import Loop

_CREDENTIALS = struct.Struct("3i")


@dataclass(slots=True)
class _Process:
    pidfd: int
    identities: set[bytes]


class ClientProcesses:
    """`died(identity)` is called for each connection of a process that has ended."""

    def __init__(self, loop: Loop, died: Callable[[bytes], object]) -> None:
        self._loop = loop
        self._died = died
        self._processes: dict[int, _Process] = {}

    def add(self, pid: int, identity: bytes) -> None:
        """Watch the process; nothing where there is none to watch: ended, or in another namespace.

        Nor where descriptors are short: its end is noticed when its connection ends.
        """
        process = self._processes.get(pid)
        if process is None:
            try:
                descriptors.check()
                process = _Process(os.pidfd_open(pid), set())
            except (OSError, ValueError):
                return
            self._processes[pid] = process
            self._loop.watch(process.pidfd, lambda _mask: self._on_exit(pid))
        process.identities.add(identity)

    def discard(self, pid: int, identity: bytes) -> None:
        process = self._processes.get(pid)
        if process is None:
            return
        process.identities.discard(identity)
        if not process.identities:
            del self._processes[pid]
            self._release(process)

    def close(self) -> None:
        for process in self._processes.values():
            self._release(process)
        self._processes.clear()

    def _on_exit(self, pid: int) -> None:
        process = self._processes.get(pid)
        for identity in list(process.identities) if process is not None else ():
            self._died(identity)

    def _release(self, process: _Process) -> None:
        self._loop.unwatch(process.pidfd)
        os.close(process.pidfd)


def hang_up(fd: int, pid: int) -> None:
    """End the connection `fd` of libzmq's, if it is that process's.  A ROUTER has no call for this.

    The number could be another socket's by now, hence the look; or nobody's.
    """
    with (
        contextlib.suppress(OSError),
        socket.fromfd(fd, socket.AF_UNIX, socket.SOCK_STREAM) as connection,
    ):
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[0] == pid:
            connection.shutdown(socket.SHUT_RDWR)
