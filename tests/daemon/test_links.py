"""What a worker says in one breath, and memory that comes and goes on its link."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.daemon.turning import turn_until
from warmd.daemon.core.events import YieldedMany
from warmd.daemon.links import MOST_FILES, PARTS_AT_ONCE, Link, gathered
from warmd.daemon.loans import Loan, Loans
from warmd.daemon.loop import Loop
from warmd.protocol.described import Described, copy_bytes
from warmd.protocol.messages import CallId, HandBack, Lent
from warmd.protocol.parcels import Leaves, Parcel
from warmd.protocol.segments import Pool
from warmd.protocol.stream import Inbox, marked_off
from warmd.protocol.wire import FROM_WORKER, TO_WORKER
from warmd.protocol.work import Invoke, MoreCredit, Ordinal, Progressed, Returned, WorkerId, Yielded

ONE = Ordinal(1)
MB = 1 << 20


def parts(first: int, count: int) -> list[Yielded]:
    return [Yielded(ONE, number, bytes([number % 256])) for number in range(first, first + count)]


def test_parts_that_follow_each_other_become_one_and_the_order_stays() -> None:
    progressed, returned = Progressed(ONE, b"p"), Returned(ONE, 0.1, 7)
    said = [*parts(0, 3), progressed, *parts(3, 1), progressed, *parts(4, 3), returned]
    assert list(gathered(said)) == [
        YieldedMany(ONE, 0, [b"\x00", b"\x01", b"\x02"]),
        progressed,
        *parts(3, 1),
        progressed,
        YieldedMany(ONE, 4, [b"\x04", b"\x05", b"\x06"]),
        returned,
    ]


@pytest.mark.parametrize(
    "odd",
    [
        Yielded(ONE, 5, b""),
        Yielded(ONE, 1, b""),
        Yielded(Ordinal(2), 2, b""),
        Yielded(ONE, 2, b"", lent=Lent(1, 1)),
        Yielded(ONE, 2, b"", region=b"r"),
    ],
)
def test_a_part_that_is_another_matter_stays_by_itself(odd: Yielded) -> None:
    assert list(gathered([*parts(0, 2), odd])) == [YieldedMany(ONE, 0, [b"\x00", b"\x01"]), odd]


def test_so_many_at_once_and_no_more() -> None:
    first, second = gathered(parts(0, PARTS_AT_ONCE + 2))
    assert isinstance(first, YieldedMany)
    assert isinstance(second, YieldedMany)
    assert (len(first.values), second.number) == (PARTS_AT_ONCE, PARTS_AT_ONCE)


class House:
    """A link on a loop of its own; the worker's end is in the test's hand."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.loans = Loans(self.loop, 64 * MB)
        self.said: list[Any] = []
        self.lost: list[str] = []
        self.unflushed: list[Link] = []
        ours, self.worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        self.worker.settimeout(10)
        said: Any = lambda _worker, message: self.said.append(message)  # noqa: E731
        lost: Any = lambda _worker, text: self.lost.append(text)  # noqa: E731
        self.link = Link(
            self.loop, WorkerId(1), ours, Inbox(2 * MB), self.loans, self.unflushed, said, lost
        )
        self.pool = Pool(64 * MB)
        self.inbox = Inbox(2 * MB)

    def say(self, message: Any, fds: list[int] | None = None) -> None:
        data = b"".join(bytes(one) for one in marked_off(FROM_WORKER.pack(message)))
        socket.send_fds(self.worker, [data], fds or [])

    def hear(self) -> tuple[list[Any], list[int]]:
        """What one look of the worker gives."""
        self.flush()
        data, fds, _, _ = socket.recv_fds(self.worker, MB, 8)
        return [TO_WORKER.unpack(frames) for frames in self.inbox.feed(data)], fds

    def flush(self) -> None:
        for link in self.unflushed:
            link.flush()
        self.unflushed.clear()

    def lent(self, data: bytes) -> tuple[Lent, int]:
        leaves = Leaves()
        leaves.add(Described(0, b"", len(data), partial(copy_bytes, data)))
        found = self.pool.lend(leaves)
        self.pool.settled()
        assert found is not None
        return found

    def close(self) -> None:
        self.said.clear()
        self.link.close()
        self.worker.close()
        self.pool.close()
        self.loop.close()


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def test_a_result_in_lent_memory_is_a_loan_until_nobody_has_it(house: House) -> None:
    lent, fd = house.lent(b"large")
    house.say(Returned(ONE, 0.1, 0, b"body", lent), [fd])
    turn_until(house.loop, lambda: house.said)
    parcel = house.said[0].value
    assert isinstance(parcel, Parcel)
    assert isinstance(parcel.region, Loan)
    assert parcel.region.view() == b"large"
    del parcel
    house.said.clear()
    turn_until(house.loop, lambda: house.unflushed)
    assert house.hear() == ([HandBack([lent.number])], [])


