"""Where workers come in: a Unix listener, and one link for each worker.

A worker proves itself with a token of 32 random bytes that was put into its environment, good for
one entry; the kernel vouches for its user and process id.  Its `Begin` goes out with two
descriptors.  From then on its link is one non-blocking socket: what the socket does not take at
once waits in the link's own queue until it does, so a worker that does not read stops nobody.
What one turn of the loop has for a worker leaves in one piece: a send that wakes a process up costs
more than all that the daemon does for a call.

A link's end-of-file is usually the process's exit, seen a moment before its pidfd fires.  So it is
reported as lost only if the exit does not follow (`EXIT_SECONDS`).
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from warmd.daemon import descriptors
from warmd.daemon.loop import READ, WRITE, Loop, Timer
from warmd.protocol.messages import PROTOCOL, Body
from warmd.protocol.stream import Inbox, marked_off
from warmd.protocol.wire import FROM_WORKER, TO_WORKER, WireError
from warmd.protocol.work import Arrived, Begin, FromWorker, Prepare, StartFailed, ToWorker, WorkerId

log = logging.getLogger("warmd.door")

ARRIVAL_SECONDS = 10.0
"""How long a connection may stay without having shown a token."""
EXIT_SECONDS = 0.5
"""From a link's end-of-file to the exit that it announces."""
MAX_STRANGERS = 64
"""Connections without a token at one time; for more the oldest go, of the process that has most."""
ARRIVED_BYTES = 4096
READS_AT_EXIT = 64
"""What a dead worker left in its socket is less than this many reads of 64 KiB."""
BUFFERS_PER_SEND = 64

_CREDENTIALS = struct.Struct("3i")
_unpack = FROM_WORKER.unpack
_pack = TO_WORKER.pack


