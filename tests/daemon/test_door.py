"""Where workers come in: tokens, descriptors, queues, and how a link ends."""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.turning import turn_for, turn_until
from warmd.daemon import door as door_module
from warmd.daemon import links
from warmd.daemon.door import Door
from warmd.daemon.loop import Loop
from warmd.protocol.messages import PROTOCOL, CallId
from warmd.protocol.stream import Inbox, marked_off
from warmd.protocol.wire import FROM_WORKER, TO_WORKER, WireError
from warmd.protocol.work import (
    AppSpec,
    Arrived,
    Begin,
    Finish,
    Interrupted,
    Invoke,
    MoreCredit,
    Ordinal,
    Returned,
    StartFailed,
    WorkerId,
)

ONE = WorkerId(1)
BEGIN = Begin("sess_x", AppSpec("a", "a:B"), "/log", 1000)
LIMIT = 50_000_000


class House:
    """A door on a loop of its own, and what it told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = Loop()
        self.said: list[tuple[WorkerId, Any]] = []
        self.lost: list[tuple[WorkerId, str]] = []
        self.door = Door(
            self.loop, path, LIMIT, lambda *pair: self.said.append(pair), lambda *pair: self.lost.append(pair)
        )
        self.visitors: list[Visitor] = []

    def visitor(self) -> Visitor:
        self.visitors.append(Visitor(self.path))
        return self.visitors[-1]

    def let_in(self, begin: Begin = BEGIN) -> Visitor:
        self.door.expect("token", ONE, begin, ())
        visitor = self.visitor()
        visitor.arrive("token")
        assert self.receive(visitor) == begin
        return visitor

    def receive(self, visitor: Visitor) -> Any:
        """What the door sends next: at the end of a turn."""
        turn_until(self.loop, visitor.has_message)
        return visitor.receive()

    def messages(self, count: int) -> list[Any]:
        turn_until(self.loop, lambda: len(self.said) >= count)
        return [message for _, message in self.said]

    def close(self) -> None:
        for visitor in self.visitors:
            visitor.socket.close()
        self.door.close()
        self.loop.close()


class Visitor:
    """The worker's side of the door, blocking."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.inbox = Inbox(LIMIT)
        self.waiting: list[Any] = []

    def arrive(self, token: str, pid: int | None = None, protocol: int = PROTOCOL) -> None:
        self.say(Arrived(protocol, "0", token, os.getpid() if pid is None else pid))

    def say(self, message: Any) -> None:
        for buffer in marked_off(FROM_WORKER.pack(message)):
            self.socket.sendall(buffer)

    def receive(self) -> Any:
        while not self.waiting:
            count = self.socket.recv_into(self.inbox.buffer())
            assert count, "the door closed the link"
            self.waiting += [TO_WORKER.unpack(frames) for frames in self.inbox.received(count)]
        return self.waiting.pop(0)

    def has_message(self) -> bool:
        return bool(self.waiting) or bool(select.select([self.socket], [], [], 0)[0])

    def is_turned_away(self) -> bool:
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            self.socket.settimeout(10)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "d")
    yield house
    house.close()


def returned(value: bytes, ordinal: int = 1) -> Returned:
    return Returned(Ordinal(ordinal), 0.0, 0, value)


def test_the_door_is_for_its_user_alone(house: House) -> None:
    assert stat.S_IMODE(house.path.stat().st_mode) & 0o077 == 0


def test_the_right_token_gets_begin_and_its_descriptors(house: House) -> None:
    first, second = os.memfd_create("one"), os.memfd_create("two")
    os.write(second, b"shared")
    begin = Begin("sess_x", AppSpec("a", "a:B"), "/log", 1000, setup=b"s" * 2_000_000)
    house.door.expect("token", ONE, begin, (first, second))
    visitor = house.visitor()
    visitor.arrive("token")
    turn_until(house.loop, visitor.has_message)
    data, fds, _, _ = socket.recv_fds(visitor.socket, 65536, 2)
    assert len(fds) == 2
    assert os.pread(fds[1], 10, 0) == b"shared"
    visitor.waiting += [TO_WORKER.unpack(frames) for frames in visitor.inbox.feed(data)]
    reader = threading.Thread(target=lambda: visitor.waiting.append(visitor.receive()))
    reader.start()
    turn_until(house.loop, lambda: not reader.is_alive())
    assert visitor.waiting == [begin]
    for fd in (first, second, *fds):
        os.close(fd)


def test_a_token_is_good_for_one_entry(house: House) -> None:
    house.let_in()
    thief = house.visitor()
    thief.arrive("token")
    turn_until(house.loop, thief.is_turned_away)
    assert house.door.turned_away == 1


@pytest.mark.parametrize(("token", "pid"), [("other", None), ("", None), ("é", None), ("token", 1)])
def test_a_wrong_token_or_pid_is_turned_away(house: House, token: str, pid: int | None) -> None:
    house.door.expect("token", ONE, BEGIN, ())
    visitor = house.visitor()
    visitor.arrive(token, pid)
    turn_until(house.loop, visitor.is_turned_away)
    assert house.said == []
    assert house.let_in()


def test_who_says_something_else_first_is_turned_away(house: House) -> None:
    other = b"".join(map(bytes, marked_off(FROM_WORKER.pack(returned(b"")))))
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 5000, other):
        visitor = house.visitor()
        visitor.socket.sendall(data)
        turn_until(house.loop, visitor.is_turned_away)


def test_who_says_nothing_is_turned_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "ARRIVAL_SECONDS", 0.05)
    visitor = house.visitor()
    turn_until(house.loop, visitor.is_turned_away)


