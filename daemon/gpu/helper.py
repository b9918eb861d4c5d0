"""The daemon's GPU helper: the one process that loads the libraries of GPUs.

    python -m warmd.daemon.gpu.helper DRIVER DAEMON_PID        its socket is descriptor 0

They may crash or hang, and then nobody is harmed but those whose memory was being moved.  Looks share one
thread; each move has its own, since the driver moves several processes nearly in parallel.  The helper
ends with its socket, whatever its threads do.
"""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import msgpack

from warmd.daemon.gpu.driver import GpuError, open_driver
from warmd.daemon.gpu.told import packed_error, packed_gpu
from warmd.daemon.gpu.trees import Trees

log = logging.getLogger("warmd.gpu")

READ_BYTES = 64 * 1024
MAX_REQUEST_BYTES = 64 * 1024
_PR_SET_PDEATHSIG = 1

Request = dict[str, Any]


class Helper:
    """Serves one daemon, which is at the other end of `sock`."""

    def __init__(self, sock: socket.socket, driver_name: str, daemon_pid: int) -> None:
        self._sock = sock
        self._driver_name = driver_name
        self._daemon_pid = daemon_pid
        self._trees: Trees | None = None
        self._opening = threading.Lock()
        self._sending = threading.Lock()
        self._looks: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def serve(self) -> None:
        """Answer until the daemon is gone.  Raises OSError, ValueError."""
        threading.Thread(target=self._look_on, name="warmd-gpu-look", daemon=True).start()
        unpacker = msgpack.Unpacker(max_buffer_size=MAX_REQUEST_BYTES)
        while data := self._sock.recv(READ_BYTES):
            unpacker.feed(data)
            for request in unpacker:
                if request["do"] == "look":
                    self._looks.put(request)
                else:
                    args = (request, self._work(request))
                    name = f"warmd-gpu-{request['do']}"
                    threading.Thread(target=self._answer, args=args, name=name, daemon=True).start()

    def _look_on(self) -> None:
        while True:
            request = self._looks.get()
            self._answer(request, lambda: [packed_gpu(gpu) for gpu in self._opened().look()])

    def _work(self, request: Request) -> Callable[[], Any]:
        """Raises KeyError, ValueError."""
        do, token = request["do"], request["token"]
        if do == "checkpoint":
            return lambda: astuple(self._opened().checkpoint(token, request["lock_seconds"]))
        if do == "restore":
            return lambda: astuple(self._opened().restore(token))
        if do == "settle":
            return lambda: astuple(self._opened().settle(token, request["seconds"]))
        if do == "state":
            return lambda: list(self._opened().states(token).items())
        raise ValueError(f"the daemon asks for {do!r}")

    def _answer(self, request: Request, work: Callable[[], Any]) -> None:
        try:
            answer = {"id": request["id"], "result": work()}
        except GpuError as error:
            answer = {"id": request["id"], "error": packed_error(error)}
        except Exception as error:
            log.exception("a request to %s failed", request["do"])
            answer = {"id": request["id"], "error": packed_error(_unexpected(request["do"], error))}
        try:
            with self._sending:
                self._sock.sendall(msgpack.packb(answer))
        except OSError:
            return  # the daemon is gone, and `serve` ends

    def _opened(self) -> Trees:
        """Raises GpuError; the next request tries again."""
        with self._opening:
            if self._trees is None:
                self._trees = Trees(open_driver(self._driver_name), self._daemon_pid)
            return self._trees


def _unexpected(do: str, error: Exception) -> GpuError:
    text = f"{type(error).__name__}: {error}"
    if do in ("look", "state") or (isinstance(error, OSError) and do != "settle"):
        return GpuError("unavailable", text)
    return GpuError("failed", f"nobody knows how far the move has come: {text}", "lost")


def main() -> None:
    """Serve the daemon that has started this process."""
    driver_name, daemon_pid = sys.argv[1], int(sys.argv[2])
    logging.basicConfig(format="gpu helper: %(levelname)s %(message)s")
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != daemon_pid:
        return
    # At a terminal they are meant for the daemon, which ends its helper.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sock = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), 0)
    os.dup2(2, 1)
    status = 1
    try:
        Helper(sock, driver_name, daemon_pid).serve()
        status = 0
    except Exception:
        log.exception("the helper ends")
    sys.stderr.flush()
    os._exit(status)  # its threads may be stuck in a driver


if __name__ == "__main__":
    main()
