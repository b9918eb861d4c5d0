"""Connections that close at once, and whose number goes on to the next."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tests import rawzmq
from tests.daemon.test_front import HELLO, House, credit
from tests.daemon.turning import turn_for, turn_until
from warmd.daemon.connections import Connections
from warmd.daemon.gate import Gate
from warmd.daemon.loop import Loop
from warmd.protocol.wire import FROM_CLIENT


class Opened:
    """One open connection on a socket of its own; its descriptor's number is `fd`."""

    def __init__(self, path: Path) -> None:
        self.ended: list[bytes] = []
        self.loop, self.context = Loop(), zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.gate = Gate(path, 100)
        self.connections = Connections(self.loop, self.socket, self.gate, self.ended.append)
        self.socket.bind(f"ipc://{path}")
        self.client = rawzmq.connected(path)
        turn_until(self.loop, lambda: self.gate._connections)
        (self.fd,) = self.gate._connections

    def close(self) -> None:
        self.client.close()
        self.connections.close()
        self.context.destroy(0)
        self.loop.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened(tmp_path / "s")
    yield opened
    opened.close()


def name(number: int) -> bytes:
    """As libzmq names its clients, one after the other."""
    return b"\0" + (number % 2**32).to_bytes(4)


@pytest.mark.parametrize("number", [1, 2**31, 2**32 - 1, 2**32])
def test_of_two_clients_with_one_number_the_later_holds_it(opened: Opened, number: int) -> None:
    bind, fd = opened.connections.bind, opened.fd
    assert bind(fd, name(number))
    assert not bind(fd, name(number - 1)) and not bind(fd, name(number - 1000))
    assert opened.ended == []
    assert bind(fd, name(number + 1))
    assert opened.ended == [name(number)]


def test_a_client_that_named_itself_displaces_nobody(opened: Opened) -> None:
    assert opened.connections.bind(opened.fd, name(5))
    assert not opened.connections.bind(opened.fd, b"\xffits own")
    assert not opened.connections.bind(opened.fd, b"x")
    assert opened.ended == []


def test_a_connection_that_has_closed_is_nobodys(opened: Opened) -> None:
    assert opened.connections.bind(opened.fd, name(5))
    opened.client.close()
    turn_until(opened.loop, lambda: opened.ended)
    assert opened.ended == [name(5)]
    assert not opened.connections.bind(opened.fd, name(6))
    assert not opened.connections.bind(opened.fd + 100, name(7))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "s")
    yield house
    house.close()


def shake_hands(house: House) -> socket.socket:
    """A connection by hand, on which nothing is said yet: unlike a dealer's it closes at once."""
    connection = rawzmq.connected(house.path)
    assert rawzmq.shake_hands(connection)
    return connection


def test_who_leaves_at_its_hello_is_not_there(house: House) -> None:
    for _ in range(100):
        with shake_hands(house) as connection:
            connection.sendall(rawzmq.frame(FROM_CLIENT.pack(HELLO)[0]))
        turn_until(house.loop, lambda: house.front.counters["left at its hello"] + len(house.gone) == 1)
        assert house.front.connected() == {}
        house.front.counters.clear()
        house.gone.clear()


def test_who_left_is_not_taken_for_the_next_with_its_number(house: House) -> None:
    """Whichever of the two is heard first."""
    hello = rawzmq.frame(FROM_CLIENT.pack(HELLO)[0])
    for _ in range(100):
        with shake_hands(house) as connection:
            connection.sendall(hello)
        with shake_hands(house) as successor:
            turn_for(house.loop, 0.001)
            successor.sendall(hello)
            turn_until(house.loop, lambda: len(house.front.connected()) == 1)
            sound = credit()
            successor.sendall(rawzmq.frame(FROM_CLIENT.pack(sound)[0]))
            assert house.await_messages(1) == [sound]
            client = house.came.pop()[0]
        turn_until(house.loop, lambda: house.front.connected() == {})
        assert client in house.gone


def test_before_the_first_hello_any_number_may_come_and_go(house: House) -> None:
    for _ in range(1500):
        rawzmq.connected(house.path).close()
    house.dealer()
