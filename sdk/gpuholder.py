"""The process that holds weights which sessions share.

    python -I -c BOOT FOLDER ADDRESS MEMORY_FILE ARGUMENT LINGER_SECONDS DAEMON_PID   (see `gpushare`)

It is nobody's session: it lives while somebody uses what it holds, and some seconds longer.  Who uses it
has a connection to it, which ends with the user, however that ends.

    user                                     holder
      |--- join, make's fingerprint ---------->|
      |<-- make -------------------------------|   to the first; the others wait
      |--- allocate bytes, tensors ----------->|
      |<-- filling, handle --------------------|
      |--- filled ---------------------------->|
      |<-- ready, handle, bytes, tensors ------|   to the others, and to who comes later

A maker that is gone before it has allocated is followed by the next who waits.  One that is gone later
leaves memory that is half filled and may still be mapped: then the holder ends, and who waits starts
another.  Messages are lines of JSON.

The name of its socket is abstract: it goes with the process, and two of one name cannot be.  Both sides
ask the kernel which user the other is.

By itself it would be swept with the session that has started it (`daemon/tree.py`).  So it has a token, a
session and, where workers have them, a cgroup of its own, and a parent that ends at once: the daemon adopts
it.  It dies with the daemon (PDEATHSIG); and its token and run directory are what the daemon's successor
finds leftovers by.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import re
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ADOPTION_SECONDS = 10.0
MAX_MESSAGE_BYTES = 16 * 2**20
READ_BYTES = 64 * 1024
LOOK_AGAIN_SECONDS = 0.002
BACKLOG = 128
_PR_SET_PDEATHSIG = 1
_MOUNT = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .* - cgroup2 ", re.MULTILINE)
_OWN = re.compile(r"^0::(.*)$", re.MULTILINE)

Message = dict[str, Any]


class Memory(Protocol):
    """What a memory file's `Held(argument)` is."""

    def allocate(self, size_bytes: int) -> str:
        """What others open it by.  May raise anything."""


@dataclass(eq=False)
class _User:
    sock: socket.socket
    read: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    fingerprint: str | None = None
    """None until it has joined."""
    waits: bool = False


