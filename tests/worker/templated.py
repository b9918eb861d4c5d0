"""A template and its forks, for tests that are their daemon."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from pathlib import Path
from typing import Any

from tests.worker.daemon import TOKEN, ZOO, FakeDaemon
from warmd.daemon.worker import process
from warmd.protocol import work
from warmd.protocol.stream import marked_off
from warmd.protocol.wire import TO_WORKER

SESSION = "tmpl_" + "0" * 32
PR_SET_CHILD_SUBREAPER = 36


class Fork(FakeDaemon):
    """A worker that a template has made, this process's own child."""

    def __init__(self, folder: Path, link: socket.socket, pid: int) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.link = link
        self.pid_of_fork = pid
        assert isinstance(self.next(), work.Arrived)

    @property
    def pid(self) -> int:
        return self.pid_of_fork

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        super().close()


class Template(FakeDaemon):
    """Imports one app and forks; `close` leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.forks: list[Fork] = []
        _adopt(True)

    def prepare(self, target: str, **options: Any) -> Any:
        """Returns Prepared or StartFailed."""
        folder = self.folder / process.folder_name(SESSION)
        self.spawn(env={process.SESSION_VARIABLE: SESSION, process.FOLDER_VARIABLE: str(folder)})
        self.admit()
        spec = work.AppSpec(name="zoo", target=target, **{"paths": (ZOO,), **options})
        assert self.link is not None
        (frame,) = marked_off(TO_WORKER.pack(work.Prepare(SESSION, spec, str(self.log))))
        socket.send_fds(self.link, [frame], [self.page.fd, self.stack_fd])
        return self.next()

    def fork(self) -> Fork:
        """A worker that waits for its `begin`."""
        number = len(self.forks)
        self.tell(work.Fork(work.WorkerId(1 + number), TOKEN, "sess_" + "0" * 32))
        told = self.next()
        assert isinstance(told, work.Forked), told
        link, _ = self.door.accept()
        link.settimeout(self.door.gettimeout())
        self.forks.append(Fork(self.folder / f"fork{number}", link, told.pid))
        return self.forks[-1]

    def close(self) -> None:
        for fork in self.forks:
            fork.close()
        super().close()
        _adopt(False)


def _adopt(adopts: bool) -> None:
    """Whether the orphans among this process's descendants become its children."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(adopts), 0, 0, 0) == 0