class Door:
    """`said(worker, message)` and `lost(worker, text)` are called from the loop.

    Raises OSError if the socket cannot be bound.
    """

    arrived: Callable[[WorkerId, int], object] = staticmethod(lambda _worker, _pid: None)
    """A worker has come in, and this is its pid; set by who wants to know."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        max_body_bytes: int,
        said: Callable[[WorkerId, FromWorker], object],
        lost: Callable[[WorkerId, str], object],
    ) -> None:
        self.path = path
        self.turned_away = 0
        self._loop = loop
        self._max_body_bytes = max_body_bytes
        self._said = said
        self._lost = lost
        self._expected: dict[str, tuple[WorkerId, list[Body], Sequence[int]]] = {}
        self._strangers: dict[_Stranger, None] = {}
        self._links: dict[WorkerId, Link] = {}
        self._unflushed: list[Link] = []
        self._listener = _listen(path)
        loop.watch(self._listener.fileno(), self._on_connection)
        loop.turn_ended.append(self._flush)

    def expect(self, token: str, worker: WorkerId, begin: Begin | Prepare, fds: Sequence[int]) -> None:
        """Let the process in that shows `token`, once; it gets `begin` and `fds`, which stay the caller's.

        Raises WireError when `begin` is too large.
        """
        self._expected[token] = (worker, marked_off(_pack(begin)), fds)

    @property
    def coming(self) -> int:
        """How many it expects who have not come yet."""
        return len(self._expected)

    def tell(self, worker: WorkerId, message: ToWorker) -> None:
        """Send; silently nothing to a worker that is not (or no longer) linked."""
        link = self._links.get(worker)
        if link is not None:
            link.send(marked_off(_pack(message)))

    def pause(self, worker: WorkerId, paused: bool) -> None:
        """Read nothing from the worker for now; what it says waits in its socket, and then it does."""
        link = self._links.get(worker)
        if link is not None:
            link.pause(paused)

    def _flush(self) -> None:
        if self._unflushed:
            links, self._unflushed = self._unflushed, []
            for link in links:
                link.flush()

    def read_to_end(self, worker: WorkerId) -> None:
        """Deliver what a worker that has exited left in its socket, then close the link."""
        link = self._links.get(worker)
        if link is not None:
            # Not until end-of-file: a forked child may hold the other end open.
            for _ in range(READS_AT_EXIT):
                if link.ended or not link.read():
                    break
        self.forget(worker)

    def forget(self, worker: WorkerId) -> None:
        """Close the worker's link, and expect it no longer."""
        self._expected = {token: entry for token, entry in self._expected.items() if entry[0] != worker}
        link = self._links.pop(worker, None)
        if link is not None:
            link.close()

    def close(self) -> None:
        for link in list(self._links.values()):
            link.close()
        self._links.clear()
        for stranger in list(self._strangers):
            stranger.close()
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()

    def _on_connection(self, _mask: int) -> None:
        try:
            descriptors.check()
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors: the connection stays in the backlog, and would wake us without end.
            log.warning("no worker can come in: %s", error)
            self._listen_again_in(1.0)
            return
        pid, uid, _gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            self.turned_away += 1
            sock.close()
            return
        sock.setblocking(False)
        self._strangers[_Stranger(self, sock, pid)] = None
        if len(self._strangers) > MAX_STRANGERS:
            self._turn_away(self._most_unlikely())

    def _most_unlikely(self) -> _Stranger:
        """To be a worker: that has one connection, and may be slow to speak."""
        of_process = Counter(stranger.pid for stranger in self._strangers)
        most = max(of_process.values())
        return next(stranger for stranger in self._strangers if of_process[stranger.pid] == most)

    def _listen_again_in(self, seconds: float) -> None:
        self._loop.unwatch(self._listener.fileno())
        self._loop.call_in(seconds, self._listen_again)

    def _listen_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.watch(self._listener.fileno(), self._on_connection)

    def _let_in(self, stranger: _Stranger, arrived: FromWorker) -> None:
        entry = None
        if type(arrived) is Arrived and arrived.pid == stranger.pid:
            entry = self._take_token(arrived.token)
        if entry is None or type(arrived) is not Arrived:
            self._turn_away(stranger)
            return
        worker, begin, fds = entry
        self._strangers.pop(stranger, None)
        link = Link(self, worker, stranger.detach())
        self._links[worker] = link
        if arrived.protocol != PROTOCOL:
            self._said(worker, _of_another_version(arrived))
            return
        link.send(begin, fds)
        self.arrived(worker, stranger.pid)

    def _take_token(self, token: str) -> tuple[WorkerId, list[Body], Sequence[int]] | None:
        for known in self._expected:
            if hmac.compare_digest(known.encode(), token.encode("utf-8", "replace")):
                return self._expected.pop(known)
        return None

    def _turn_away(self, stranger: _Stranger) -> None:
        self.turned_away += 1
        stranger.close()


class _Stranger:
    """A connection that has not shown a token yet."""

    def __init__(self, door: Door, sock: socket.socket, pid: int) -> None:
        self.pid = pid
        self._door = door
        self._sock = sock
        self._inbox = Inbox(0)
        self._timer: Timer = door._loop.call_in(ARRIVAL_SECONDS, self.close)
        door._loop.watch(sock.fileno(), self._on_ready)

    def _on_ready(self, _mask: int) -> None:
        try:
            count = self._sock.recv_into(self._inbox.buffer()[:ARRIVED_BYTES])
            messages = self._inbox.received(count)
            if messages:
                self._door._let_in(self, _unpack(messages[0]))
            elif not count:
                self.close()
        except BlockingIOError:
            return
        except (OSError, WireError):
            self._door._turn_away(self)

    def detach(self) -> socket.socket:
        self._timer.cancel()
        self._door._loop.unwatch(self._sock.fileno())
        return self._sock

    def close(self) -> None:
        self._timer.cancel()
        self._door._strangers.pop(self, None)
        if self._sock.fileno() >= 0:
            self._door._loop.unwatch(self._sock.fileno())
            self._sock.close()


