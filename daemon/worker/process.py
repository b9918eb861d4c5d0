"""Turns a process that loky (or an exec) has just started into a worker's.

The order matters.  PDEATHSIG comes before the check of the parent: a daemon that died before the
request would never be noticed.  setsid comes before anything the app may start, so that
Ctrl-C at the daemon's terminal reaches no worker.
"""

from __future__ import annotations

import os
import signal
import sys

from warmd.app import FOLDER_VARIABLE as FOLDER_VARIABLE

TOKEN_VARIABLE = "WARMD_WORKER_TOKEN"
DAEMON_PID_VARIABLE = "WARMD_DAEMON_PID"
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
LENT = ("warmd", "warmd.daemon", "warmd.protocol", "warmd.apps", "msgpack")
SESSION_VARIABLE = "WARMD_SESSION_ID"
OOM_SCORE_ADJ = 500
"""The kernel's choice when memory runs out: a worker before the daemon."""

_PR_SET_PDEATHSIG = 1


def folder_name(session: str) -> str:
    """What a session's folder is called: its kind and 12 digits of its id.

    Not all of it, since a socket in there has at most 107 bytes for its path.
    """
    return session[0] + session[5:17]


def is_other_interpreter(python: str) -> bool:
    """Whether `python` is another environment than this one.

    Environments share one real file through links, so the folder counts too.
    """
    here, there = os.path.abspath(sys.executable), os.path.abspath(python)
    same_folder = os.path.dirname(here) == os.path.dirname(there)
    return not (same_folder and os.path.realpath(here) == os.path.realpath(there))


def exec_interpreter(python: str, door_path: str) -> OSError:
    """Replaces this process by a worker in another interpreter; returns only to say why not."""
    for name in os.listdir("/proc/self/fd"):
        # loky's pipes are inheritable and would stay open for good.
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:  # the listing's own descriptor
                continue
    try:
        os.execve(python, [python, WORKER, door_path, *lent()], os.environ)
    except OSError as error:
        return error


def lent() -> list[str]:
    """The packages that a worker needs, as `package=folder`, for `__main__` to find them by."""
    from importlib.util import find_spec

    found = [find_spec(name) for name in LENT]
    return [
        f"{spec.name}={spec.submodule_search_locations[0]}"
        for spec in found
        if spec is not None and spec.submodule_search_locations
    ]


def become_worker() -> None:
    """Parent's death, session, signals and OOM score.  Raises RuntimeError when the daemon is gone."""
    belong_to_daemon()
    _reset_signals()
    _reset_start_method()
    _offer_to_oom_killer()


def belong_to_daemon() -> None:
    """Die with the daemon, in a session of one's own.  Raises RuntimeError when the daemon is gone."""
    _die_with_parent()
    if os.getpid() != os.getsid(0):
        os.setsid()


def daemon_pid() -> int | None:
    """Whose worker this is; None for one that was started by hand."""
    pid = os.environ.get(DAEMON_PID_VARIABLE)
    return None if pid is None else int(pid)


def _die_with_parent() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    expected = daemon_pid()
    if expected is not None and expected != os.getppid():
        raise RuntimeError(f"the daemon (pid {expected}) is gone")


def _reset_signals() -> None:
    # Ignored signals and masks are inherited, through exec too; those two Python ignores itself.
    for signum in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _reset_start_method() -> None:
    # loky makes itself the default, which children that the app spawns do not know: they die at once,
    # and a pool replaces them for ever.  A worker in an interpreter of its own comes without loky.
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None:
        multiprocessing.set_start_method(None, force=True)


def limit_data(data_bytes: int) -> None:
    """Have allocations beyond `data_bytes` fail, in this process and in each of its children.

    Only the soft limit: an app that reserves far more than it uses can lift it for itself.
    """
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = data_bytes if hard == resource.RLIM_INFINITY else min(data_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def join_cgroup(path: str) -> None:
    """Move to the cgroup that the daemon has made for this worker.  Raises OSError."""
    with open(os.path.join(path, "cgroup.procs"), "wb", buffering=0) as file:
        file.write(b"0")


def _offer_to_oom_killer() -> None:
    try:
        with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
            if int(file.read()) < OOM_SCORE_ADJ:
                file.write(b"%d" % OOM_SCORE_ADJ)
    except OSError:  # no /proc, or a sandbox
        return
