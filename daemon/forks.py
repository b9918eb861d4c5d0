"""How forks of templates become known: their pids, and that they are the daemon's own children.

A fork is told of twice, by its template and by its coming to the door, in any order.  The first word
counts; before its `Ready` is read at least the second has come.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from warmd.daemon.core.events import AboutWorker, SpawnFailed
from warmd.daemon.held import Worker
from warmd.daemon.launch import Launcher
from warmd.daemon.processes import is_child
from warmd.daemon.worker.shortage import with_remedy
from warmd.protocol.work import Forked, ForkFailed, WorkerId


class Forks:
    """`started(worker, pid, pidfd)` is called for each fork that is there; else `submit(SpawnFailed)`."""

    def __init__(
        self,
        workers: Mapping[WorkerId, Worker],
        launcher: Launcher,
        submit: Callable[[AboutWorker], object],
        started: Callable[[WorkerId, int, int], object],
    ) -> None:
        self._workers = workers
        self._launcher = launcher
        self._submit = submit
        self._started = started

    def arrived(self, id: WorkerId, pid: int) -> None:
        """A process has come to the door."""
        worker = self._workers.get(id)
        if worker is not None and worker.template is not None and worker.pidfd < 0:
            self._take(worker, pid)

    def told(self, template: WorkerId, said: Forked | ForkFailed) -> None:
        """A template can speak only of what it was to fork."""
        worker = self._workers.get(said.worker)
        if worker is None or worker.template != template or worker.pidfd >= 0:
            return
        if isinstance(said, Forked):
            self._take(worker, said.pid)
        else:
            self._submit(SpawnFailed(worker.id, said.message))

    def _take(self, worker: Worker, pid: int) -> None:
        """From now on it is like any child that was spawned: nobody else may reap it."""
        self._launcher.known.add(pid)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            self._refuse(worker, pid, f"its process ended at once, or cannot be held: {with_remedy(error)}")
            return
        if is_child(pidfd):
            self._started(worker.id, pid, pidfd)
        else:
            os.close(pidfd)
            self._refuse(worker, pid, f"its process (pid {pid}) is no child of the daemon")

    def _refuse(self, worker: Worker, pid: int, text: str) -> None:
        self._launcher.known.discard(pid)
        self._submit(SpawnFailed(worker.id, text))
