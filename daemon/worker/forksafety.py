"""Whether forks of this process would be sound: what an import may have started that a fork breaks.

So may the app's `prepare`, which runs right after it.

A fork has the one thread that forked.  Locks that other threads held stay locked in it for ever, and
what they did is not done any more.  But libraries can prepare for forks: OpenBLAS ends its threads
before each one and makes new ones when it needs them.  So where there are threads a fork is tried:
those that are gone afterwards belong to who knows about forks, those that stay do not.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
import warnings

from warmd.daemon.worker import torchuse

TRIAL_SECONDS = 5.0
_NO_GPU = "a process that has used a GPU cannot be forked, so use it first in setup"
FORK_PROOF_THREADS = {
    "jemalloc_bg_thd": "jemalloc starts its threads anew after a fork",
    "polars-ooc-clea": "only removes what polars has spilled to disk",
}
"""By the name that the kernel has, of at most 15 characters: threads that stay and yet do no harm."""


def open_sockets() -> frozenset[str]:
    """The sockets that this process holds."""
    links = (_link(fd) for fd in os.listdir("/proc/self/fd"))
    return frozenset(link for link in links if link.startswith("socket:"))


def objection(sockets_before: frozenset[str], prepares: bool = False) -> str:
    """Why a fork of this process would be no good worker; empty where it would be one.

    `sockets_before`: those that were open before the app was imported.  `prepares`: it has a `prepare`.
    """
    by = "importing it, or its prepare()," if prepares else "importing it"
    if torchuse.cuda_in_use() is not None:
        return f"{by} initialised CUDA in torch: {_NO_GPU}"
    if gpu := sorted(filter(_is_gpu, map(_link, os.listdir("/proc/self/fd")))):
        asks = ", as torch.cuda.is_available() does" if "torch" in sys.modules else ""
        return f"{by} opened {gpu[0]}{asks}: {_NO_GPU}"
    if open_sockets() - sockets_before:
        return f"{by} opened a socket, which all forks would share: connect in setup instead"
    if children := _children():
        return f"{by} started a process (pid {children[0]}), which would be no child of a fork"
    if _threads() and (text := _trial()):
        return text
    if staying := [name for name in _threads() if name not in FORK_PROOF_THREADS]:
        return f"{by} started a thread ({staying[0]}), which a fork would not have: start it in setup"
    return ""


def fork() -> int:
    """`os.fork`, without the warning about threads: these have been looked at."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _trial() -> str:
    """Fork once, so that threads that end before a fork do; why that cannot be done."""
    pid = fork()
    if not pid:
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        hangs = not poll.poll(TRIAL_SECONDS * 1000)
        if hangs:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    finally:
        os.close(pidfd)
    return f"a trial fork of it hung for {TRIAL_SECONDS:g} s" if hangs else ""


def _threads() -> list[str]:
    """The names of all threads but the main one; Python's own where it has started them."""
    named = {thread.native_id: thread.name for thread in threading.enumerate()}
    tasks = sorted(map(int, os.listdir("/proc/self/task")))
    return [named.get(task) or _comm(task) for task in tasks if task != os.getpid()]


def _children() -> list[int]:
    tasks = os.listdir("/proc/self/task")
    return [int(pid) for task in tasks for pid in _read(f"/proc/self/task/{task}/children").split()]


def _comm(task: int) -> str:
    return _read(f"/proc/self/task/{task}/comm").decode("utf-8", "replace").rstrip("\n")


def _is_gpu(link: str) -> bool:
    if not link.startswith(("/dev/nvidia", "/dev/kfd", "/dev/dri/")):
        return False
    try:
        return stat.S_ISCHR(os.stat(link).st_mode)
    except OSError:
        return False


def _link(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # the listing's own descriptor
        return ""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