class Link:
    """The daemon's end of one worker's socket."""

    __slots__ = (
        "_blocked",
        "_door",
        "_fd",
        "_inbox",
        "_mask",
        "_paused",
        "_queue",
        "_recv_into",
        "_sock",
        "_timer",
        "ended",
        "worker",
    )

    def __init__(self, door: Door, worker: WorkerId, sock: socket.socket) -> None:
        self.worker = worker
        self.ended = False
        self._door = door
        self._sock = sock
        self._fd = sock.fileno()
        self._recv_into = sock.recv_into
        self._inbox = Inbox(door._max_body_bytes)
        self._queue: deque[Body] = deque()
        self._blocked = False
        self._paused = False
        self._mask = READ
        self._timer: Timer | None = None
        door._loop.watch(self._fd, self._on_ready)

    def send(self, buffers: list[Body], fds: Sequence[int] = ()) -> None:
        """Send at the end of the loop's turn, together with what else it brings for this worker.

        `fds` go at once, with the first bytes; they come with the first message only.
        """
        if self.ended:
            return
        if not self._queue:
            self._door._unflushed.append(self)
        self._queue.extend(buffers)
        if fds:
            # The socket is new and empty, so it takes the first bytes; the reading side sees an end.
            with contextlib.suppress(OSError):
                self._drop(socket.send_fds(self._sock, [buffers[0]], list(fds)))

    def flush(self) -> None:
        """Send what the socket takes, and the rest when it takes more."""
        queue = self._queue
        try:
            while queue:
                if len(queue) == 1:
                    self._drop(self._sock.send(queue[0]))
                else:
                    self._drop(self._sock.sendmsg([*islice(queue, BUFFERS_PER_SEND)]))
        except BlockingIOError:
            self._block(True)
            return
        except OSError:
            queue.clear()  # the reading side sees the same end, and what was said before it
        self._block(False)

    def read(self) -> bool:
        """One read's worth of messages; False when there is nothing now."""
        try:
            count = self._recv_into(self._inbox.buffer())
        except BlockingIOError:
            return False
        except OSError:
            count = 0
        if not count:
            self._end("closed its link to the daemon")
            return False
        worker, said = self.worker, self._door._said
        try:
            for frames in self._inbox.received(count):
                said(worker, _unpack(frames))
        except WireError as error:
            self._end(f"spoke nonsense on its link ({error})", patience_seconds=0)
            return False
        return True

    def close(self) -> None:
        self._stop_watching()
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()
        self._sock.close()

    def _on_ready(self, mask: int) -> None:
        if mask & WRITE:
            self.flush()
        if mask & ~WRITE and not self._paused:
            self.read()

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._watch()

    def _block(self, blocked: bool) -> None:
        if blocked is not self._blocked:
            self._blocked = blocked
            self._watch()

    def _watch(self) -> None:
        mask = (0 if self._paused else READ) | (WRITE if self._blocked else 0)
        if mask == self._mask or self.ended:
            return
        loop, before, self._mask = self._door._loop, self._mask, mask
        # Not watched for nothing at all: epoll would tell of a hang-up again and again.
        if not mask:
            loop.unwatch(self._fd)
        elif not before:
            loop.watch(self._fd, self._on_ready, mask)
        else:
            loop.change(self._fd, mask)

    def _drop(self, count: int) -> None:
        queue = self._queue
        while queue and count >= len(queue[0]):
            count -= len(queue.popleft())
        if count:
            queue[0] = memoryview(queue[0])[count:]

    def _end(self, text: str, patience_seconds: float = EXIT_SECONDS) -> None:
        self._stop_watching()
        report = lambda: self._door._lost(self.worker, text)  # noqa: E731
        self._timer = self._door._loop.call_at(time.monotonic() + patience_seconds, report)

    def _stop_watching(self) -> None:
        if not self.ended:
            self.ended = True
            self._door._loop.unwatch(self._fd)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old_umask = os.umask(0o077)
    try:
        listener.bind(str(path))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(old_umask)
    return listener


def _of_another_version(arrived: Arrived) -> StartFailed:
    text = (
        f"the worker's Python has warmd {arrived.version}, which speaks protocol {arrived.protocol}; "
        f"this daemon speaks protocol {PROTOCOL}: install the daemon's version of warmd there"
    )
    return StartFailed("imports", "VersionMismatch", text, "")
