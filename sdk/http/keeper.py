"""A gateway beside a daemon: it ends with that, and is started again when it ends by itself.

The keeper is a process that does nothing else.  The daemon holds the other end of the lifeline, a pipe
in which nothing is ever written: its end of file, which the gateway sees too, is the daemon's end,
however that came about.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from warmd.protocol.units import spell_seconds

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 60.0
"""What has lived so long was well: the pause after it is the first again."""
ENDING_SECONDS = 15.0
HOPELESS = (2, 78)
"""Exit codes of what another attempt would not mend: usage, configuration."""


def keep(command: Sequence[str], lifeline_fd: int) -> int:
    """Run the command, which gets the lifeline too, until that ends; its last exit code."""
    pause_seconds = FIRST_PAUSE_SECONDS
    while True:
        began = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[lifeline_fd])
        if not _outlives(child, lifeline_fd):
            return _ended(child)
        code = child.wait()
        if code in HOPELESS:
            return code
        if time.monotonic() - began >= HEALTHY_SECONDS:
            pause_seconds = FIRST_PAUSE_SECONDS
        print(
            f"warmd: the HTTP gateway ended ({code}); another starts in {spell_seconds(pause_seconds)}",
            file=sys.stderr,
            flush=True,
        )
        if _readable([lifeline_fd], pause_seconds):
            return code
        pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)


def _outlives(child: subprocess.Popen[bytes], lifeline_fd: int) -> bool:
    """Whether the lifeline outlives the child; waits for the end of one of them."""
    pidfd = os.pidfd_open(child.pid)
    try:
        return lifeline_fd not in _readable([lifeline_fd, pidfd], None)
    finally:
        os.close(pidfd)


def _ended(child: subprocess.Popen[bytes]) -> int:
    """It has seen the end of the lifeline itself; a stuck one is killed."""
    pidfd = os.pidfd_open(child.pid)
    try:
        if not _readable([pidfd], ENDING_SECONDS):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
    return child.wait()


def _readable(descriptors: Sequence[int], seconds: float | None) -> set[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {found for found, _ in poll.poll(None if seconds is None else seconds * 1000)}
