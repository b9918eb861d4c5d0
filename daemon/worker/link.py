"""The worker's end of its Unix stream socket to the daemon.

The socket stays in blocking mode: the daemon never stops reading, so a send cannot hang on a live
daemon, and a sync app has nothing to do but to wait for its next message.  The wait has no
deadline because its end is certain: the daemon's death shows as end-of-file.  Async apps read
with MSG_DONTWAIT when their event loop says so.

Large data of calls and answers lie in memory that is lent (`protocol.segments`): its descriptor comes
and goes with the first bytes of the message that names it.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock

from warmd.daemon.worker import output
from warmd.protocol.mappings import Borrowed, Mappings
from warmd.protocol.messages import Body, HandBack, Lent
from warmd.protocol.parcels import Leaves, Region
from warmd.protocol.regions import hand_back, parted, whole
from warmd.protocol.segments import Pool
from warmd.protocol.stream import MAX_FRAME_BYTES, Inbox, descriptors_in, marked_off
from warmd.protocol.wire import FROM_WORKER, TO_WORKER, WireError
from warmd.protocol.work import FromWorker, ToWorker

DOOR_SECONDS = 60.0
"""How long the daemon may take to let a worker in; it does so from its loop, at once."""
EXIT_DAEMON_GONE = 70
EXIT_NONSENSE = 71
_ANCILLARY_BYTES = socket.CMSG_SPACE(16 * 4)


class Link:
    """Messages to and from the daemon.  Ends the process when the daemon is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.inbox = Inbox(2 * MAX_FRAME_BYTES)
        self.forked = False
        """This is a child that the app forked: it must not answer in the worker's name."""
        self._waiting: deque[ToWorker] = deque()
        self._files: deque[int] = deque()
        """That have come, and whose messages have not been looked at."""
        self._pool: Pool | None = None
        self._mappings = Mappings(self._let_go)
        self._done_with: deque[tuple[int, bool]] = deque()
        """Segments of the daemon's that nobody here reads any more; whether a fork may read it."""
        self.returned: Callable[[], object] = lambda: None
        """There is something to `hand_back`: told at any time, in any thread."""
        self._lends = False
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        # Threads of the app may call context.progress() while the main thread sends.
        self._sending = Lock()
        os.register_at_fork(after_in_child=self._on_fork)

    @classmethod
    def to_door(cls, door_path: str) -> Link:
        """Connects to the daemon.  Raises OSError, also when the door is another user's."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(DOOR_SECONDS)
        sock.connect(door_path)
        uid = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], "little")
        if uid != os.getuid():
            raise PermissionError(
                f"the door {door_path} belongs to uid {uid}, this worker to uid {os.getuid()}"
            )
        return cls(sock)

    def receive_with_files(self, count: int) -> tuple[ToWorker, list[int]]:
        """The first message and the `count` descriptors that come with its first bytes.

        From here on the link waits without a deadline.  Raises OSError.
        """
        data, fds, _, _ = socket.recv_fds(self.socket, 65536, count, socket.MSG_CMSG_CLOEXEC)
        if len(fds) != count:
            raise ConnectionError(f"the daemon sent {len(fds)} descriptors, expected {count}")
        self._parse(self.inbox.feed(data))
        while not self._waiting:
            self._take(self._receive_some(0))
        self.socket.settimeout(None)
        return self._waiting.popleft(), list(fds)

    def receive(self) -> ToWorker:
        """The next message, waiting for it."""
        while not self._waiting:
            if self._lends:
                self.hand_back()
            self._wait()
            self._take(self._receive_some(0))
        return self._waiting.popleft()

    def received(self) -> list[ToWorker]:
        """The messages that are here now, after one look at the socket."""
        count = self._receive_some(socket.MSG_DONTWAIT)
        if count >= 0:
            self._take(count)
        messages = list(self._waiting)
        self._waiting.clear()
        return messages

    def lend_up_to(self, limit_bytes: int) -> None:
        """From now on large data may go by lent memory."""
        self._pool = Pool(limit_bytes)

    def trim(self) -> float | None:
        """Let go memory that was not needed for a while; in how many seconds to do so again."""
        now = time.monotonic()
        dues = [self._mappings.trim(now), None if self._pool is None else self._pool.trim(now)]
        due = min((due for due in dues if due is not None), default=None)
        self._lends = due is not None
        return None if due is None else max(0.0, due - now)

    @property
    def keeps_memory(self) -> bool:
        """Whether there may be something to `trim`."""
        return self._lends

    def put_back(self, message: ToWorker) -> None:
        """For a message that came too early: it is the next one again."""
        self._waiting.appendleft(message)

    def send(self, message: FromWorker) -> None:
        """Sends the whole message, waiting for room."""
        fds: list[int] = []
        buffers = marked_off(FROM_WORKER.pack(parted(message, lambda region: self._lend(region, fds))))
        try:
            with self._sending:
                self._send_all(self._returns() + buffers if self._done_with else buffers, fds)
        except OSError:
            self._daemon_gone()

    def hand_back(self) -> None:
        """Tell the daemon which of its memory nobody reads any more."""
        if self._done_with and not self.forked:
            self.send(hand_back(self._done_with))

    def leave(self) -> None:
        """Close the link: this process goes on as another's."""
        self.socket.close()

    def _on_fork(self) -> None:
        # A child that held the link open would hide the worker's end from the daemon.
        self.forked = True
        self.socket.close()

    def _receive_some(self, flags: int) -> int:
        try:
            count, ancillary, told, _ = self.socket.recvmsg_into(
                (self.inbox.buffer(),), _ANCILLARY_BYTES, flags | socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return -1
        except ConnectionError:
            return 0
        self._files.extend(descriptors_in(ancillary))
        if told & socket.MSG_CTRUNC:
            self._files.append(-1)  # this process has none left; each message has one
        return count

    def _take(self, count: int) -> None:
        if not count:
            self._daemon_gone()
        try:
            self._parse(self.inbox.received(count))
        except WireError as error:
            # Also within a callback of an event loop, which would only log it and go on.
            output.note(f"the daemon sent what is no message: {error}")
            os._exit(EXIT_NONSENSE)

    def _parse(self, messages: list[list[Body]]) -> None:
        for frames in messages:
            message = whole(TO_WORKER.unpack(frames), self._borrow)
            if type(message) is not HandBack:
                self._waiting.append(message)
            elif self._pool is not None:
                self._pool.handed_back(message.numbers, message.left)
                self._lends = True  # and soon it may be let go

    def _lend(self, region: Region, fds: list[int]) -> Lent | None:
        found = self._pool.lend(region) if self._pool is not None and isinstance(region, Leaves) else None
        if self._pool is None or found is None:
            return None
        self._pool.settled()  # nothing interrupts here
        self._lends = True
        fds.append(found[1])
        return found[0]

    def _borrow(self, lent: Lent) -> Borrowed:
        if not self._files:
            raise WireError(f"the descriptor of segment {lent.number} has not come")
        self._lends = True
        return Borrowed(self._mappings, lent, self._files.popleft())

    def _let_go(self, number: int, left: bool) -> None:
        self._done_with.append((number, left))
        if not self.forked:
            self.returned()

    def _returns(self) -> list[Body]:
        return marked_off(FROM_WORKER.pack(hand_back(self._done_with)))

    def _wait(self) -> None:
        """Return when something has come; let go of memory meanwhile.

        By poll: who waits in recv is woken a second time when the daemon has read the answer.
        """
        while True:
            seconds = self.trim() if self._lends else None
            if self._poll.poll(None if seconds is None else seconds * 1000 + 1):
                return

    def _send_all(self, buffers: Sequence[Body], fds: Sequence[int] = ()) -> None:
        if len(buffers) == 1 and not fds:
            self.socket.sendall(buffers[0])
            return
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        while views:
            sent = socket.send_fds(self.socket, views, list(fds)) if fds else self.socket.sendmsg(views)
            fds = ()
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]

    def _daemon_gone(self) -> None:
        # `unload` is not run: whoever could be told of its outcome is gone.
        os._exit(EXIT_DAEMON_GONE)
