"""What the daemon does before it opens its doors: a directory of its own, the one lock, limits.

The order matters.  The lock is taken before any socket is removed or bound, since libzmq's bind
silently takes over the socket of a daemon that lives.  What lies where a socket belongs
is removed only if it is a socket.  The lock file itself is never removed while others may wait for
it: a lock on a removed file protects nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import shutil
import stat
from pathlib import Path

from warmd.daemon import folders
from warmd.protocol import places
from warmd.protocol.errors import told

LOGS, DAEMON_LOG, KEYS = "logs", "daemon.log", "keys"
"""What a run directory that was chosen explicitly holds besides (`places.state_dir`)."""


class StartError(Exception):
    """The daemon cannot run here; the text says why and what to do."""


class AlreadyRunning(StartError):
    """Another daemon holds the run directory."""

    def __init__(self, run_dir: Path, pid: str) -> None:
        address = places.address_of(places.socket_path(run_dir))
        super().__init__(
            f"another daemon runs in {run_dir} (pid {pid}); reach it at {address}, "
            "end it with `warmd stop`, or choose another directory with --run-dir"
        )


class RunDirectory:
    """The run directory, ours alone while this object is open."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd

    @staticmethod
    def take(path: Path) -> RunDirectory:
        """Creates, checks and locks it, and clears what a dead daemon left.  Raises StartError.

        `path` is refused where it is a symbolic link or another user's, and where the sockets'
        names would be too long; nothing has been created by then.
        """
        try:
            for name in (places.socket_path(path), places.door_path(path)):
                places.check_socket_path(name)
            places.make_private_dir(path)
            taken = RunDirectory(path, _lock(path))
        except (OSError, ValueError) as error:
            raise StartError(f"the run directory {path} cannot be used: {told(error)}") from error
        try:
            taken._clear()
            taken._write_pid()
        except BaseException:
            taken.close()
            raise
        return taken

    def close(self, remove: bool = False) -> None:
        """Gives the directory up; `remove` deletes it too, with its logs.

        Only what is the daemon's is deleted: a directory that holds other files stays, with them.  So
        does one that was made since by another daemon, after ours had been removed.
        """
        if self._lock_fd < 0:
            return
        if _same_file(self._lock_fd, places.lock_path(self.path)):
            self._delete(remove)
        os.close(self._lock_fd)
        self._lock_fd = -1

    def _delete(self, remove: bool) -> None:
        with contextlib.suppress(OSError, StartError):
            self._clear()
        names = [places.pid_path(self.path)]
        if remove:
            for folder in (LOGS, KEYS):
                shutil.rmtree(self.path / folder, ignore_errors=True)
            folders.remove_from(self.path / folders.FOLDERS, frozenset)
            names += [self.path / DAEMON_LOG, places.lock_path(self.path)]
        for name in names:
            with contextlib.suppress(OSError):
                name.unlink()
        if remove:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def _clear(self) -> None:
        socket = places.socket_path(self.path)
        for name in (socket, places.full_path(socket), places.door_path(self.path)):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISSOCK(name.lstat().st_mode):
                    raise StartError(f"{name} is in the way and is not a socket: remove it yourself")
                name.unlink()

    def _write_pid(self) -> None:
        try:
            path = places.pid_path(self.path)
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            with open(path, "x", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError:
            # For people only; a full disk must not keep the daemon from starting.
            return


def _lock(run_dir: Path) -> int:
    path = places.lock_path(run_dir)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _same_file(fd, path):
            # Its owner removed the directory between our open and our lock.
            raise OSError(errno.EAGAIN, "it was removed just now, try again")
    except BlockingIOError:
        os.close(fd)
        raise AlreadyRunning(run_dir, _read_pid(run_dir)) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except OSError:
        return False


def _read_pid(run_dir: Path) -> str:
    try:
        text = places.pid_path(run_dir).read_text(encoding="ascii", errors="replace")[:20].strip()
    except OSError:
        return "unknown"
    return text if text.isdigit() else "unknown"


def harden() -> None:
    """Files of the daemon are for its user alone, and descriptors do not run out early.

    libzmq's ipc listener aborts the process when a connection meets EMFILE.
    """
    os.umask(0o077)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
