"""Whose tree a process belongs to, by the worker's token, and which processes a tree has.

The token stands in the environment that /proc shows.  A process that has overwritten that memory, to
call itself something else in `ps` (setproctitle does), belongs where its parents do.  Nothing is kept
between two looks: a template that becomes a worker changes its token in place.
"""

from __future__ import annotations

import os

from warmd.daemon.processes import list_processes, stat_fields, token_in, with_children

_MOST_PARENTS = 64


def token_of(pid: int, daemon_pid: int) -> str:
    """The token of the tree; empty for strangers, for `daemon_pid`, and for a process that has ended.

    Raises OSError where it cannot be told.
    """
    for _ in range(_MOST_PARENTS):
        fields = stat_fields(pid)
        if pid in (daemon_pid, os.getpid()) or fields is None or fields[0] in (b"Z", b"X"):
            return ""
        found = token_in(pid) or token_in(int(fields[3]))
        if found:
            return found.decode()
        pid = int(fields[1])
        if pid <= 1:
            return ""
    return ""


def pids_of(token: str) -> list[int]:
    """The living processes of a tree.  Raises OSError where they cannot be looked at."""
    processes = list_processes()
    carriers = [process for process in processes if process.token == token.encode()]
    mine = with_children(processes, carriers)
    return sorted(
        process.pid
        for process in mine
        if process.token in (None, token.encode()) and process.pid != os.getpid()
    )
