"""Where workers come in: a Unix listener, and one link for each worker.

A worker proves itself with a token of 32 random bytes that was put into its environment, good for
one entry; the kernel vouches for its user and process id.  Its `Begin` goes out with two
descriptors.  From then on it has a `Link`.  Clients come here to open their lanes (`lanes`).
"""

from __future__ import annotations

import hmac
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from warmd.daemon import descriptors
from warmd.daemon.core.events import Word
from warmd.daemon.lanes import MOST_FILES, Lanes, close_all
from warmd.daemon.links import Link
from warmd.daemon.loans import Loans
from warmd.daemon.loop import Loop, Timer
from warmd.protocol.messages import PROTOCOL, Body
from warmd.protocol.stream import Inbox, marked_off
from warmd.protocol.wire import FROM_WORKER, TO_WORKER, WireError
from warmd.protocol.work import Arrived, Begin, FromWorker, Prepare, StartFailed, ToWorker, WorkerId

log = logging.getLogger("warmd.door")

ARRIVAL_SECONDS = 10.0
"""How long a connection may stay without having shown a token."""
MAX_STRANGERS = 64
"""Connections without a token at one time; for more the oldest go, of the process that has most."""
ARRIVED_BYTES = 4096
READS_AT_EXIT = 64
"""What a dead worker left in its socket is less than this many reads of 64 KiB."""

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
        said: Callable[[WorkerId, Word], object],
        lost: Callable[[WorkerId, str], object],
        max_lent_bytes: int = 0,
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
        self.loans = Loans(loop, max_lent_bytes)
        self.lanes = Lanes(self.loans, self._look)
        self._listener = _listen(path)
        self._deaf = False
        """Out of descriptors: who comes has to wait."""
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
            link.tell(message)

    def pause(self, worker: WorkerId, paused: bool) -> None:
        """Read nothing from the worker for now; what it says waits in its socket, and then it does."""
        link = self._links.get(worker)
        if link is not None:
            link.pause(paused)

    def _flush(self) -> None:
        if self._unflushed:
            links = self._unflushed[:]
            self._unflushed.clear()
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
        self.lanes.close()
        for stranger in list(self._strangers):
            stranger.close()
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()

    def _look(self) -> None:
        """Take in what waits: somebody's lane may be among it."""
        while self._accept():
            pass
        for stranger in list(self._strangers):
            stranger.look()

    def _on_connection(self, _mask: int) -> None:
        self._accept()

    def _accept(self) -> bool:
        """Take in one connection; whether there was one."""
        try:
            descriptors.check()
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            # Out of descriptors: the connection stays in the backlog, and would wake us without end.
            log.warning("no worker can come in: %s", error)
            self._listen_again_in(1.0)
            return False
        pid, uid, _gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            self.turned_away += 1
            sock.close()
            return True
        sock.setblocking(False)
        self._strangers[_Stranger(self, sock, pid)] = None
        if len(self._strangers) > MAX_STRANGERS:
            self._turn_away(self._most_unlikely())
        return True

    def _most_unlikely(self) -> _Stranger:
        """To be a worker: that has one connection, and may be slow to speak."""
        of_process = Counter(stranger.pid for stranger in self._strangers)
        most = max(of_process.values())
        return next(stranger for stranger in self._strangers if of_process[stranger.pid] == most)

    def _listen_again_in(self, seconds: float) -> None:
        if self._deaf:
            return  # somebody has looked in between
        self._deaf = True
        self._loop.unwatch(self._listener.fileno())
        self._loop.call_in(seconds, self._listen_again)

    def _listen_again(self) -> None:
        self._deaf = False
        if self._listener.fileno() >= 0:
            self._loop.watch(self._listener.fileno(), self._on_connection)

    def _heard(self, stranger: _Stranger, said: list[FromWorker], fds: list[int]) -> None:
        """What a stranger has said first; descriptors come only from who opens a lane."""
        if self.lanes.arrived(stranger.sock, stranger.inbox, said, fds):
            self._strangers.pop(stranger, None)
            stranger.detach()
            return
        close_all(fds)
        self._let_in(stranger, said[0])

    def _let_in(self, stranger: _Stranger, arrived: FromWorker) -> None:
        entry = None
        if type(arrived) is Arrived and arrived.pid == stranger.pid:
            entry = self._take_token(arrived.token)
        if entry is None or type(arrived) is not Arrived:
            self._turn_away(stranger)
            return
        worker, begin, fds = entry
        self._strangers.pop(stranger, None)
        sock, inbox = stranger.detach(), Inbox(self._max_body_bytes)
        link = Link(self._loop, worker, sock, inbox, self.loans, self._unflushed, self._said, self._lost)
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
        self.sock = sock
        self.inbox = Inbox(0)
        self._door = door
        self._timer: Timer = door._loop.call_in(ARRIVAL_SECONDS, self.close)
        door._loop.watch(sock.fileno(), lambda _mask: self.look())

    def look(self) -> None:
        """Read what has come of it."""
        fds: list[int] = []
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, ARRIVED_BYTES, MOST_FILES, socket.MSG_CMSG_CLOEXEC)
            said = [_unpack(frames) for frames in self.inbox.feed(data)]
        except BlockingIOError:
            return
        except (OSError, WireError):
            close_all(fds)
            self._door._turn_away(self)
            return
        if said:
            self._door._heard(self, said, fds)
            return
        close_all(fds)
        if not data:
            self.close()

    def detach(self) -> socket.socket:
        self._timer.cancel()
        self._door._loop.unwatch(self.sock.fileno())
        return self.sock

    def close(self) -> None:
        self._timer.cancel()
        self._door._strangers.pop(self, None)
        if self.sock.fileno() >= 0:
            self._door._loop.unwatch(self.sock.fileno())
            self.sock.close()


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
