"""`multiprocessing.managers`: an object in a server process, called through a proxy on a Unix socket."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.managers import BaseManager
from typing import Any

from benchmarks.peers import Peer
from benchmarks.peers.work import Work


class Manager(BaseManager):
    pass


Manager.register("Work", Work)


class ManagerProxy(Peer):
    name = "multiprocessing manager"
    kind = "proxy"

    def open(self) -> None:
        self._manager, self._work = self._started()

    def _started(self) -> tuple[Manager, Any]:
        # To fork is the default before Python 3.14, and unsafe beside the threads of other libraries.
        manager = Manager(ctx=multiprocessing.get_context("forkserver"))
        manager.start()
        return manager, manager.Work()  # type: ignore[attr-defined]

    def call(self, by: int) -> int:
        return int(self._work.incr(by)["n"])

    def echo(self, array: Any) -> Any:
        return self._work.echo(array)

    def new_session(self) -> Callable[[], object]:
        manager, work = self._started()
        work.incr(1)
        return manager.shutdown

    def close(self) -> None:
        if hasattr(self, "_manager"):
            self._manager.shutdown()
