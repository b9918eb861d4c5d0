"""Process trees: finding all that a worker has left behind, ending it, and reaping it.

A worker's processes carry its token in their environment, whatever they did to their parents,
groups and sessions.  Processes whose environment cannot be read (a sandbox that made
itself undumpable) or was overwritten are found as children of members, and as members of the
worker's own session.  That is safe because the worker stays a zombie until its tree is swept: so
long no stranger can get its pid, nor a session of that number.

Signals go out through a pidfd alone: opened, then the process looked at once more, then killed.
One sweeper thread does all of this; each pass over /proc serves every tree that is being ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from warmd.daemon import cgroup
from warmd.daemon.launch import STOP_SECONDS, TOKEN_VARIABLE, Launcher
from warmd.protocol.work import WorkerId

log = logging.getLogger("warmd.tree")

SWEEP_SECONDS = 5.0
"""A process that outlives SIGKILL for so long sleeps in the kernel and cannot be killed."""
LOOK_AGAIN_SECONDS = 0.25
"""A fork may have outrun the last pass while something else of the tree dies slowly."""

_TOKEN = re.compile(rb"(?:^|\0)" + TOKEN_VARIABLE.encode() + rb"=([0-9a-f]{64})(?:\0|$)")
_RUN_DIR = re.compile(rb"(?:^|\0)WARMD_RUN_DIR=([^\0]*)")
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphans of the workers become children of this process.  Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@dataclass(slots=True)
class _Tree:
    """One worker's processes, being ended."""

    worker: WorkerId
    token: bytes
    leader: int
    give_up_at: float
    cgroup: Path | None
    dying: dict[int, int] = field(default_factory=dict)
    """pid -> pidfd of those that were sent SIGKILL and have not ended."""


class Sweeper:
    """Ends trees on a thread of its own.

    `swept(worker, stuck)` is called there when nothing of the tree is left, or after 5 s with the
    pids that cannot be killed.  The worker itself is killed but not reaped: the loop waits for it.
    """

    def __init__(self, launcher: Launcher, swept: Callable[[WorkerId, tuple[int, ...]], object]) -> None:
        self._launcher = launcher
        self._swept = swept
        self._ordered: deque[_Tree] = deque()
        self._orphans = False
        self._stopping = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="warmd-sweeper", daemon=True)
        self._thread.start()

    def sweep(self, worker: WorkerId, token: str, leader: int, cgroup: Path | None = None) -> None:
        """Have the tree of a worker ended; `leader` is the worker's pid.  Returns at once."""
        give_up_at = time.monotonic() + SWEEP_SECONDS
        self._ordered.append(_Tree(worker, token.encode(), leader, give_up_at, cgroup))
        os.eventfd_write(self._bell, 1)

    def reap_orphans(self) -> None:
        """Have adopted processes that ended taken off the process table (on SIGCHLD)."""
        self._orphans = True
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        self._stopping = True
        os.eventfd_write(self._bell, 1)
        self._thread.join(STOP_SECONDS)
        os.close(self._bell)

    def _serve(self) -> None:
        trees: list[_Tree] = []
        while not self._stopping:
            self._await(trees)
            while self._ordered:
                trees.append(self._ordered.popleft())
            try:
                trees = self._pass(trees)
            except Exception:
                log.exception("a sweep failed")
                time.sleep(LOOK_AGAIN_SECONDS)
        for tree in trees:
            _close_all(tree)

    def _await(self, trees: Iterable[_Tree]) -> None:
        """Waits for the ends of what was killed, up to the next look; without trees, for an order."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        dying = {pidfd: (tree, pid) for tree in trees for pid, pidfd in tree.dying.items()}
        for pidfd in dying:
            poll.register(pidfd, select.POLLIN)
        until = time.monotonic() + LOOK_AGAIN_SECONDS
        while dying or not trees:
            for fd, _ in poll.poll(max(0.0, until - time.monotonic()) * 1000 if trees else None):
                if fd == self._bell:
                    os.eventfd_read(fd)
                    return
                poll.unregister(fd)
                self._ended(*dying.pop(fd))
            if trees and time.monotonic() >= until:
                return

    def _pass(self, trees: list[_Tree]) -> list[_Tree]:
        """Kills what there is of all trees; the trees that are not gone yet."""
        if self._orphans:
            self._orphans = False
            self._reap()
        processes = list_processes() if trees else []
        left = []
        for tree in trees:
            found = members(processes, tree.token, tree.leader, _inside(tree.cgroup))
            for process in found:
                if process.pid not in tree.dying and (pidfd := _kill(process)) is not None:
                    tree.dying[process.pid] = pidfd
            if tree.dying and time.monotonic() < tree.give_up_at:
                left.append(tree)
            elif found and not tree.dying:
                left.append(tree)  # all of them ended by themselves just now: look once more
        gone = [tree for tree in trees if tree not in left]
        if gone:
            self._reap()
        for tree in gone:
            stuck = tuple(sorted(tree.dying))
            _close_all(tree)
            self._swept(tree.worker, stuck)
        return left

    def _ended(self, tree: _Tree, pid: int) -> None:
        pidfd = tree.dying.pop(pid)
        if pid not in self._launcher.known:
            # Nobody's child of ours while its parent lives; that one's end makes it our orphan.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        os.close(pidfd)

    def _reap(self) -> None:
        """Reaps adopted orphans one by one: waiting for any child would steal the workers' ends.

        Children in the daemon's own session are its own (resource trackers), never orphans: a
        worker's tree has left that session before the app could start anything.
        """
        session = os.getsid(0)
        with self._launcher.forking:
            for pid in _children():
                stat = _stat(pid)
                if stat and stat[0] == b"Z" and int(stat[3]) != session and pid not in self._launcher.known:
                    with contextlib.suppress(ChildProcessError):
                        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


@dataclass(frozen=True, slots=True)
class Process:
    """One live process; `pid` and `started` together are never given out again."""

    pid: int
    parent: int
    session: int
    started: int
    environ: bytes
    """Empty where it cannot be read."""


def list_processes() -> list[Process]:
    """All live processes."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [process for pid in pids if (process := look_at(pid))]


