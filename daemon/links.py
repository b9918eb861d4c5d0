"""The daemon's end of one worker's socket.

It never blocks: what the socket does not take at once waits in the link's own queue until it does, so a
worker that does not read stops nobody.  What one turn of the loop has for a worker leaves in one piece:
a send that wakes a process up costs more than all that the daemon does for a call.

A message that names a segment travels with its descriptor, which the kernel hands over with the first
of its bytes, and never together with the bytes of another that has one.  So the descriptors come in the
order of the messages.

A link's end-of-file is usually the process's exit, seen a moment before its pidfd fires.  So it is
reported as lost only if the exit does not follow (`EXIT_SECONDS`).
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, cast

from warmd.daemon.core.events import Word, YieldedMany
from warmd.daemon.loans import Loan, Loans, NotALoan, Owner
from warmd.daemon.loop import READ, WRITE, Loop, Timer
from warmd.protocol.messages import Body, HandBack, Lent
from warmd.protocol.parcels import Parcel, Region
from warmd.protocol.regions import VALUE_OF, parted, whole
from warmd.protocol.stream import Inbox, descriptors_in, marked_off
from warmd.protocol.wire import FROM_WORKER, TO_WORKER, WireError
from warmd.protocol.work import FromWorker, Invoke, ToWorker, WorkerId, Yielded

EXIT_SECONDS = 0.5
"""From a link's end-of-file to the exit that it announces."""
BUFFERS_PER_SEND = 64
MOST_FILES = 32
"""Descriptors whose messages have not come yet."""
PARTS_AT_ONCE = 512
"""Their sizes have to fit into a header."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(16 * 4)
_RECEIVING = int(socket.MSG_CMSG_CLOEXEC)
_unpack = FROM_WORKER.unpack
_pack = TO_WORKER.pack


class WithFiles(NamedTuple):
    """Bytes that travel with descriptors, which stay their owner's; it is kept until they are sent."""

    data: Body
    fds: Sequence[int]
    owner: object


