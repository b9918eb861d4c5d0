"""The clients' side: handshake, garbage, who leaves and how that is noticed, large messages."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.daemon.lanes import no_lanes
from tests.daemon.turning import turn_for, turn_until
from warmd.daemon import front as front_module
from warmd.daemon import peers
from warmd.daemon.front import MESSAGES_PER_TURN, Front
from warmd.daemon.loop import Loop
from warmd.protocol import messages as msg
from warmd.protocol.messages import PROTOCOL, CallId, ClientId, SessionId
from warmd.protocol.wire import FROM_CLIENT, FROM_DAEMON

LIMIT = 100_000
HELLO = msg.Hello(PROTOCOL, "0", os.getpid(), "test")


class House:
    """A front on a loop of its own, and what it told."""

    def __init__(self, path: Path, limit: int = LIMIT, max_connections: int = 0) -> None:
        self.path = path
        self.loop = Loop()
        self.came: list[tuple[ClientId, Any]] = []
        self.gone: list[ClientId] = []
        handlers = dict.fromkeys(
            (msg.Call, msg.Request, msg.Credit, msg.Cancel), lambda *pair: self.came.append(pair)
        )
        handlers[msg.Hello] = lambda *_: None
        welcome = msg.Welcome(PROTOCOL, "9.9", "boot", os.getpid(), limit)
        self.front = Front(
            self.loop, path, welcome, handlers, self.gone.append,
            lanes=no_lanes(self.loop), max_connections=max_connections,
        )  # fmt: skip
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.dealers: list[zmq.Socket[bytes]] = []

    def dealer(self, hello: msg.Hello | None = HELLO) -> zmq.Socket[bytes]:
        dealer = self.context.socket(zmq.DEALER)
        self.dealers.append(dealer)  # one that is collected while open is a warning
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.connect(f"ipc://{self.path}")
        if hello is not None:
            self.send(dealer, hello)
            assert isinstance(self.answer(dealer), msg.Welcome)
        return dealer

    def send(self, dealer: zmq.Socket[bytes], message: Any) -> None:
        dealer.send_multipart(FROM_CLIENT.pack(message))

    def answer(self, dealer: zmq.Socket[bytes]) -> Any:
        while True:
            turn_until(self.loop, lambda: dealer.poll(1))
            message = FROM_DAEMON.unpack(dealer.recv_multipart())
            if type(message) is not msg.Ping:
                return message
            self.send(dealer, msg.Pong(message.number))

    def await_messages(self, count: int) -> list[Any]:
        turn_until(self.loop, lambda: len(self.came) >= count)
        return [message for _, message in self.came]

    def close(self) -> None:
        self.context.destroy(0)
        self.front.close()
        self.loop.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "s")
    yield house
    house.close()


def credit(parts: int = 1) -> msg.Credit:
    return msg.Credit(CallId(os.urandom(16)), parts)


def call(input: bytes = b"", setup: bytes = b"") -> msg.Call:
    return msg.Call(CallId(os.urandom(16)), "new", None, "f", input=input, setup=setup)


def test_hello_is_welcomed_and_messages_come_with_their_client(house: House) -> None:
    dealer = house.dealer(None)
    house.send(dealer, HELLO)
    assert house.answer(dealer) == msg.Welcome(PROTOCOL, "9.9", "boot", os.getpid(), LIMIT)
    sent = call(b"in")
    house.send(dealer, sent)
    assert house.await_messages(1) == [sent]
    result = msg.Result(sent.id, SessionId("sess_x"), value=b"out")
    house.front.send(house.came[0][0], result)
    assert house.answer(dealer) == result
    assert [*house.front.connected().values()] == [(os.getpid(), "test")]


def test_the_socket_is_for_its_user_alone(house: House) -> None:
    assert stat.S_IMODE(house.path.stat().st_mode) & 0o077 == 0


def test_another_protocol_is_refused_with_both_versions(house: House) -> None:
    dealer = house.dealer(None)
    house.send(dealer, msg.Hello(PROTOCOL + 1, "7.7", 1, "old"))
    refused = house.answer(dealer)
    assert isinstance(refused, msg.Refused)
    for fact in ("9.9", "7.7", str(PROTOCOL), str(PROTOCOL + 1)):
        assert fact in refused.message
    house.send(dealer, credit())
    turn_for(house.loop, 0.05)
    assert house.came == []


def test_another_user_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_local_process", lambda _frame: (os.getuid() + 1, os.getpid()))
    dealer = house.dealer(None)
    house.send(dealer, HELLO)
    refused = house.answer(dealer)
    assert isinstance(refused, msg.Refused)
    assert str(os.getuid() + 1) in refused.message


def test_what_a_client_calls_itself_cannot_write_on_a_terminal(house: House) -> None:
    dealer = house.dealer(None)
    house.send(dealer, msg.Hello(PROTOCOL, "0", os.getpid(), "\x1b[2Jx\n" * 100))
    house.answer(dealer)
    ((_, name),) = house.front.connected().values()
    assert name.startswith("?[2Jx?") and len(name) == 64 and name.isprintable()


def test_before_hello_nothing_is_heard(house: House) -> None:
    dealer = house.dealer(None)
    house.send(dealer, credit())
    turn_until(house.loop, lambda: house.front.counters["before hello"])
    assert house.came == []


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1"],
        [b"\x90" * 70_000],
        [os.urandom(500)],
        [FROM_CLIENT.pack(credit())[0], b"a", b"b", b"c", b"d", b"e"],
        FROM_CLIENT.pack(msg.Credit(CallId(b"short"), 1)),
        FROM_CLIENT.pack(HELLO),
    ],
)
def test_garbage_is_counted_and_dropped(house: House, frames: list[bytes]) -> None:
    dealer = house.dealer()
    dealer.send_multipart(frames)
    sound = credit()
    house.send(dealer, sound)
    assert house.await_messages(1) == [sound]
    assert house.front.counters["malformed"] == 1


def test_an_endless_message_does_not_gather(house: House) -> None:
    dealer = house.dealer()
    dealer.send_multipart([FROM_CLIENT.pack(credit())[0], *[b"x" * 1000] * 5000])
    sound = credit()
    house.send(dealer, sound)
    assert house.await_messages(1) == [sound]
    assert house.front.counters["malformed"] == 1


def test_bodies_over_the_limit_are_refused_and_the_connection_lives(house: House) -> None:
    dealer = house.dealer()
    large = call(b"x" * 60_000, b"y" * 60_000)
    house.send(dealer, large)
    failure = house.answer(dealer)
    assert isinstance(failure, msg.Failure)
    assert (failure.id, failure.code, failure.ran) == (large.id, "TOO_LARGE", "no")
    assert str(LIMIT) in failure.message
    house.send(dealer, call(b"x" * LIMIT))
    assert len(house.await_messages(1)[0].input) == LIMIT


def test_a_frame_over_the_limit_ends_its_connection_alone(house: House) -> None:
    greedy, modest = house.dealer(), house.dealer()
    house.send(greedy, call(b"x" * (LIMIT + 1)))
    turn_until(house.loop, lambda: house.gone)
    sound = credit()
    house.send(modest, sound)
    assert house.await_messages(1) == [sound]


def test_many_messages_keep_their_order_and_leave_room_for_others(house: House) -> None:
    dealer = house.dealer()
    for number in range(3000):
        house.send(dealer, credit(number))
    seen = [0]

    def all_came() -> bool:
        seen.append(len(house.came))
        return seen[-1] == 3000

    turn_until(house.loop, all_came)
    most = max(after - before for before, after in pairwise(seen))
    assert [message.parts for _, message in house.came] == list(range(3000))
    # One more than a turn's share: the first message is taken when the descriptor wakes the loop.
    assert most <= MESSAGES_PER_TURN + 1


def test_thousands_of_answers_to_a_client_that_does_not_read_are_kept(house: House) -> None:
    dealer = house.dealer()
    house.send(dealer, credit())
    house.await_messages(1)
    for number in range(5000):
        house.front.send(house.came[0][0], msg.Part(CallId(bytes(16)), number, b"v" * 100))
    assert [house.answer(dealer).number for _ in range(5000)] == list(range(5000))


def test_in_a_rush_libzmqs_thread_waits_for_its_turn(house: House) -> None:
    dealer = house.dealer()
    house.send(dealer, credit())
    house.await_messages(1)
    for number in range(100):
        house.front.send(house.came[0][0], msg.Part(CallId(bytes(16)), number))
    turn_until(house.loop, lambda: waiting_threads() == 1)
    turn_until(house.loop, lambda: waiting_threads() == 0)
    assert [house.answer(dealer).number for _ in range(100)] == list(range(100))


def waiting_threads() -> int:
    """How many threads of this process let others go first."""
    policies = map(os.sched_getscheduler, map(int, os.listdir("/proc/self/task")))
    return list(policies).count(os.SCHED_BATCH)


def test_a_large_body_goes_both_ways(tmp_path: Path) -> None:
    house = House(tmp_path / "s", limit=50_000_000)
    dealer = house.dealer()
    body = os.urandom(1000) * 20_000
    house.send(dealer, call(body))
    (received,) = house.await_messages(1)
    assert received.input == body
    house.front.send(house.came[0][0], msg.Result(received.id, None, value=received.input))
    assert house.answer(dealer).value == body
    house.close()


def test_a_closed_connection_is_noticed_at_once(house: House) -> None:
    dealer = house.dealer()
    house.send(dealer, credit())
    house.await_messages(1)
    dealer.close(0)
    turn_until(house.loop, lambda: house.gone)
    assert house.gone == [house.came[0][0]]
    house.front.send(house.gone[0], msg.Goodbye("nobody hears it"))
    turn_for(house.loop, 0.02)
    assert len(house.gone) == 1
    assert house.front.connected() == {}


def test_a_descriptor_that_is_used_again_is_not_taken_for_the_old_client(house: House) -> None:
    for _ in range(30):
        old = house.dealer()
        house.send(old, credit())
        house.await_messages(1)
        old_client = house.came.pop()[0]
        old.close(0)
        time.sleep(0.001)  # no event tells that libzmq has closed its end and freed the number
        new = house.dealer()
        turn_until(house.loop, lambda: house.gone)
        assert house.gone == [old_client]
        sound = credit()
        house.send(new, sound)
        assert house.await_messages(1) == [sound]
        new_client = house.came.pop()[0]
        new.close(0)
        turn_until(house.loop, lambda: len(house.gone) == 2)
        assert house.gone.pop() == new_client
        house.gone.clear()


FORKING_CLIENT = """
import os, sys, time, zmq
from warmd.protocol import messages as msg
from warmd.protocol.wire import FROM_CLIENT
dealer = zmq.Context().socket(zmq.DEALER)
dealer.connect("ipc://" + sys.argv[1])
dealer.send_multipart(FROM_CLIENT.pack(msg.Hello(msg.PROTOCOL, "0", os.getpid(), "forking")))
dealer.recv_multipart()
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


