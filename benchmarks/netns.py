"""A network of the run's own, with nothing but loopback: what listens in it, nobody outside can reach.

Entered by the process itself, before it starts anything, so all its children are in it too.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
_INTERFACE = struct.Struct("16sh22x")

_failure: str | None = "this run has no network of its own"


def enter() -> None:
    """Take a new network namespace, and where that needs it a user namespace; `why_not` if that fails.

    Before any thread is started: the kernel gives a process with threads no user namespace.
    """
    global _failure
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.unshare(flags) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if flags & CLONE_NEWUSER:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        _bring_up_loopback()
    except OSError as error:
        _failure = f"no network namespace can be had here: {error.strerror}"
    else:
        _failure = None


def is_own() -> bool:
    """Whether `enter` has succeeded."""
    return _failure is None


def why_not() -> str:
    """The reason, for people; empty where `is_own`."""
    return _failure or ""


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, SIOCGIFFLAGS, _INTERFACE.pack(b"lo", 0))
        _, flags = _INTERFACE.unpack(asked)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, _INTERFACE.pack(b"lo", flags | IFF_UP))
