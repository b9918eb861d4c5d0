"""How much of what a client was sent it has not read, by acknowledgement and by libzmq's word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.daemon.turning import turn_until
from warmd.daemon.loop import Loop
from warmd.daemon.unread import LENT_BYTES, LENT_SOON_BYTES, PING_EVERY_BYTES, Readers, Reading
from warmd.protocol.messages import ClientId, FromDaemon, Ping

LIMIT = 8 * PING_EVERY_BYTES
ANN = ClientId(b"ann")


@dataclass
class Lent:
    done: bool = False


@dataclass
class House:
    loop: Loop = field(default_factory=Loop)
    pings: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.readers = Readers(
            self.loop,
            LIMIT,
            self.pinged,
            lambda _client, unread: self.told.append(f"behind {unread}"),
            lambda _client: self.told.append("caught up"),
            lambda _client: self.told.append("hopeless"),
        )
        self.reading = self.readers.new()

    def pinged(self, _client: ClientId, message: FromDaemon) -> None:
        assert isinstance(message, Ping)
        self.pings.append(message.number)

    def sent(self, count: int, lent: Lent | None = None) -> None:
        reading = self.reading
        reading.sent += count
        if lent is not None:
            reading.lent(count, lent)
        else:
            reading.copied += count
        if reading.sent >= reading.look_at:
            self.readers.look(ANN, reading)


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.readers.close()
    house.loop.close()


def test_who_acknowledges_is_never_behind(house: House) -> None:
    for _ in range(100):
        house.sent(PING_EVERY_BYTES)
        house.readers.acknowledged(ANN, house.reading, house.pings[-1])
    assert len(house.pings) == 100
    assert house.told == [] and house.reading.unread() == 0


def test_who_acknowledges_nothing_is_behind_to_the_byte(house: House) -> None:
    for _ in range(LIMIT // 1000):
        house.sent(1000)
    assert house.told == []
    house.sent(1000)
    assert house.told == [f"behind {(LIMIT // 1000 + 1) * 1000}"]
    house.readers.acknowledged(ANN, house.reading, house.pings[-1])
    assert house.told[1:] == ["caught up"]


def test_a_pong_that_answers_no_ping_says_nothing(house: House) -> None:
    house.sent(PING_EVERY_BYTES)
    house.readers.acknowledged(ANN, house.reading, house.pings[-1] + 1)
    assert house.reading.unread() == PING_EVERY_BYTES


def test_what_libzmq_has_handed_on_is_read_without_a_word(house: House) -> None:
    lent = Lent()
    house.sent(2 * LIMIT, lent)
    assert house.told == [f"behind {2 * LIMIT}"]
    lent.done = True
    turn_until(house.loop, lambda: house.told[1:] == ["caught up"])


def test_from_one_who_acknowledges_little_all_but_the_smallest_bodies_are_lent() -> None:
    reading = Reading(LIMIT)
    assert reading.lend_from == LENT_BYTES
    reading.copied = reading.sent = LIMIT // 4 + 1
    reading.looked(reading.unread())
    assert reading.lend_from == LENT_SOON_BYTES


def test_who_asks_on_and_reads_nothing_is_hopeless(house: House) -> None:
    house.sent(LIMIT + 1)
    for _ in range(LIMIT // PING_EVERY_BYTES + 1):
        house.sent(PING_EVERY_BYTES)
    assert house.told == [f"behind {LIMIT + 1}", "hopeless"]
