"""Regions that lie in the memory of a client or worker while they pass through the daemon.

The daemon maps none of it: it holds a descriptor for as long as anybody may want it, and that is known
by counting references.  A call that waits refers to its loan; so does a detached call's result that is
kept; so does whoever was given the descriptor and has not handed it back, in a `Holder`.  When nothing
refers to it any more the owner may fill that memory again, and is told in the loop's next turn.
One that a receiver has left without handing it back (a client that closed its connection, or forked, may
still have values in there) is over too, but its owner is told not to fill it.

A descriptor is taken only with seals under which no reader can be hurt (`protocol.segments`).  Where the
daemon has few left (`descriptors.mark_of_loans`), it takes a copy instead.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from warmd.daemon import descriptors
from warmd.daemon.loop import Loop
from warmd.protocol.messages import Lent
from warmd.protocol.parcels import Region
from warmd.protocol.segments import SEALS


class NotALoan(Exception):
    """What was sent with a value is no memory that could be passed on; `code` is what a call ends with."""

    def __init__(self, text: str, code: str = "INVALID") -> None:
        super().__init__(text)
        self.code = code


class Owner:
    """Whose memory it is; `told(numbers, left)` is to let them know which of it is theirs again, and which
    was left."""

    def __init__(self, told: Callable[[list[int], list[int]], object]) -> None:
        self.told: Callable[[list[int], list[int]], object] | None = told
        """None when they are gone."""
        self.lent_bytes = 0


class Loan:
    """One region; as long as this object is there its owner leaves it alone."""

    __slots__ = ("__weakref__", "_desk", "_lent", "_owner", "_view", "fd", "left")

    def __init__(self, desk: Loans, owner: Owner, lent: Lent, fd: int) -> None:
        self.fd = fd
        self.left = False
        """Somebody may go on reading it, of whom nothing is known."""
        self._desk = desk
        self._owner = owner
        self._lent = lent
        self._view: memoryview | None = None
        owner.lent_bytes += lent.size

    def __len__(self) -> int:
        return self._lent.size

    def view(self) -> memoryview:
        """Its bytes, for a receiver that cannot map them itself.  Valid while the loan is there.

        Raises OSError when it cannot be mapped.
        """
        if self._view is None:
            self._view = memoryview(mmap.mmap(self.fd, len(self), mmap.MAP_SHARED, mmap.PROT_READ))
        return self._view

    def __del__(self) -> None:
        os.close(self.fd)
        self._desk._ended(self._owner, self._lent, self.left)


class Holder:
    """What one receiver has been given and not handed back."""

    def __init__(self, numbers: count[int]) -> None:
        self._numbers = numbers
        self._held: dict[int, Loan] = {}

    def give(self, loan: Loan) -> Lent:
        """The receiver gets it under this name."""
        number = next(self._numbers)
        self._held[number] = loan
        return Lent(number, len(loan))

    def take_back(self, numbers: list[int], left: Sequence[int] = ()) -> None:
        """The receiver has done with them, but forks of it may read those that are `left`.

        A number that it was not given says nothing.
        """
        for number in numbers:
            self._held.pop(number, None)
        for number in left:
            loan = self._held.pop(number, None)
            if loan is not None:
                loan.left = True

    def close(self) -> None:
        """The receiver's connection is gone, and perhaps not all who read what it had."""
        self.take_back([], list(self._held))


class Loans:
    """Where loans are taken, passed on and given back; each owner lends at most `limit_bytes`."""

    def __init__(self, loop: Loop, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._loop = loop
        self._numbers = count(1)
        self._over: deque[tuple[Owner, Lent, bool]] = deque()

    def holder(self) -> Holder:
        return Holder(self._numbers)

    def take(self, owner: Owner, lent: Lent, fd: int) -> Region:
        """A region that somebody has sent; its descriptor is the loan's.  Raises NotALoan."""
        try:
            self._check(owner, lent, fd)
        except BaseException:
            os.close(fd)
            raise
        loan = Loan(self, owner, lent, fd)
        if fd < descriptors.mark_of_loans():
            return loan
        try:
            return bytes(loan.view())
        except OSError as error:
            raise NotALoan(f"{error.strerror}: {descriptors.most()} may be open here", "NO_ROOM") from None

    def _check(self, owner: Owner, lent: Lent, fd: int) -> None:
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError:
            seals = 0
        if seals & SEALS != SEALS:
            raise NotALoan("its memory is not a memfd sealed against shrinking, growing and writing")
        size = os.fstat(fd).st_size
        if not 0 < lent.size <= size:
            raise NotALoan(f"its memory has {size} bytes, and {lent.size} are said to be used")
        if owner.lent_bytes + lent.size > self.limit_bytes:
            raise NotALoan(
                f"{owner.lent_bytes} bytes are lent already, and {lent.size} more would be over the limit of "
                f"{self.limit_bytes} (max_lent_bytes): send it within the message",
                "QUEUE_FULL",
            )

    def _ended(self, owner: Owner, lent: Lent, left: bool) -> None:
        # From whatever is going on, and for what libzmq had lent from a thread of pyzmq's.
        self._over.append((owner, lent, left))
        self._loop.post(self._tell)

    def _tell(self) -> None:
        told: dict[Owner, tuple[list[int], list[int]]] = {}
        while self._over:
            owner, lent, left = self._over.popleft()
            owner.lent_bytes -= lent.size
            told.setdefault(owner, ([], []))[left].append(lent.number)
        for owner, numbers in told.items():
            if owner.told is not None:
                owner.told(*numbers)