def test_a_crowd_of_strangers_keeps_no_worker_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "MAX_STRANGERS", 3)
    crowd = [house.visitor() for _ in range(6)]
    house.let_in()
    turned_away = [visitor.is_turned_away() for visitor in crowd]
    assert turned_away == [True] * 4 + [False] * 2, "the oldest go"


SLOW = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(1))"


def test_nor_does_it_turn_one_away_who_is_slow(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "MAX_STRANGERS", 3)
    with subprocess.Popen([sys.executable, "-c", SLOW, str(house.path)], stdout=subprocess.PIPE) as slow:
        turn_until(house.loop, lambda: house.door._strangers)
        crowd = [house.visitor() for _ in range(20)]
        turn_until(house.loop, lambda: house.door.turned_away == 18)
        assert slow.poll() is None and slow.pid in {stranger.pid for stranger in house.door._strangers}
        assert [visitor.is_turned_away() for visitor in crowd[-2:]] == [False] * 2
        slow.kill()


def test_a_worker_of_another_version_fails_its_start(house: House) -> None:
    house.door.expect("token", ONE, BEGIN, ())
    house.visitor().arrive("token", protocol=PROTOCOL + 1)
    (message,) = house.messages(1)
    assert isinstance(message, StartFailed)
    assert str(PROTOCOL + 1) in message.message


def test_a_begin_that_is_too_large_is_said_before_anything_starts(house: House) -> None:
    with pytest.raises(WireError, match="Begin"):
        house.door.expect("token", ONE, Begin("s", AppSpec("a", "a:B", ("p" * 70_000,)), "/log", 1), ())


def test_messages_go_both_ways_in_order(house: House) -> None:
    visitor = house.let_in()
    for ordinal in range(50):
        house.door.tell(ONE, MoreCredit(Ordinal(ordinal), 1))
        visitor.say(returned(b"v", ordinal))
    assert [message.ordinal for message in house.messages(50)] == list(range(50))
    assert [house.receive(visitor).ordinal for _ in range(50)] == list(range(50))
    house.door.tell(WorkerId(2), Finish("nobody"))


def test_a_worker_that_does_not_read_stops_nobody(house: House) -> None:
    visitor = house.let_in()
    bodies = [os.urandom(100) * 30_000 for _ in range(4)]
    for number, body in enumerate(bodies):
        house.door.tell(ONE, Invoke(Ordinal(number), CallId(bytes(16)), "f", None, body))
        house.door.tell(ONE, MoreCredit(Ordinal(number), number))
    visitor.say(Interrupted(Ordinal(1), 0.0))
    assert house.messages(1) == [Interrupted(Ordinal(1), 0.0)]
    received: list[Any] = []
    reader = threading.Thread(target=lambda: received.extend(visitor.receive() for _ in range(8)))
    reader.start()
    turn_until(house.loop, lambda: not reader.is_alive())
    assert [message.input for message in received[::2]] == bodies
    assert [message.parts for message in received[1::2]] == [0, 1, 2, 3]
    # With an empty queue the loop no longer asks whether there is room.
    assert not house.door._links[ONE]._queue


def test_a_large_result_arrives_whole(house: House) -> None:
    visitor = house.let_in()
    body = os.urandom(100) * 50_000
    messages = [returned(body), returned(b"small", 2)]
    sender = threading.Thread(target=lambda: [visitor.say(message) for message in messages])
    sender.start()
    large, small = house.messages(2)
    sender.join()
    assert (large.value, small.value) == (body, b"small")


def test_an_end_of_file_is_told_only_if_no_exit_follows(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "EXIT_SECONDS", 0.1)
    visitor = house.let_in()
    visitor.say(returned(b"last words"))
    visitor.socket.close()
    turn_until(house.loop, lambda: house.lost)
    assert house.said == [(ONE, returned(b"last words"))]
    assert house.lost == [(ONE, "closed its link to the daemon")]


def test_an_exit_after_the_end_of_file_is_no_lost_link(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "EXIT_SECONDS", 0.1)
    visitor = house.let_in()
    visitor.socket.close()
    turn_until(house.loop, lambda: house.door._links[ONE].ended)
    house.door.read_to_end(ONE)
    turn_for(house.loop, 0.2)
    assert house.lost == []


def test_after_an_exit_the_rest_is_read_though_a_child_holds_the_link(house: House) -> None:
    visitor = house.let_in()
    child = visitor.socket.dup()
    for ordinal in range(50):
        visitor.say(returned(b"", ordinal))
    visitor.socket.close()
    house.door.read_to_end(ONE)
    assert [message.ordinal for _, message in house.said] == list(range(50))
    assert house.door._links == {}
    child.close()


def test_nonsense_on_a_link_loses_it(house: House) -> None:
    visitor = house.let_in()
    visitor.socket.sendall(b"\xff" * 100)
    turn_until(house.loop, lambda: house.lost)
    assert "nonsense" in house.lost[0][1]


def test_a_result_over_the_limit_loses_the_link(house: House) -> None:
    visitor = house.let_in()
    visitor.socket.sendall(b"".join((n).to_bytes(4, "little") for n in (10, LIMIT, 1)))
    turn_until(house.loop, lambda: house.lost)


def test_the_forgotten_are_not_let_in(house: House) -> None:
    house.door.expect("token", ONE, BEGIN, ())
    house.door.forget(ONE)
    visitor = house.visitor()
    visitor.arrive("token")
    turn_until(house.loop, visitor.is_turned_away)
