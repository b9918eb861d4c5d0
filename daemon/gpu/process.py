"""The GPU helper's process, from the daemon's side: started, spoken to, ended.

* It is started by a thread that lives until the daemon ends: PDEATHSIG goes by thread.
* It stays in the daemon's session, so nobody takes it for an orphan of a worker (`tree`, `leftovers`),
  and only its pidfd is asked for its end.
* It finds modules where the daemon does, and not in the folder in which it happens to be started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgpack

from warmd.daemon.processes import await_exit, exit_of

log = logging.getLogger("warmd.gpu")

MODULE = "warmd.daemon.gpu.helper"
STOP_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 0.01
READ_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 2**20


class Hung(Exception):
    """The helper does not read what it is sent, or answers what nobody can read."""


class HelperProcess:
    """One that has been started; used on the loop's thread alone."""

    def __init__(self, pid: int, pidfd: int, sock: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.sock = sock
        self._unpacker = msgpack.Unpacker(max_buffer_size=MAX_ANSWER_BYTES)

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises Hung; nothing where the helper has ended, which its pidfd tells."""
        data = msgpack.packb(message)
        try:
            sent = self.sock.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(data):
            raise Hung("it does not read what it is sent")

    def answers(self) -> Iterator[Mapping[str, Any]]:
        """What has come by now.  Raises Hung for what is no answer."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self.sock.recv(READ_BYTES):
                try:
                    self._unpacker.feed(data)
                    yield from self._unpacker
                except (ValueError, msgpack.UnpackException) as error:
                    raise Hung(f"what it says cannot be read: {error!r}") from error

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str:
        """Take it off the process table, and say how it ended; empty while it lives."""
        exit = exit_of(self.pidfd)
        if exit is None:
            return ""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        return exit.signal or f"exit code {exit.exit_code}"

    def close(self) -> None:
        self.sock.close()
        os.close(self.pidfd)

    def end(self) -> None:
        """Kill it and wait, for at most 5 s."""
        self.kill()
        if await_exit(self.pidfd, STOP_SECONDS):
            self.reap()
        else:
            log.warning("the GPU helper (pid %d) sleeps in the kernel and cannot be ended", self.pid)
        self.close()


class Starter:
    """`arrived(helper or why there is none)` is called on the starter's thread for each `start`."""

    def __init__(self, driver_name: str, arrived: Callable[[HelperProcess | str], object]) -> None:
        self._driver_name = driver_name
        self._arrived = arrived
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Have a helper started; returns at once.  Raises RuntimeError where there can be no thread."""
        if self._thread is None:
            thread = threading.Thread(target=self._serve, name="warmd-gpu-starter", daemon=True)
            thread.start()
            self._thread = thread
        self._orders.put(True)

    def close(self) -> None:
        """Afterwards nothing arrives; what it has started is not ended by this."""
        self._orders.put(False)
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _serve(self) -> None:
        while self._orders.get():
            try:
                self._arrived(start_helper(self._driver_name))
            except OSError as error:
                self._arrived(f"the GPU helper cannot be started: {error}")


def start_helper(driver_name: str) -> HelperProcess:
    """A helper that dies with the calling thread.  Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        command = [sys.executable, "-P", "-m", MODULE, driver_name, str(os.getpid())]
        pid = os.posix_spawn(
            sys.executable,
            command,
            {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
            setsigmask=(),
            setsigdef=(signal.SIGTERM, signal.SIGPIPE, signal.SIGINT),
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    try:
        return HelperProcess(pid, os.pidfd_open(pid), ours)
    except OSError:
        ours.close()  # by which it ends
        until = time.monotonic() + STOP_SECONDS
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None and time.monotonic() < until:
            time.sleep(LOOK_AGAIN_SECONDS)
        raise
