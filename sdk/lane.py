"""The way of large data between this client and the daemon: a Unix connection for descriptors alone.

It is opened at the daemon's door with the first large value, sent or received, and used when the daemon
has said that it has it: one that has no descriptors left leaves it waiting there.  A descriptor is sent
on it before the message that names it goes out on the other connection: so when a message is here, so is
its descriptor, and nobody waits for one.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

from warmd.protocol.mappings import Borrowed, Mappings
from warmd.protocol.messages import Lent, Welcome
from warmd.protocol.parcels import APART_BYTES, Leaves, Region
from warmd.protocol.segments import Pool, leaves_few
from warmd.protocol.stream import descriptors_in, marked_off
from warmd.protocol.wire import FROM_WORKER, WireError
from warmd.protocol.work import LANE_NUMBER, Lend

OPENING_SECONDS = 0.05
"""How long the first large value waits for the daemon's word, before it goes the other way."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(4)
_RECEIVING = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)


class Lane:
    """The `Carrier` of one connection.  `returned()` is called, at any time and in any thread, when there
    is something in `done_with`."""

    def __init__(self, door_path: str, welcome: Welcome, returned: Callable[[], object]) -> None:
        self.pool = Pool(welcome.max_lent_bytes)
        self.done_with: deque[tuple[int, bool]] = deque()
        """Of the daemon's segments, those that nobody here reads any more; whether a fork may read it."""
        self._door_path = door_path
        self._key = welcome.lane
        self._returned = returned
        self._socket: socket.socket | None = None
        self._tried = False
        self._welcome = False
        self._patience_seconds = OPENING_SECONDS
        self._mappings = Mappings(self._let_go)
        self._records: list[Any] = []
        self._arrived: dict[int, int] = {}
        self._claimed: dict[int, Borrowed] = {}

    @property
    def used(self) -> bool:
        return self._socket is not None

    @property
    def keeps_memory(self) -> bool:
        """Whether there is something to `trim`, or will be."""
        return self.pool.holds_memory or self._mappings.holds_memory

    def lend(self, region: Region) -> Lent | None:
        if not isinstance(region, Leaves) or len(region) < APART_BYTES or not self._is_open():
            return None
        found = self.pool.lend(region)
        if found is None:
            return None
        lent, fd = found
        if self._send(Lend(self._key, lent.number), [fd]):
            return lent
        self.pool.handed_back([lent.number])
        return None

    def settled(self) -> None:
        self.pool.settled()

    def borrow(self, lent: Lent) -> Borrowed:
        held = self._claimed.get(lent.number)
        if held is None:
            self._receive()
            fd = self._arrived.pop(lent.number, None)
            if fd is None:
                raise WireError(f"segment {lent.number} is named, and its descriptor has not come")
            held = self._claimed[lent.number] = Borrowed(self._mappings, lent, fd)
        return held

    def taken(self) -> None:
        """The message whose regions were borrowed will not be handed over once more."""
        self._claimed.clear()

    def handed_back(self, numbers: list[int], left: list[int]) -> None:
        self.pool.handed_back(numbers, left)

    def open(self) -> bool:
        """Whether the lane is there; tries to open it, once."""
        if not self._tried:
            self._tried = True
            self._connect()
        return self._socket is not None

    def _is_open(self) -> bool:
        """Whether the daemon has the lane."""
        if self.open() and not self._welcome and self._socket is not None:
            seconds, self._patience_seconds = self._patience_seconds, 0.0
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            poll.poll(seconds * 1000)
            self._receive()
        return self._welcome and self._socket is not None

    def trim(self, now: float) -> float | None:
        """Let go what was not needed for a while; when to do so again."""
        dues = [due for due in (self.pool.trim(now), self._mappings.trim(now)) if due is not None]
        return min(dues, default=None)

    def close(self) -> None:
        self._tried = True
        self._give_up()
        for fd in self._arrived.values():
            if fd >= 0:
                os.close(fd)
        self._arrived.clear()
        self.taken()
        self.pool.close()
        self._mappings.close()

    def _connect(self) -> None:
        # Without a lane all goes the other way.
        with contextlib.suppress(OSError), contextlib.ExitStack() as unused:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            unused.enter_context(sock)
            if leaves_few(sock.fileno()):
                return
            sock.connect(self._door_path)
            unused.pop_all()
            self._socket = sock
            self._send(Lend(self._key), [])

    def _send(self, message: Lend, fds: list[int]) -> bool:
        assert self._socket is not None, "the lane was opened"
        (record,) = marked_off(FROM_WORKER.pack(message))
        try:
            # Not by `send_fds`, which ignores flags: a program may want SIGPIPE, but not of this.
            if self._socket.sendmsg([record], _rights(fds), socket.MSG_NOSIGNAL) == len(record):
                return True
        except BlockingIOError:
            return False
        except OSError:
            pass
        self._give_up()  # torn in two, or closed by the daemon
        return False

    def _give_up(self) -> None:
        self._receive()  # messages that name what is in there are still to come
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self) -> None:
        """Take what has come.  In one C call from the socket to the list: an interrupt loses nothing."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError):  # when the daemon has closed it too: what had come before counts
            while True:
                self._records.extend(
                    map(self._socket.recvmsg, (LANE_NUMBER.size,), (_ANCILLARY_BYTES,), (_RECEIVING,))
                )
                if not self._records[-1][0]:
                    break
        while self._records:
            data, ancillary, *_ = self._records[-1]
            number = LANE_NUMBER.unpack(data)[0] if len(data) == LANE_NUMBER.size else None
            if number == 0:
                self._welcome = True
            elif number is not None:
                # None came where this process has none left.
                self._arrived[number] = next(iter(descriptors_in(ancillary)), -1)
            self._records.pop()

    def _let_go(self, number: int, left: bool) -> None:
        self.done_with.append((number, left))
        self._returned()


def _rights(fds: list[int]) -> list[tuple[int, int, array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
