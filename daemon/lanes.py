"""The clients' lanes: Unix connections over which descriptors come and go, one for each client that has
large data.

Nothing here is waited for.  A descriptor is put into its socket before the message that names it is
sent the other way, so it is here when that message is; and no lane is watched, for what lies in it
means nothing without its message.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from warmd.daemon.loans import Loan, Loans, NotALoan, Owner
from warmd.protocol.messages import Call, ClientId, FromDaemon, HandBack, Lent, Welcome
from warmd.protocol.parcels import Region
from warmd.protocol.regions import parted, whole
from warmd.protocol.segments import MOST_SEGMENTS
from warmd.protocol.stream import Inbox
from warmd.protocol.wire import FROM_WORKER, WireError
from warmd.protocol.work import LANE_NUMBER, FromWorker, Lend

READ_BYTES = 4096
MOST_FILES = 16
_RECEIVING = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC


class _Lane:
    """What one client lends and is lent."""

    def __init__(self, key: str, owner: Owner, loans: Loans) -> None:
        self.key = key
        self.owner = owner
        self.held = loans.holder()
        self.socket: socket.socket | None = None
        self._inbox = Inbox(0)
        self._fds: dict[int, int] = {}

    def adopt(self, sock: socket.socket, inbox: Inbox, lends: list[FromWorker], fds: list[int]) -> None:
        """Its connection, as far as it was read at the door."""
        self.hang_up()
        self.socket, self._inbox = sock, inbox
        self._sort(lends, fds)
        with contextlib.suppress(OSError):
            sock.send(LANE_NUMBER.pack(0))

    def descriptor(self, number: int) -> int:
        """Of the segment that the client names so.  Raises NotALoan."""
        while number not in self._fds and self._read():
            pass
        fd = self._fds.pop(number, -1)
        if fd < 0:
            raise NotALoan("its descriptor has not come: the daemon may have none left")
        return fd

    def pass_on(self, region: Region) -> Lent | None:
        """Let the client have it; None where it must go within its message."""
        if type(region) is not Loan or self.socket is None:
            return None
        lent = self.held.give(region)
        try:
            if socket.send_fds(self.socket, [LANE_NUMBER.pack(lent.number)], [region.fd]) == LANE_NUMBER.size:
                return lent
        except BlockingIOError:
            pass  # it has not read the last hundreds
        except OSError:
            self.hang_up()
        self.held.take_back([lent.number])
        return None

    def hang_up(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        close_all(self._fds.values())
        self._fds.clear()

    def close(self) -> None:
        """The client is gone."""
        self.hang_up()
        self.owner.told = None
        self.held.close()

    def _read(self) -> bool:
        """Take what one look at the socket gives; whether it was anything."""
        if self.socket is None:
            return False
        fds: list[int] = []
        try:
            data, fds, flags, _ = socket.recv_fds(self.socket, READ_BYTES, MOST_FILES, _RECEIVING)
            lends = [FROM_WORKER.unpack(frames) for frames in self._inbox.feed(data)]
        except BlockingIOError:
            return False
        except (OSError, WireError):
            close_all(fds)
            data, flags = b"", 0
        else:
            self._sort(lends, fds)
        if not data or flags & socket.MSG_CTRUNC or len(self._fds) > MOST_SEGMENTS:
            self.hang_up()
            return False
        return True

    def _sort(self, lends: list[FromWorker], fds: list[int]) -> None:
        """One look never goes beyond a message with a descriptor: that is the last one's."""
        last = lends[-1] if lends else None
        if type(last) is Lend and last.number and len(fds) == 1:
            stale, self._fds[last.number] = self._fds.get(last.number, -1), fds[0]
            fds = [] if stale < 0 else [stale]
        close_all(fds)


def close_all(fds: Iterable[int]) -> None:
    """Descriptors that nobody is to have."""
    for fd in fds:
        os.close(fd)


class Lanes:
    """All of them.  `look()` is to take in what waits at the door."""

    def __init__(self, loans: Loans, look: Callable[[], object]) -> None:
        self._loans = loans
        self._look = look
        self._of: dict[ClientId, _Lane] = {}
        self._by_key: dict[str, _Lane] = {}

    def invited(
        self, client: ClientId, welcome: Welcome, send: Callable[[ClientId, FromDaemon], object]
    ) -> Welcome:
        """The welcome of a client on this machine, with what it opens its lane with."""
        if not self._loans.limit_bytes:
            return welcome
        key = secrets.token_hex(16)
        owner = Owner(lambda numbers, left: send(client, HandBack(numbers, left)))
        self._of[client] = self._by_key[key] = _Lane(key, owner, self._loans)
        return replace(welcome, lane=key, max_lent_bytes=self._loans.limit_bytes)

    def arrived(self, sock: socket.socket, inbox: Inbox, said: list[FromWorker], fds: list[int]) -> bool:
        """Somebody at the door wants to open a lane; False for a stranger."""
        first = said[0]
        lane = self._by_key.get(first.key) if isinstance(first, Lend) else None
        if lane is not None:
            lane.adopt(sock, inbox, said, fds)
        return lane is not None

    def received(self, client: ClientId, call: Call) -> Call:
        """The call with the region that it names.  Raises NotALoan."""
        return whole(call, partial(self._take, client))

    def parted(self, client: ClientId, message: FromDaemon) -> FromDaemon:
        """The message, as it travels to this client."""
        lane = self._of.get(client)
        return parted(message, (lambda _region: None) if lane is None else lane.pass_on)

    def handed_back(self, client: ClientId, told: HandBack) -> None:
        if client in self._of:
            self._of[client].held.take_back(told.numbers, told.left)

    def forget(self, client: ClientId) -> None:
        """It has left."""
        lane = self._of.pop(client, None)
        if lane is not None:
            del self._by_key[lane.key]
            lane.close()

    def close(self) -> None:
        for client in list(self._of):
            self.forget(client)

    def _take(self, client: ClientId, lent: Lent) -> Region:
        lane = self._of.get(client)
        if lane is None:
            raise NotALoan("this client has no lane")
        if lane.socket is None:
            self._look()
        return self._loans.take(lane.owner, lent, lane.descriptor(lent.number))
