"""Process trees: finding all that a worker has left behind, ending it, and reaping it.

A worker's processes carry its token in their environment, whatever they did to their parents,
groups and sessions.  Processes whose environment cannot be read (a sandbox that made
itself undumpable) or was overwritten are found as children of members, and as members of the
worker's own session.  That is safe because the worker stays a zombie until its tree is swept: so
long no stranger can get its pid, nor a session of that number.

One sweeper thread does all of this; each pass over /proc serves every tree that is being ended.  It
looks and kills through descriptors, and keeps two in reserve for when there are no others left.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from warmd.daemon import cgroup
from warmd.daemon.folders import Removal
from warmd.daemon.launch import STOP_SECONDS, Launcher
from warmd.daemon.processes import (
    NO_DESCRIPTORS,
    Process,
    kill,
    list_processes,
    own_children,
    stat_fields,
    with_children,
)
from warmd.protocol.work import WorkerId

log = logging.getLogger("warmd.tree")

SWEEP_SECONDS = 5.0
"""A process that outlives SIGKILL for so long sleeps in the kernel and cannot be killed."""
LOOK_AGAIN_SECONDS = 0.25
"""A fork may have outrun the last pass while something else of the tree dies slowly."""
BREATH_SECONDS = 0.005
"""Before the next look where all that was found had ended by itself, and for a small folder to go."""
REMOVAL_SECONDS = 0.05
"""Before the next look where only a large folder is yet to go."""
RESERVE = 2
"""To kill one process: its pidfd, and a look into /proc meanwhile."""

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
    folder: Path | None
    removal: Removal | None = None
    dying: dict[int, int] = field(default_factory=dict)
    """pid -> pidfd of those that were sent SIGKILL and have not ended."""


class _Reserve:
    """Descriptors for times when the process has no others."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def fill(self) -> None:
        """As far as there are any."""
        with contextlib.suppress(OSError):
            while len(self._held) < RESERVE:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def give_up(self) -> None:
        while self._held:
            os.close(self._held.pop())


