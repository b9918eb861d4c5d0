"""What helps where the system has no more of something."""

from __future__ import annotations

import errno

_REMEDIES = {
    errno.EMFILE: "; end sessions, or give the daemon more open files (`ulimit -n`)",
    errno.ENFILE: "; the machine has no more open files",
    errno.EAGAIN: "; end sessions, or allow more processes (`ulimit -u`, the cgroup's pids.max)",
    errno.ENOMEM: "; there is not enough memory: end sessions",
}


def with_remedy(error: Exception) -> str:
    """The error's text, and what to do about it if it is a shortage."""
    return f"{error}{_REMEDIES.get(getattr(error, 'errno', None) or 0, '')}"
