"""What outlives its daemon: processes that a killed one left behind, and those that this one has adopted.

Each process of a worker carries in its environment the token, the run directory, and the pid and the
session of its daemon.  Those of a daemon that lives are spared: one that has lost its run directory, to
somebody who cleans up, goes on serving.

What has lost its environment is found by its parents, and by its session where that was made by the
tree: its leader carries the token, or has ended.  But a worker on its way from exec to `setsid` is still
in its daemon's session, together with strangers, such as the shell of a terminal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from warmd.daemon.launch import DAEMON_PID_VARIABLE, DAEMON_SESSION_VARIABLE, RUN_DIR_VARIABLE
from warmd.daemon.processes import Process, await_exit, kill, list_processes, with_children
from warmd.daemon.worker.process import FOLDER_VARIABLE

END_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 0.01


def kill_leftovers(run_dir: str) -> int:
    """Ends what workers of an earlier daemon of this run directory left behind; how many it was.

    Only to be called by the holder of the run directory's lock.  Raises OSError.
    """
    wanted = os.path.realpath(os.fsencode(run_dir))
    return _kill_all(lambda: _leftovers(list_processes(), wanted))


def kill_adopted() -> int:
    """Ends the orphans that this process has adopted, and all below them; how many it was.

    At the daemon's end, when every worker is gone: also what has lost its token has no place then.
    Raises OSError.
    """
    return _kill_all(lambda: _below(list_processes(), os.getpid()))


def in_service() -> set[int]:
    """The pids of all workers, and of what they have started, whose daemon lives.  Raises OSError."""
    return {process.pid for process in _served()}


def folders_in_service() -> set[str]:
    """The folders of the sessions of these.  Raises OSError."""
    return {os.fsdecode(_variable(process, FOLDER_VARIABLE)) for process in _served()}


def _served() -> list[Process]:
    by_pid = {process.pid: process for process in list_processes()}
    return [process for process in by_pid.values() if process.token and _is_served(process, by_pid)]


def _leftovers(processes: Sequence[Process], run_dir: bytes) -> list[Process]:
    """Those that carry a token of that run directory, those of their sessions, and all below them."""
    by_pid = {process.pid: process for process in processes}
    carriers = {
        process.pid: process
        for process in processes
        if process.token and _is_of(process, run_dir) and not _is_served(process, by_pid)
    }
    sessions = {
        process.session
        for process in carriers.values()
        if process.session in carriers
        or (process.session not in by_pid and process.session != _noted(process, DAEMON_SESSION_VARIABLE))
    }
    roots = [process for process in processes if process.pid in carriers or process.session in sessions]
    # An app of an earlier daemon may itself have started this one.
    return [process for process in with_children(processes, roots) if process.session != os.getsid(0)]


def _is_of(process: Process, run_dir: bytes) -> bool:
    """Whether its daemon had that run directory, by whatever name it was given."""
    named = _variable(process, RUN_DIR_VARIABLE)
    return named == run_dir or (named.startswith(b"/") and os.path.realpath(named) == run_dir)


def _is_served(process: Process, by_pid: Mapping[int, Process]) -> bool:
    """Whether its daemon lives: that one has its workers below it, and adopts what they leave."""
    pid = _noted(process, DAEMON_PID_VARIABLE)
    daemon = by_pid.get(pid)
    if daemon is None or pid == os.getpid() or _noted(daemon, DAEMON_PID_VARIABLE) == pid:
        return False  # it has ended, and its pid is ours now, or was given to one of its tree
    seen: set[int] = set()
    above: Process | None = process
    while above is not None and above.pid not in seen:
        if above.parent == pid:
            return True
        seen.add(above.pid)
        above = by_pid.get(above.parent)
    return False


def _noted(process: Process, name: str) -> int:
    """A number that the daemon wrote into the environment; -1 without it."""
    value = _variable(process, name)
    return int(value) if value.isdigit() else -1


def _variable(process: Process, name: str) -> bytes:
    begins = name.encode() + b"="
    for entry in process.environ.split(b"\0"):
        if entry.startswith(begins):
            return entry.removeprefix(begins)
    return b""


def _below(processes: Sequence[Process], pid: int) -> list[Process]:
    """All below a process, but those of its own session and what is below these."""
    own = os.getsid(0)
    return with_children(processes, [one for one in processes if one.parent == pid and one.session != own])


def _kill_all(find: Callable[[], Sequence[Process]]) -> int:
    """Kills what `find` finds until it finds nothing, for at most 5 s; how many processes it was."""
    killed: set[tuple[int, int]] = set()
    until = time.monotonic() + END_SECONDS
    while (found := find()) and time.monotonic() < until:
        for process in found:
            pidfd = kill(process)
            if pidfd is not None:
                killed.add((process.pid, process.started))
                await_exit(pidfd, LOOK_AGAIN_SECONDS)
                os.close(pidfd)
    return len(killed)