class Sweeper:
    """Ends trees on a thread of its own.

    `swept(worker, stuck)` is called there when nothing of the tree and its folder is left, or after
    5 s with the pids that cannot be killed.  The worker itself is killed but not reaped: the loop waits
    for it.
    """

    def __init__(self, launcher: Launcher, swept: Callable[[WorkerId, tuple[int, ...]], object]) -> None:
        self._launcher = launcher
        self._swept = swept
        self._ordered: deque[_Tree] = deque()
        self._orphans = False
        self._stopping = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._reserve = _Reserve()
        self._reserve.fill()
        self._thread = threading.Thread(target=self._serve, name="warmd-sweeper", daemon=True)
        self._thread.start()

    def sweep(
        self,
        worker: WorkerId,
        token: str,
        leader: int,
        cgroup: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        """Have the tree of a worker ended, and its `folder` removed; `leader` is the worker's pid.

        Returns at once.
        """
        give_up_at = time.monotonic() + SWEEP_SECONDS
        self._ordered.append(_Tree(worker, token.encode(), leader, give_up_at, cgroup, folder))
        os.eventfd_write(self._bell, 1)

    def reap_orphans(self) -> None:
        """Have adopted processes that ended taken off the process table (on SIGCHLD)."""
        self._orphans = True
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        self._stopping = True
        os.eventfd_write(self._bell, 1)
        self._thread.join(STOP_SECONDS)
        self._reserve.give_up()
        os.close(self._bell)

    def _serve(self) -> None:
        trees: list[_Tree] = []
        while not self._stopping:
            self._await(trees)
            while self._ordered:
                trees.append(self._ordered.popleft())
            try:
                trees = self._pass(trees)
            except OSError as error:
                log.warning("what sessions have left cannot be looked for: %s", error)
                time.sleep(LOOK_AGAIN_SECONDS)
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
        until = time.monotonic() + _pause_seconds(trees, bool(dying))
        while True:
            for fd, _ in poll.poll(max(0.0, until - time.monotonic()) * 1000 if trees else None):
                if fd == self._bell:
                    os.eventfd_read(fd)
                    return
                poll.unregister(fd)
                self._ended(*dying.pop(fd))
            if trees and (not dying or time.monotonic() >= until):
                return

    def _pass(self, trees: list[_Tree]) -> list[_Tree]:
        """Kills what there is of all trees; the trees that are not gone yet.  Raises OSError."""
        self._reserve.fill()
        try:
            return self._look_and_kill(trees)
        except OSError as error:
            if error.errno not in NO_DESCRIPTORS:
                raise
        self._reserve.give_up()
        try:
            return self._look_and_kill(trees)
        finally:
            self._reserve.fill()

    def _look_and_kill(self, trees: list[_Tree]) -> list[_Tree]:
        if self._orphans:
            self._reap()
        processes = list_processes() if trees else []
        over: dict[WorkerId, tuple[int, ...]] = {}
        for tree in trees:
            found = members(processes, tree.token, tree.leader, _inside(tree.cgroup))
            self._kill(tree, found, trees)
            # Where all of them ended by themselves just now, there may be more.
            there = tree.dying or [process.pid for process in found]
            if (not there and _is_removed(tree)) or time.monotonic() >= tree.give_up_at:
                over[tree.worker] = tuple(sorted(there))
        if over:
            self._reap()
        for tree in trees:
            if tree.worker in over:
                _close_all(tree)
                self._swept(tree.worker, over[tree.worker])
        return [tree for tree in trees if tree.worker not in over]

    def _kill(self, tree: _Tree, found: Iterable[Process], trees: Iterable[_Tree]) -> None:
        for process in found:
            if process.pid in tree.dying:
                continue
            try:
                pidfd = kill(process)
            except OSError as error:
                if error.errno in NO_DESCRIPTORS and any(one.dying for one in trees):
                    return  # the ends of those give descriptors back
                raise
            if pidfd is not None:
                tree.dying[process.pid] = pidfd

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
        worker's tree has left that session before the app could start anything.  Raises OSError.
        """
        session = os.getsid(0)
        self._orphans = False
        try:
            with self._launcher.forking:
                for pid in own_children():
                    stat = stat_fields(pid)
                    orphan = stat and int(stat[3]) != session and pid not in self._launcher.known
                    if stat and orphan and stat[0] == b"Z":
                        with contextlib.suppress(ChildProcessError):
                            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        except OSError:
            self._orphans = True
            raise


def _pause_seconds(trees: Iterable[_Tree], some_die: bool) -> float:
    """Until the next look, unless something happens before."""
    if some_die:
        return LOOK_AGAIN_SECONDS
    return REMOVAL_SECONDS if all(tree.removal is not None for tree in trees) else BREATH_SECONDS


def _is_removed(tree: _Tree) -> bool:
    """Whether what the tree, which is gone, had for files is gone too: has it removed."""
    if tree.removal is None and tree.folder is not None:
        tree.removal = Removal(tree.folder)
        tree.removal.wait(BREATH_SECONDS)
    return tree.removal is None or tree.removal.is_over


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
        if process.token == token or process.session == leader or process.pid in inside:
            found.append(process)
    return with_children(processes, found)


def orphans(known: Container[int]) -> list[int]:
    """This process's children that are neither `known` nor its own helpers: adopted from workers.

    Raises OSError where they cannot be looked at.
    """
    session = os.getsid(0)
    found = []
    for pid in own_children():
        stat = stat_fields(pid) if pid not in known else None
        if stat is not None and int(stat[3]) != session:
            found.append(pid)
    return found


def _close_all(tree: _Tree) -> None:
    for pidfd in tree.dying.values():
        os.close(pidfd)
    tree.dying.clear()