def test_a_client_that_dies_is_noticed_though_its_child_holds_the_connection(house: House) -> None:
    command = [sys.executable, "-c", FORKING_CLIENT, str(house.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        turn_until(house.loop, house.front.connected)
        turn_until(house.loop, lambda: True)
        child = int(client.stdout.readline())
        client.kill()
        turn_until(house.loop, lambda: house.gone)
        os.kill(child, signal.SIGKILL)
    assert house.front.connected() == {}


def test_many_connections_of_one_process_cost_one_pidfd(house: House) -> None:
    def pidfds() -> int:
        links = (os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit())
        return sum("pidfd" in link for link in _existing(links))

    before = pidfds()
    dealers = [house.dealer() for _ in range(10)]
    assert pidfds() == before + 1
    for dealer in dealers:
        dealer.close(0)
    turn_until(house.loop, lambda: len(house.gone) == 10)
    assert pidfds() == before


def _existing(links: Iterator[str]) -> Iterator[str]:
    while True:
        try:
            yield next(links)
        except FileNotFoundError:
            return
        except StopIteration:
            return


def test_messages_that_take_long_leave_the_others_their_turn(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_module, "TURN_SECONDS", 0.0)
    dealer = house.dealer()
    sent = [credit() for _ in range(20)]
    for message in sent:
        house.send(dealer, message)
    came: list[int] = []
    house.loop.turn_ended.append(lambda: came.append(len(house.came)))
    assert house.await_messages(20) == sent
    assert max(after - before for before, after in pairwise(came)) <= 2


def test_all_are_told_goodbye(house: House) -> None:
    dealers = [house.dealer(), house.dealer()]
    house.front.broadcast(msg.Goodbye("enough"))
    assert [house.answer(dealer) for dealer in dealers] == [msg.Goodbye("enough")] * 2


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_connections_are_limited_and_the_socket_listens_again(tmp_path: Path) -> None:
    house = House(tmp_path / "s", max_connections=5)
    silent = [house.dealer(None) for _ in range(3)]
    known = [house.dealer(), house.dealer()]
    turn_until(house.loop, lambda: not listens(house.path))
    sound = credit()
    house.send(known[0], sound)
    assert house.await_messages(1) == [sound]
    for dealer in silent:
        dealer.close(0)
    turn_until(house.loop, lambda: listens(house.path))
    assert stat.S_IMODE(house.path.stat().st_mode) & 0o077 == 0
    house.dealer()
    house.close()


def test_a_socket_that_cannot_be_bound_is_an_error_at_once(tmp_path: Path) -> None:
    loop = Loop()
    welcome = msg.Welcome(PROTOCOL, "9.9", "boot", 1, LIMIT)
    with pytest.raises(OSError, match="No such file"):
        Front(loop, tmp_path / "missing" / "s", welcome, {}, lambda _client: None, lanes=no_lanes(loop))
    loop.close()