def test_no_more_may_be_lent_than_sent(house: House) -> None:
    lent, fd = house.lent(bytes(2 * MB + 1))
    house.say(Returned(ONE, 0.1, 0, b"body", lent), [fd])
    turn_until(house.loop, lambda: house.lost)
    assert house.said == []
    assert "2097153 bytes are lent, the limit is 2097152 (max_message_bytes)" in house.lost[0]


def test_an_input_in_lent_memory_goes_with_its_descriptor_among_other_messages(house: House) -> None:
    lent, fd = house.lent(b"large")
    house.say(Returned(ONE, 0.1, 0, b"body", lent), [fd])
    turn_until(house.loop, lambda: house.said)
    value = house.said.pop().value
    invoke = Invoke(ONE, CallId(bytes(16)), "f", None, value)
    house.link.tell(MoreCredit(ONE, 1))
    house.link.tell(invoke)
    house.link.tell(MoreCredit(ONE, 2))
    del value, invoke
    heard, fds = [], []
    while len(heard) < 3:
        more, came = house.hear()
        heard, fds = heard + more, fds + came
    assert [type(message) for message in heard] == [MoreCredit, Invoke, MoreCredit]
    assert heard[1].input == b"body"
    (received,) = fds
    assert os.pread(received, 5, 0) == b"large"
    os.close(received)
    house.say(HandBack([heard[1].lent.number]))
    turn_until(house.loop, lambda: house.unflushed)
    assert house.hear()[0] == [HandBack([lent.number])]


def test_what_the_socket_does_not_take_at_once_goes_later_with_its_descriptor(house: House) -> None:
    lent, fd = house.lent(b"large")
    house.say(Returned(ONE, 0.1, 0, b"body", lent), [fd])
    turn_until(house.loop, lambda: house.said)
    house.link.tell(Invoke(ONE, CallId(bytes(16)), "f", None, bytes(MB)))
    house.link.tell(Invoke(Ordinal(2), CallId(bytes(16)), "f", None, house.said.pop().value))
    house.flush()
    heard, fds = [], []
    while len(heard) < 2:
        data, came, _, _ = socket.recv_fds(house.worker, MB, 8)
        heard += [TO_WORKER.unpack(frames) for frames in house.inbox.feed(data)]
        fds += came
        house.loop.call_in(0.01, lambda: None)
        house.loop.turn()
    assert [message.ordinal for message in heard] == [1, 2]
    (received,) = fds
    assert os.pread(received, 5, 0) == b"large"
    os.close(received)


def test_what_a_worker_has_left_is_its_owners_but_not_to_be_filled(house: House) -> None:
    other = House()
    lent, fd = other.lent(b"large")
    other.say(Returned(ONE, 0.1, 0, b"body", lent), [fd])
    turn_until(other.loop, lambda: other.said)
    house.link.tell(Invoke(ONE, CallId(bytes(16)), "f", None, other.said.pop().value))
    house.flush()
    house.link.close()
    turn_until(other.loop, lambda: other.unflushed)
    assert other.hear()[0] == [HandBack([], [lent.number])]
    other.close()


def test_a_descriptor_that_does_not_come_or_is_none_ends_the_link(house: House) -> None:
    house.say(Returned(ONE, 0.1, 0, b"body", Lent(1, 10)))
    turn_until(house.loop, lambda: house.lost)
    assert "has not come" in house.lost[0]


def test_a_descriptor_of_something_else_ends_the_link(house: House) -> None:
    with open(os.devnull) as file:
        house.say(Returned(ONE, 0.1, 0, b"body", Lent(1, 10)), [file.fileno()])
    turn_until(house.loop, lambda: house.lost)
    assert "sealed" in house.lost[0]


def test_more_descriptors_than_messages_ends_the_link(house: House) -> None:
    with open(os.devnull) as file:
        for _ in range(MOST_FILES // 8 + 1):
            house.say(Progressed(ONE, b"p"), [file.fileno()] * 8)
        turn_until(house.loop, lambda: house.lost)
    assert "descriptors" in house.lost[0]


def test_descriptors_that_nobody_asked_for_are_closed_with_the_link(house: House) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open(os.devnull) as file:
        house.say(Progressed(ONE, b"p"), [file.fileno()] * 3)
    turn_until(house.loop, lambda: house.said)
    assert len(os.listdir("/proc/self/fd")) == before + 3
    house.link.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