class Link:
    """`said(worker, message)` and `lost(worker, text)` are called from the loop; a link that has something
    to send is put into `unflushed`."""

    __slots__ = (
        "_blocked", "_fd", "_files", "_held", "_inbox", "_loans", "_loop", "_lost", "_mask", "_owner",
        "_paused", "_queue", "_recvmsg_into", "_said", "_sock", "_timer", "_unflushed", "_with_files",
        "ended", "worker",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        worker: WorkerId,
        sock: socket.socket,
        inbox: Inbox,
        loans: Loans,
        unflushed: list[Link],
        said: Callable[[WorkerId, Word], object],
        lost: Callable[[WorkerId, str], object],
    ) -> None:
        self.worker = worker
        self.ended = False
        self._loop, self._said, self._lost = loop, said, lost
        self._sock = sock
        self._fd = sock.fileno()
        self._recvmsg_into = sock.recvmsg_into
        self._inbox = inbox
        self._queue: deque[Body | WithFiles] = deque()
        self._unflushed = unflushed
        self._with_files = 0
        """How many in the queue travel with descriptors."""
        self._files: deque[int] = deque()
        """That have come, and whose messages have not been looked at."""
        self._loans = loans
        self._owner = Owner(self._give_back)
        self._held = loans.holder()
        self._blocked = False
        self._paused = False
        self._mask = READ
        self._timer: Timer | None = None
        loop.watch(self._fd, self._on_ready)

    def tell(self, message: ToWorker) -> None:
        """Send at the end of the loop's turn, together with what else it brings for this worker."""
        fds: list[int] = []
        owner = None
        if type(message) is Invoke and type(message.input) is Parcel:
            owner = message.input
            message = parted(message, lambda region: self._pass_on(region, fds))
        self.send(marked_off(_pack(message)), fds, owner)

    def send(self, buffers: list[Body], fds: Sequence[int] = (), owner: object = None) -> None:
        """The same for a message that is packed; `fds` go with its first bytes."""
        if self.ended:
            return
        if not self._queue:
            self._unflushed.append(self)
        if fds:
            self._with_files += 1
            self._queue.append(WithFiles(buffers[0], fds, owner))
            self._queue.extend(buffers[1:])
        else:
            self._queue.extend(buffers)

    def flush(self) -> None:
        """Send what the socket takes, and the rest when it takes more."""
        queue = self._queue
        try:
            while queue:
                if self._with_files:
                    self._send_one(queue[0])
                elif len(queue) == 1:
                    self._drop(self._sock.send(queue[0]))  # type: ignore[arg-type]
                else:
                    self._drop(self._sock.sendmsg([*islice(queue, BUFFERS_PER_SEND)]))  # type: ignore[list-item]
        except BlockingIOError:
            self._block(True)
            return
        except OSError:
            queue.clear()  # the reading side sees the same end, and what was said before it
            self._with_files = 0
        self._block(False)

    def read(self) -> bool:
        """One read's worth of messages; False when there is nothing now."""
        room = (self._inbox.buffer(),)
        try:
            count, ancillary, _, _ = self._recvmsg_into(room, _ANCILLARY_BYTES, _RECEIVING)
        except BlockingIOError:
            return False
        except OSError:
            count = 0
        if not count:
            self._end("closed its link to the daemon")
            return False
        try:
            if ancillary:
                self._take_files(ancillary)
            came = self._inbox.received(count)
            if len(came) == 1:
                self._hear(_unpack(came[0]))
            else:
                for message in gathered(map(_unpack, came)):
                    self._hear(message)
        except (WireError, NotALoan) as error:
            self._end(f"spoke nonsense on its link ({error})", patience_seconds=0)
            return False
        return True

    def _hear(self, message: Word) -> None:
        """Raises NotALoan."""
        if type(message) in VALUE_OF:
            message = whole(message, self._borrow)
        elif type(message) is HandBack:
            self._held.take_back(message.numbers, message.left)
            return
        self._said(self.worker, message)

    def close(self) -> None:
        self._stop_watching()
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()
        self._sock.close()
        self._owner.told = None
        self._held.close()
        while self._files:
            os.close(self._files.popleft())

    def _pass_on(self, region: Region, fds: list[int]) -> Lent | None:
        if type(region) is not Loan:
            return None
        fds.append(region.fd)
        return self._held.give(region)

    def _borrow(self, lent: Lent) -> Region:
        limit = self._inbox.max_body_bytes
        if lent.size > limit:
            raise NotALoan(f"{lent.size} bytes are lent, the limit is {limit} (max_message_bytes)")
        if not self._files:
            raise NotALoan("the descriptor of its memory has not come: the daemon may have none left")
        return self._loans.take(self._owner, lent, self._files.popleft())

    def _take_files(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        """Raises NotALoan."""
        self._files.extend(descriptors_in(ancillary))
        if len(self._files) > MOST_FILES:
            raise NotALoan(f"over {MOST_FILES} descriptors that no message names")

    def _give_back(self, numbers: list[int], left: list[int]) -> None:
        self.tell(HandBack(numbers, left))

    def _send_one(self, head: Body | WithFiles) -> None:
        if type(head) is not WithFiles:
            self._drop(self._sock.send(head))  # type: ignore[arg-type]
            return
        sent = socket.send_fds(self._sock, [head.data], list(head.fds))
        self._with_files -= 1
        self._queue[0] = head.data
        self._drop(sent)

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
        loop, before, self._mask = self._loop, self._mask, mask
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
            queue[0] = memoryview(queue[0])[count:]  # type: ignore[arg-type]

    def _end(self, text: str, patience_seconds: float = EXIT_SECONDS) -> None:
        self._stop_watching()
        report = lambda: self._lost(self.worker, text)  # noqa: E731
        self._timer = self._loop.call_at(time.monotonic() + patience_seconds, report)

    def _stop_watching(self) -> None:
        if not self.ended:
            self.ended = True
            self._loop.unwatch(self._fd)


def gathered(messages: Iterable[FromWorker]) -> Iterator[Word]:
    """The same in the same order, with small parts that follow each other as one: from here on each
    message costs more than its bytes."""
    run: list[Yielded] = []
    for message in messages:
        if run and not (_is_next(run[-1], message) and len(run) < PARTS_AT_ONCE):
            yield _as_one(run)
            run = []
        if type(message) is Yielded and message.lent is None and not message.region:
            run.append(message)
        else:
            yield message
    if run:
        yield _as_one(run)


def _is_next(last: Yielded, message: FromWorker) -> bool:
    return (
        type(message) is Yielded
        and message.number == last.number + 1
        and message.ordinal == last.ordinal
        and message.lent is None
        and not message.region
    )


def _as_one(run: list[Yielded]) -> Yielded | YieldedMany:
    first = run[0]
    if len(run) == 1:
        return first
    return YieldedMany(first.ordinal, first.number, [cast("Body", one.value) for one in run])
