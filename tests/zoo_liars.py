"""An app of the zoo that speaks to the daemon itself, past its runtime."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from typing import Any

import warmd.app
from warmd.protocol.segments import SEALS


class Lies:
    """`ordinal` is the number that the daemon gave the call that runs."""

    def run(self) -> str:
        return "true"

    def ordinal(self) -> int:
        return self._runtime().ordinal

    def lie(self, data: bytes, stay_seconds: float = 0.0, more: Any = None) -> str:  # noqa: ARG002
        """Put these bytes on the link, as they are; then stay in the call for a while."""
        self._runtime().link.socket.sendall(data)
        time.sleep(stay_seconds)
        return "true"

    def lie_with_files(self, data: bytes, files: int, times: int) -> None:
        """The same again and again, each time with so many descriptors of memory that may be lent."""
        fds = [_sealed() for _ in range(files)]
        for _ in range(times):
            socket.send_fds(self._runtime().link.socket, [data], fds)
        time.sleep(30)

    def _runtime(self) -> Any:
        return warmd.app.context._runtime


def _sealed() -> int:
    fd = os.memfd_create("warmd-lent", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd
