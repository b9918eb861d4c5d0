"""Other processes: as /proc shows them, and signalled through a pidfd alone.

A pid may mean another process by the time that it is used.  So a pidfd is opened first, then the
process is looked at once more, and only then it is killed.

What cannot be looked at for want of descriptors is no process that has ended: that raises OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from warmd.daemon.launch import TOKEN_VARIABLE

NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_TOKEN = re.compile(rb"(?:^|\0)" + TOKEN_VARIABLE.encode() + rb"=([0-9a-f]{64})(?:\0|$)")


@dataclass(frozen=True, slots=True)
class Process:
    """One live process; `pid` and `started` together are never given out again."""

    pid: int
    parent: int
    session: int
    started: int
    environ: bytes
    """Empty where it cannot be read."""

    @property
    def token(self) -> bytes | None:
        """The worker's token that it carries in its environment."""
        return _token_in(self.environ)


def list_processes() -> list[Process]:
    """All live processes.  Raises OSError where they cannot be looked at."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [process for pid in pids if (process := look_at(pid))]


def look_at(pid: int) -> Process | None:
    """None for a process that has ended, a zombie included.  Raises OSError where it cannot be told."""
    fields = stat_fields(pid)
    if fields is None or fields[0] in (b"Z", b"X"):
        return None
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), _read(f"/proc/{pid}/environ"))


def with_children(processes: Sequence[Process], roots: Iterable[Process]) -> list[Process]:
    """The roots and all of `processes` below them."""
    found = {process.pid: process for process in roots}
    more = bool(found)
    while more:
        children = [process for process in processes if process.parent in found and process.pid not in found]
        found.update((process.pid, process) for process in children)
        more = bool(children)
    return list(found.values())


def token_in(pid: int) -> bytes | None:
    """The worker's token that the process carries.  Raises OSError where it cannot be told."""
    return _token_in(_read(f"/proc/{pid}/environ"))


def own_children() -> list[int]:
    """The pids of this process's children, of whichever thread."""
    lists = [_read(f"/proc/self/task/{task}/children") for task in os.listdir("/proc/self/task")]
    return [int(pid) for one in lists for pid in one.split()]


def stat_fields(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the state on; the name before it may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split() or None


def kill(process: Process) -> int | None:
    """SIGKILL for exactly this process: its pidfd, or None if it has ended.  Raises OSError."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    try:
        # The pid may have been given out again since it was listed; the pidfd holds on to it now.
        now = look_at(process.pid)
        if now is None or now.started != process.started:
            os.close(pidfd)
            return None
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except BaseException:
        os.close(pidfd)
        raise
    return pidfd


def await_exit(pidfd: int, seconds: float) -> bool:
    """Wait for the end of a process; whether it has come.  (`select` takes no descriptor over 1023.)"""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: exactly one of the two is set."""

    exit_code: int | None
    signal: str | None


def exit_of(pidfd: int) -> Exit | None:
    """How the process ended, None while it lives.  It stays a zombie."""
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        # Some code in this process waited for any child: the exit is certain, its manner lost.
        return Exit(-1, None)
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return Exit(found.si_status, None)
    return Exit(None, signal_name(found.si_status))


def is_child(pidfd: int) -> bool:
    """Whether the process, which may have ended, is this one's to wait for."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _token_in(environ: bytes) -> bytes | None:
    match = _TOKEN.search(environ)
    return match[1] if match else None


def _read(path: str) -> bytes:
    """Empty where the process has ended or hides what is asked for."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