def look_at(pid: int) -> Process | None:
    """None for a process that has ended, a zombie included."""
    stat = _stat(pid)
    if stat is None or stat[0] in (b"Z", b"X"):
        return None
    return Process(pid, int(stat[1]), int(stat[3]), int(stat[19]), _read(f"/proc/{pid}/environ"))


def _inside(group: Path | None) -> Container[int]:
    """What a cgroup holds, which is killed as a whole first: no fork outruns that."""
    if group is None:
        return ()
    cgroup.kill(group)
    return cgroup.pids(group)


def members(
    processes: Sequence[Process], token: bytes, leader: int, inside: Container[int] = ()
) -> list[Process]:
    """Those of `processes` that belong to the tree, its leader and those `inside` its cgroup included."""
    found = []
    for process in processes:
        match = _TOKEN.search(process.environ)
        carries = match is not None and match[1] == token
        if carries or process.session == leader or process.pid in inside:
            found.append(process)
    return _with_children(processes, found)


def _with_children(processes: Sequence[Process], members: Sequence[Process]) -> list[Process]:
    """The members and all below them."""
    found = {process.pid: process for process in members}
    more = bool(found)
    while more:
        children = [process for process in processes if process.parent in found and process.pid not in found]
        found.update((process.pid, process) for process in children)
        more = bool(children)
    return list(found.values())


def orphans(known: Container[int]) -> list[int]:
    """This process's children that are neither `known` nor its own helpers: adopted from workers."""
    session = os.getsid(0)
    found = []
    for pid in _children():
        stat = _stat(pid) if pid not in known else None
        if stat is not None and int(stat[3]) != session:
            found.append(pid)
    return found


def token_in(pid: int) -> bytes | None:
    """The worker's token that the process carries in its environment."""
    match = _TOKEN.search(_read(f"/proc/{pid}/environ"))
    return match[1] if match else None


def kill_leftovers(run_dir: str) -> int:
    """Ends what workers of an earlier daemon of this run directory left behind; how many it was.

    Only to be called by the holder of the run directory's lock.
    """
    wanted = os.fsencode(run_dir)
    return _kill_all(lambda: _leftovers(list_processes(), wanted))


def kill_adopted() -> int:
    """Ends the orphans that this process has adopted, and all below them; how many it was.

    At the daemon's end, when every worker is gone: also what has lost its token has no place then.
    """
    return _kill_all(lambda: _below(list_processes(), os.getpid()))


def _leftovers(processes: Sequence[Process], run_dir: bytes) -> list[Process]:
    """Those that carry a token of that run directory, those of their sessions, and all below them.

    A carrier is in a session that its own tree has made: the worker's, or one made since.
    """
    carriers = []
    for process in processes:
        match = _RUN_DIR.search(process.environ)
        if match is not None and match[1] == run_dir and _TOKEN.search(process.environ):
            carriers.append(process)
    sessions = {process.session for process in carriers}
    found = _with_children(processes, [process for process in processes if process.session in sessions])
    # An app of an earlier daemon may itself have started this one.
    return [process for process in found if process.session != os.getsid(0)]


def _below(processes: Sequence[Process], pid: int) -> list[Process]:
    """All below a process, but those of its own session and what is below these."""
    children = [process for process in processes if process.parent == pid]
    return _with_children(processes, [process for process in children if process.session != os.getsid(0)])


def _kill_all(find: Callable[[], Sequence[Process]]) -> int:
    """Kills what `find` finds until it finds nothing, for at most 5 s; how many processes it was."""
    killed: set[tuple[int, int]] = set()
    until = time.monotonic() + SWEEP_SECONDS
    while (found := find()) and time.monotonic() < until:
        for process in found:
            pidfd = _kill(process)
            if pidfd is not None:
                killed.add((process.pid, process.started))
                select.select([pidfd], [], [], 0.01)
                os.close(pidfd)
    return len(killed)


def _kill(process: Process) -> int | None:
    """SIGKILL for exactly this process: its pidfd, or None if it has ended."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # The pid may have been given out again since it was listed; the pidfd holds on to it now.
    now = look_at(process.pid)
    if now is None or now.started != process.started:
        os.close(pidfd)
        return None
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    return pidfd


def _close_all(tree: _Tree) -> None:
    for pidfd in tree.dying.values():
        os.close(pidfd)
    tree.dying.clear()


def _children() -> list[int]:
    """The pids of this process's children, of whichever thread."""
    lists = [_read(f"/proc/self/task/{task}/children") for task in os.listdir("/proc/self/task")]
    return [int(pid) for one in lists for pid in one.split()]


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the state on; the name before it may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split() or None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