class Holder:
    """Serves until nobody uses what it holds."""

    def __init__(self, listener: socket.socket, memory_file: str, argument: str, linger: float) -> None:
        self._listener = listener
        self._linger_seconds = linger
        self._source = memory_file, argument
        self._selector = selectors.DefaultSelector()
        self._users: dict[int, _User] = {}
        self._maker: _User | None = None
        self._made = ""
        """The fingerprint of the make that is under way, or was."""
        self._held: Message = {}
        """Handle, bytes and tensors, from the allocation on."""
        self._is_ready = False
        self._is_over = False
        self._memory: Memory | None = None

    def serve(self) -> None:
        """Raises OSError."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        ends_at = time.monotonic() + self._linger_seconds
        while not self._is_over:
            if self._users:
                ends_at = time.monotonic() + self._linger_seconds
            elif time.monotonic() >= ends_at:
                return
            wait = None if self._users else max(0.0, ends_at - time.monotonic())
            for key, _ in self._selector.select(wait):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fd in self._users:
                    self._turn(self._users[key.fd])

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            if user_of(sock) != os.getuid():
                sock.close()
                return
            sock.setblocking(False)
            self._users[sock.fileno()] = _User(sock)
            self._selector.register(sock, selectors.EVENT_READ)

    def _turn(self, user: _User) -> None:
        try:
            self._flush(user)
            data = user.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        user.read += data
        while data and (end := user.read.find(b"\n")) >= 0:
            line = bytes(user.read[:end])
            del user.read[: end + 1]
            try:
                self._take(user, json.loads(line))
            except (ValueError, TypeError, KeyError):
                data = b""
        if not data or len(user.read) > MAX_MESSAGE_BYTES:
            self._leave(user)

    def _take(self, user: _User, message: Message) -> None:
        """Raises KeyError, TypeError, ValueError for what a user does not say."""
        do = message["do"]
        if do == "join" and user.fingerprint is None:
            user.fingerprint, user.waits = str(message["make"]), True
            self._go_on()
        elif do == "allocate" and user is self._maker and not self._held:
            self._allocate(user, int(message["bytes"]), list(message["tensors"]))
        elif do == "filled" and user is self._maker and self._held:
            self._is_ready, self._maker = True, None
            self._go_on()
        else:
            raise ValueError(do)

    def _go_on(self) -> None:
        """Tell those who wait what is there by now, or one of them to make it."""
        for user in [one for one in self._users.values() if one.waits]:
            if (self._maker or self._is_ready) and user.fingerprint != self._made:
                user.waits = False
                self._say(user, {"say": "other"})
            elif self._is_ready:
                user.waits = False
                self._say(user, {"say": "ready", **self._held})
            elif self._maker is None:
                user.waits = False
                self._maker, self._made = user, user.fingerprint or ""
                self._say(user, {"say": "make"})

    def _allocate(self, user: _User, size_bytes: int, tensors: list[Any]) -> None:
        try:
            if self._memory is None:
                self._memory = _memory(*self._source)
            handle = self._memory.allocate(size_bytes)
        except Exception as error:
            self._say(user, {"say": "failed", "why": str(error) or type(error).__name__})
            return
        self._held = {"handle": handle, "bytes": size_bytes, "tensors": tensors}
        self._say(user, {"say": "filling", "handle": handle})

    def _leave(self, user: _User) -> None:
        del self._users[user.sock.fileno()]
        self._selector.unregister(user.sock)
        user.sock.close()
        if user is self._maker:
            self._maker = None
            self._is_over = bool(self._held)
            if not self._is_over:
                self._go_on()

    def _say(self, user: _User, message: Message) -> None:
        user.unsent += json.dumps({**message, "pid": os.getpid()}).encode() + b"\n"
        with contextlib.suppress(OSError):  # its end comes as the end of what can be read
            self._flush(user)

    def _flush(self, user: _User) -> None:
        """Raises OSError."""
        try:
            while user.unsent:
                del user.unsent[: user.sock.send(user.unsent, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            pass
        both = selectors.EVENT_READ | (selectors.EVENT_WRITE if user.unsent else 0)
        self._selector.modify(user.sock, both)


def user_of(sock: socket.socket) -> int:
    """The user id of the process at the other end, or of the one that listens there."""
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


def _memory(file: str, argument: str) -> Memory:
    spec = importlib.util.spec_from_file_location("held_memory", file)
    assert spec is not None and spec.loader is not None, f"{file} is no Python file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Memory = module.Held(argument)
    return found


def main() -> None:
    """Become the holder at that address, unless there is one."""
    address, memory_file, argument, linger, daemon = sys.argv[2:7]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(b"\0" + address.encode())
    except OSError:
        return  # there is one already
    _leave_cgroup(daemon)
    listener.listen(BACKLOG)
    if os.fork():
        os._exit(0)  # and who has started it goes on
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_adopted(int(daemon) if daemon else None)
    # A limit of the worker's own; CUDA maps much more than it uses.
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
    Holder(listener, memory_file, argument, float(linger)).serve()
    os._exit(0)  # nothing of CUDA's own end could matter


def _be_adopted(daemon: int | None) -> None:
    """Wait until the daemon is the parent, and die with it from then on."""
    parent, until = os.getppid(), time.monotonic() + ADOPTION_SECONDS
    while daemon is not None and os.getppid() != daemon:
        if time.monotonic() > until or os.getppid() not in (parent, daemon):
            os._exit(1)  # the daemon is gone
        time.sleep(LOOK_AGAIN_SECONDS)
    if daemon is not None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != daemon:
            os._exit(1)


def _leave_cgroup(daemon: str, root: Path = Path("/")) -> None:
    """Go where the daemon is: what is in a worker's cgroup is killed with it.  Exits where it cannot."""
    own, there = (_cgroup(name, root) for name in ("self", daemon or "self"))
    if own is None or there is None or own == there:
        return
    try:
        (there / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        sys.exit(
            f"it cannot leave its session's cgroup {own} for the daemon's {there} ({error.strerror}), and "
            "would end with that session: let the daemon run without cgroups (setting cgroup), or in the "
            "folder that it was given"
        )


def _cgroup(pid: str, root: Path) -> Path | None:
    """None where there are none of version 2."""
    try:
        name = _OWN.search((root / "proc" / pid / "cgroup").read_text())
        mount = _MOUNT.search((root / "proc/self/mountinfo").read_text())
    except OSError:
        return None
    if name is None or mount is None:
        return None
    below = os.path.relpath(name[1], mount[1])
    return None if below.startswith("..") else root / mount[2].lstrip("/") / below
