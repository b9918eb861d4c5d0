"""Starts workers, on a thread of their own, through loky's process context.

* PDEATHSIG, which ends the workers when the daemon dies, is tied to the thread that started
  them.  So one starter thread lives as long as the daemon.
* loky's and multiprocessing's clean-up would reap the workers behind our back, and we behind
  theirs.  So a process is struck off multiprocessing's list as soon as it has started,
  loky's object is dropped, and from then on there is only the pidfd.
* The process function lives in an importable module and its arguments are tiny.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.process
import os
import queue
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmd.daemon import descriptors
from warmd.daemon.folders import folder_of
from warmd.daemon.worker.process import FOLDER_VARIABLE
from warmd.daemon.worker.shortage import with_remedy
from warmd.protocol.work import WorkerId

log = logging.getLogger("warmd.launch")

TOKEN_VARIABLE = "WARMD_WORKER_TOKEN"
RUN_DIR_VARIABLE = "WARMD_RUN_DIR"
DAEMON_PID_VARIABLE = "WARMD_DAEMON_PID"
DAEMON_SESSION_VARIABLE = "WARMD_DAEMON_SESSION"
TOKEN_BYTES = 32
STOP_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 0.01
DESCRIPTORS_FOR_A_START = 12
"""loky's two pipes, that of its exec, what becomes of them; the pidfd and the link."""
DESCRIPTORS_AT_ARRIVAL = 2
"""The pidfd and the link."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to start."""

    worker: WorkerId
    name: str
    door_path: str
    env: Mapping[str, str]
    python: str | None
    log_path: str
    """Where the process writes from its first moment on."""
    requirements: str = ""
    """What its own environment is to have."""


def new_token() -> str:
    return secrets.token_hex(TOKEN_BYTES)


def worker_environment(
    user: Mapping[str, str], token: str, session: str, app: str, run_dir: str
) -> dict[str, str]:
    """What a worker's environment has beyond the daemon's own; ours wins over the user's.

    The run directory makes clients inside an app find this daemon, and the next daemon there
    find what this one left behind (`leftovers`).
    """
    return {
        **user,
        TOKEN_VARIABLE: token,
        "WARMD_SESSION_ID": session,
        "WARMD_APP": app,
        RUN_DIR_VARIABLE: run_dir,
        FOLDER_VARIABLE: str(folder_of(Path(run_dir), session)),
        DAEMON_PID_VARIABLE: str(os.getpid()),
        DAEMON_SESSION_VARIABLE: str(os.getsid(0)),
    }


def check_environment(env: Mapping[str, str]) -> None:
    """Raises ValueError for what exec would refuse: loky leaks two descriptors each time it does."""
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"{name[:80]!r} cannot be an environment variable, or its value holds a NUL")


def check_descriptors(coming: int = 0) -> None:
    """Raises OSError where there are not enough for a start: loky leaks some when it runs out half way.

    `coming`: processes that have been ordered and are not at the door yet.
    """
    descriptors.check(DESCRIPTORS_FOR_A_START + DESCRIPTORS_AT_ARRIVAL * coming)


class Launcher:
    """`started(worker, pid, pidfd)` and `failed(worker, text)` are called on the starter thread.

    `known` holds the pids that are waited for by their pidfd; nobody else may reap them.  `forking`
    is held while a process exists that is not in `known` yet.
    """

    def __init__(
        self,
        started: Callable[[WorkerId, int, int], object],
        failed: Callable[[WorkerId, str], object],
    ) -> None:
        self.known: set[int] = set()
        self.forking = threading.Lock()
        self._started = started
        self._failed = failed
        self._orders: queue.SimpleQueue[Launch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="warmd-starter", daemon=True)
        self._thread.start()

    def start(self, launch: Launch) -> None:
        """Have a process started; returns at once."""
        self._orders.put(launch)

    def close(self) -> None:
        """End the starter thread, and by that every worker that still lives."""
        self._orders.put(None)
        self._thread.join(STOP_SECONDS)

    def reap(self, pid: int, pidfd: int) -> None:
        """Take a process that has ended off the process table, and off `known`."""
        with contextlib.suppress(ChildProcessError):
            if os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG) is None:
                return
        self.known.discard(pid)

    def _serve(self) -> None:
        if sys.stdout is None or sys.stderr is None:
            # loky flushes both before each start.
            sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
            sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
        while (launch := self._orders.get()) is not None:
            try:
                check_environment(launch.env)
                check_descriptors()
                with self.forking:
                    pid = _fork(launch)
                    self.known.add(pid)
                pidfd = self._held(pid)
            except Exception as error:
                log.warning("worker %d could not be started: %r", launch.worker, error)
                self._failed(launch.worker, with_remedy(error))
            else:
                self._started(launch.worker, pid, pidfd)


    def _held(self, pid: int) -> int:
        """The pidfd of a process just started; without one it is ended.  Raises OSError."""
        try:
            return os.pidfd_open(pid)
        except OSError:
            # A child that nobody has reaped keeps its pid.
            os.kill(pid, signal.SIGKILL)
            until = time.monotonic() + STOP_SECONDS
            while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None and time.monotonic() < until:
                time.sleep(LOOK_AGAIN_SECONDS)
            self.known.discard(pid)
            raise


class _Environment(dict[str, str]):
    """Given to exec, but not pickled with the process object as well: a child that dies before it has
    read more than a pipe holds would block the starter for ever."""

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[()]]:
        return (dict, ())


def _fork(launch: Launch) -> int:
    # Here, not above: 80 ms of imports that the daemon's own start need not wait for.
    from loky.backend import get_context

    from warmd.daemon.worker.main import start_worker

    context: Any = get_context("loky")
    process = context.Process(
        target=start_worker,
        args=(launch.door_path, launch.python, launch.log_path, launch.requirements),
        name=launch.name,
        env=_Environment(launch.env),
    )
    process.start()
    multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]
    pid: int = process.pid
    return pid
