"""Loans: what is taken, who holds it, and when its owner is told that it is over."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from tests.daemon.turning import turn_until
from warmd.daemon.loans import Loan, Loans, NotALoan, Owner
from warmd.daemon.loop import Loop
from warmd.protocol.described import Described, copy_bytes
from warmd.protocol.messages import Lent
from warmd.protocol.parcels import Leaves
from warmd.protocol.segments import Pool

MB = 1 << 20
LIMIT = 4 * MB


class Desk:
    """Loans on a loop of their own, of one owner."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.loans = Loans(self.loop, LIMIT)
        self.told: list[list[int]] = []
        self.left: list[list[int]] = []
        self.owner = Owner(self.tell)
        self.pool = Pool(64 * MB)

    def tell(self, numbers: list[int], left: list[int]) -> None:
        self.told += [numbers] * bool(numbers)
        self.left += [left] * bool(left)

    def lent(self, data: bytes) -> tuple[Lent, int]:
        leaves = Leaves()
        leaves.add(Described(0, b"", len(data), partial(copy_bytes, data)))
        found = self.pool.lend(leaves)
        self.pool.settled()
        assert found is not None
        return found[0], os.dup(found[1])

    def loan(self, data: bytes = b"data") -> Loan:
        return self.loans.take(self.owner, *self.lent(data))


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.pool.close()
    desk.loop.close()


def test_a_loan_is_over_when_nobody_refers_to_it_and_its_owner_is_told_later(desk: Desk) -> None:
    loan = desk.loan()
    other = loan
    fd = loan.fd
    del loan
    desk.loop.post(lambda: None)
    desk.loop.turn()
    assert desk.told == []
    del other
    assert desk.told == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    turn_until(desk.loop, lambda: desk.told)
    assert desk.told == [[1]]
    assert desk.owner.lent_bytes == 0


def test_several_that_are_over_are_told_together(desk: Desk) -> None:
    loans = [desk.loan() for _ in range(3)]
    loans.clear()
    turn_until(desk.loop, lambda: desk.told)
    assert [sorted(numbers) for numbers in desk.told] == [[1, 2, 3]]


def test_an_owner_that_is_gone_is_told_nothing(desk: Desk) -> None:
    loan = desk.loan()
    desk.owner.told = None
    del loan
    desk.loop.post(lambda: None)
    desk.loop.turn()
    assert desk.told == []


def test_one_that_ends_in_another_thread_is_told_on_the_loop(desk: Desk) -> None:
    held = [desk.loan()]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    turn_until(desk.loop, lambda: desk.told)


def test_who_was_given_it_holds_it_until_he_hands_it_back(desk: Desk) -> None:
    holder, other = desk.loans.holder(), desk.loans.holder()
    loan = desk.loan(b"x" * 10)
    given, again = holder.give(loan), other.give(loan)
    assert given.number != again.number
    assert given.size == again.size == 10
    del loan
    holder.take_back([given.number, given.number, 99])
    other.take_back([given.number], [given.number])
    desk.loop.post(lambda: None)
    desk.loop.turn()
    assert desk.told == []
    other.take_back([again.number])
    turn_until(desk.loop, lambda: desk.told)


@pytest.mark.parametrize("how", ["left", "closed"])
def test_what_one_of_its_receivers_has_left_is_only_left(desk: Desk, how: str) -> None:
    holder, other = desk.loans.holder(), desk.loans.holder()
    loan = desk.loan()
    given, again = holder.give(loan), other.give(loan)
    del loan
    if how == "left":
        holder.take_back([], [given.number])
    else:
        holder.close()
    other.take_back([again.number])
    turn_until(desk.loop, lambda: desk.left)
    assert (desk.told, desk.left) == ([], [[1]])


def test_its_bytes_can_be_had_here_too(desk: Desk) -> None:
    loan = desk.loan(b"some data")
    view = loan.view()
    assert view == b"some data"
    assert view.readonly
    assert loan.view() is view


def test_what_is_no_sealed_memory_is_not_taken(desk: Desk) -> None:
    unsealed = os.memfd_create("unsealed")
    os.ftruncate(unsealed, MB)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd in (unsealed, null):
        with pytest.raises(NotALoan, match="sealed"):
            desk.loans.take(desk.owner, Lent(1, 10), fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert desk.owner.lent_bytes == 0


@pytest.mark.parametrize("size", [0, -1, MB + 1])
def test_a_size_that_cannot_be_is_not_taken(desk: Desk, size: int) -> None:
    lent, fd = desk.lent(b"x" * MB)
    with pytest.raises(NotALoan, match="are said to be used"):
        desk.loans.take(desk.owner, Lent(lent.number, size), fd)


def test_more_than_the_limit_is_not_taken(desk: Desk) -> None:
    loans = [desk.loan(b"x" * MB) for _ in range(4)]
    with pytest.raises(NotALoan, match="max_lent_bytes") as caught:
        desk.loan(b"x")
    assert caught.value.code == "QUEUE_FULL"
    loans.pop()
    turn_until(desk.loop, lambda: desk.told)
    assert desk.loan(b"x" * MB)
