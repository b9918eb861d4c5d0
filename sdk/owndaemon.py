"""A daemon of one's own: for programs that use warmd as a library, and for tests."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from warmd.client import Client
from warmd.connect import await_ready
from warmd.protocol import places

ENDING_SECONDS = 15.0


class LocalClient(Client):
    """A client of a daemon that lives as long as it does; see `local`."""

    def __init__(self, daemon: OwnDaemon) -> None:
        super().__init__(places.address_of(places.socket_path(daemon.run_dir)))
        self._daemon = daemon

    @property
    def run_dir(self) -> Path:
        """The daemon's directory; its logs are in there."""
        return self._daemon.run_dir

    @property
    def daemon_pid(self) -> int:
        return self._daemon.process.pid

    def close(self) -> None:
        """End the daemon and all its sessions."""
        super().close()
        self._daemon.close()


class OwnDaemon:
    """A daemon as a child process, in a private directory.

    It ends at end-of-file of a pipe whose other end is here, so also when this process is killed.
    """

    def __init__(self, settings: Mapping[str, object]) -> None:
        # Short: the name of a Unix socket has 107 bytes.
        self.run_dir = Path(tempfile.mkdtemp(prefix="warmd-"))
        self.log_path = self.run_dir / "daemon.log"
        lifeline, self._lifeline = os.pipe()
        ready, ready_end = os.pipe()
        try:
            with open(self.log_path, "ab") as log:
                self.process = self._started(lifeline, ready_end, log, settings)
        finally:
            os.close(lifeline)
            os.close(ready_end)
        self.close = weakref.finalize(self, _end, self.process, self._lifeline, self.run_dir)
        try:
            await_ready(ready, None)
        except BaseException as error:
            if isinstance(error, ConnectionError):
                error.add_note(_tail(self.log_path))
            self.close()
            raise
        finally:
            os.close(ready)

    def _started(
        self, lifeline: int, ready_end: int, log: IO[bytes], settings: Mapping[str, object]
    ) -> subprocess.Popen[bytes]:
        # fmt: off
        command = [
            sys.executable, "-m", "warmd", "serve", "--private", "--run-dir", os.fspath(self.run_dir),
            "--ready-fd", str(ready_end), "--lifeline-fd", str(lifeline),
        ]
        # fmt: on
        for name, value in settings.items():
            command.append(f"--setting={name}={_spelled(value)}")
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            pass_fds=(lifeline, ready_end), start_new_session=True,
        )  # fmt: skip


def local(**settings: object) -> LocalClient:
    """Start a daemon for this program alone and return its client; `close()` or a `with` block ends it.

    `settings` are those of the daemon, such as `max_sessions=4` (`warmd serve --help` lists them).  The
    daemon is a child process and ends with this one, however that ends.  Raises DaemonUnavailable.
    """
    return LocalClient(OwnDaemon(settings))


def _end(process: subprocess.Popen[bytes], lifeline: int, run_dir: Path) -> None:
    os.close(lifeline)
    if process.pid == os.getpid() or process.returncode is not None:
        return
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        pidfd = os.pidfd_open(process.pid)
        try:
            # A child that this process forked may hold the pipe open: then it takes the signals.
            for sent in (None, signal.SIGTERM, signal.SIGKILL):
                if sent is not None:
                    signal.pidfd_send_signal(pidfd, sent)
                if _has_ended(pidfd):
                    break
        finally:
            os.close(pidfd)
        process.wait(ENDING_SECONDS)
    shutil.rmtree(run_dir, ignore_errors=True)


def _has_ended(pidfd: int) -> bool:
    """Waits for it.  (`select` takes no descriptor over 1023.)"""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(ENDING_SECONDS * 1000))


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return os.pathsep.join(map(str, value))
    return str(value)


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")[-4000:]
    return ""
