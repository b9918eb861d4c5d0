"""The worker's end of its Unix stream socket to the daemon.

The socket stays in blocking mode: the daemon never stops reading, so a send cannot hang on a live
daemon, and a sync app has nothing to do but to wait for its next message.  The wait has no
deadline because its end is certain: the daemon's death shows as end-of-file.  Async apps read
with MSG_DONTWAIT when their event loop says so.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Sequence
from threading import Lock

from warmd.daemon.worker import output
from warmd.protocol.messages import Body
from warmd.protocol.stream import MAX_FRAME_BYTES, Inbox, marked_off
from warmd.protocol.wire import FROM_WORKER, TO_WORKER, WireError
from warmd.protocol.work import FromWorker, ToWorker

DOOR_SECONDS = 60.0
"""How long the daemon may take to let a worker in; it does so from its loop, at once."""
EXIT_DAEMON_GONE = 70
EXIT_NONSENSE = 71


class Link:
    """Messages to and from the daemon.  Ends the process when the daemon is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.inbox = Inbox(2 * MAX_FRAME_BYTES)
        self.forked = False
        """This is a child that the app forked: it must not answer in the worker's name."""
        self._waiting: deque[ToWorker] = deque()
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
        message = self.receive()
        self.socket.settimeout(None)
        return message, list(fds)

    def receive(self) -> ToWorker:
        """The next message, waiting for it."""
        while not self._waiting:
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

    def put_back(self, message: ToWorker) -> None:
        """For a message that came too early: it is the next one again."""
        self._waiting.appendleft(message)

    def send(self, message: FromWorker) -> None:
        """Sends the whole message, waiting for room."""
        buffers = marked_off(FROM_WORKER.pack(message))
        try:
            with self._sending:
                self._send_all(buffers)
        except OSError:
            self._daemon_gone()

    def leave(self) -> None:
        """Close the link: this process goes on as another's."""
        self.socket.close()

    def _on_fork(self) -> None:
        # A child that held the link open would hide the worker's end from the daemon.
        self.forked = True
        self.socket.close()

    def _receive_some(self, flags: int) -> int:
        try:
            return self.socket.recv_into(self.inbox.buffer(), 0, flags)
        except BlockingIOError:
            return -1
        except ConnectionError:
            return 0

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
        self._waiting.extend(TO_WORKER.unpack(frames) for frames in messages)

    def _send_all(self, buffers: Sequence[Body]) -> None:
        if len(buffers) == 1:
            self.socket.sendall(buffers[0])
            return
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        while views:
            sent = self.socket.sendmsg(views)
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]

    def _daemon_gone(self) -> None:
        # `unload` is not run: whoever could be told of its outcome is gone.
        os._exit(EXIT_DAEMON_GONE)
