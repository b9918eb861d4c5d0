"""Lanes and links on which descriptors come that should not: refused or without a meaning, and nobody else's
trouble."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

import warmd
from tests.daemon.rawclient import RawClient
from tests.faults.lentmemory import NOTHING, lends, lent_in
from tests.faults.watch import AT_ONCE_SECONDS, error_of, until, within, zoo
from warmd import plan
from warmd.link import done
from warmd.protocol import messages as msg
from warmd.protocol import places, values, work
from warmd.protocol.messages import CallId, Lent
from warmd.protocol.parcels import Parcel
from warmd.protocol.segments import MOST_SEGMENTS, SEALS
from warmd.protocol.stream import marked_off
from warmd.protocol.wire import FROM_DAEMON, FROM_WORKER

pytestmark = pytest.mark.alone

if TYPE_CHECKING:
    from warmd.owndaemon import LocalClient

ECHO = zoo("Echo").replace("zoo.py", "zoo_lent.py")
LIES = zoo("Lies").replace("zoo.py", "zoo_liars.py")
SIZE = 1 << 18
FLOOD = 3000
ROUNDS = 600
"""More descriptors than a socket holds."""
A_FEW = 64
"""Descriptors that a daemon may come to have for a while, whatever it is sent."""


def memfd(size: int = SIZE, seals: int = SEALS) -> int:
    fd = os.memfd_create("warmd-lent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def said(*messages: Any) -> bytes:
    return b"".join(bytes(part) for one in messages for part in marked_off(FROM_WORKER.pack(one)))


class RawLane(RawClient):
    """A client that says on its lane, and of it, what it likes."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.key = self.welcome.lane
        self.door = places.door_path(run_dir)
        self.lane = self.connected()

    def __exit__(self, *error: object) -> None:
        self.lane.close()
        super().__exit__(*error)

    def connected(self) -> socket.socket:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.connect(str(self.door))
        return found

    def reopen(self) -> None:
        """Another lane; returns when the daemon has it."""
        self.lane.close()
        self.lane = self.connected()
        self.put(said(work.Lend(self.key)))
        assert self.lane.recv(8) == bytes(8)

    def put(self, data: bytes, *fds: int, at: socket.socket | None = None) -> None:
        """Say this on the lane, with descriptors that are closed here."""
        try:
            socket.send_fds(at or self.lane, [data], fds)
        finally:
            for fd in fds:
                os.close(fd)

    def lend(self, number: int, fd: int | None = None, key: str | None = None) -> None:
        self.put(said(work.Lend(key or self.key, number)), memfd() if fd is None else fd)

    def as_sent(self) -> msg.Result:
        """The next answer, as it travels."""
        while True:
            message = FROM_DAEMON.unpack(self._socket.recv_multipart())
            if type(message) is msg.Ping:
                self.send(msg.Pong(message.number))
            if type(message) is msg.Result:
                return message

    def call_with(self, session: str, lent: Lent, region: bytes = b"") -> CallId:
        """Of a function that tells how many bytes it was given."""
        id, value = CallId(os.urandom(16)), values.pack_apart(bytes(SIZE))
        assert isinstance(value, Parcel)
        self.send(msg.Call(id, session, None, "size", lent=lent, input=value.body, region=region))
        return id

    def code(self, session: str, lent: Lent) -> str:
        """What such a call ends with."""
        answer = self.answer(self.call_with(session, lent))
        return "ok" if type(answer) is msg.Result else str(answer.code)


def open_files(client: LocalClient) -> int:
    return psutil.Process(client.daemon_pid).num_fds()


@pytest.fixture
def raw(unharmed: LocalClient) -> Iterator[RawLane]:
    """Afterwards the daemon has no descriptor more than before."""
    with RawClient(unharmed.run_dir) as first:
        unharmed.sessions.end(first.run(ECHO, "size", b"").session)  # from now on its template is there
    before = open_files(unharmed)
    with RawLane(unharmed.run_dir) as raw:
        yield raw
    until(lambda: lent_in(unharmed.daemon_pid) == NOTHING, AT_ONCE_SECONDS)
    until(lambda: open_files(unharmed) <= before, AT_ONCE_SECONDS)


@pytest.fixture
def session(raw: RawLane, unharmed: LocalClient) -> Iterator[str]:
    id = raw.run(ECHO, "size", b"").session
    yield id
    assert raw.run(None, "size", b"", id).parts == 0, "it serves as before"
    unharmed.sessions.end(id)


# At the door and on the lane


def test_who_does_not_know_the_key_opens_no_lane(raw: RawLane, session: str, unharmed: LocalClient) -> None:
    for key in ("", "x", raw.key[:-1], raw.key + "0", "0" * 32):
        with contextlib.closing(raw.connected()) as stranger:
            raw.put(said(work.Lend(key, 1)), memfd(), at=stranger)
            assert stranger.recv(1) == b"", "it was not sent away"
    assert raw.code(session, Lent(1, SIZE)) == "INVALID"
    assert lent_in(unharmed.daemon_pid) == NOTHING


GARBAGE: dict[str, bytes] = {
    "no message": b"\xff" * 12,
    "half a message": said(work.Lend("x" * 32, 1))[:-3],
    "one byte": b"\0",
    "another message": said(work.Returned(work.Ordinal(1), 0.0, 0, b"x")),
    "hand back": said(msg.HandBack([1, 2, 3])),
}


@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("opened", [False, True], ids=["at the door", "on the lane"])
def test_descriptors_that_come_with_garbage_are_closed(
    raw: RawLane, session: str, unharmed: LocalClient, what: str, opened: bool
) -> None:
    for _ in range(20):
        with contextlib.closing(raw.connected()) as lane:
            if opened:
                raw.put(said(work.Lend(raw.key)), at=lane)
            for number in range(3):
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    raw.put(GARBAGE[what], *(memfd() for _ in range(number * 8 + 1)), at=lane)
            assert raw.code(session, Lent(1, SIZE)) == "INVALID"
    until(lambda: lent_in(unharmed.daemon_pid) == NOTHING, AT_ONCE_SECONDS)


def test_many_descriptors_with_one_message_are_none(raw: RawLane, session: str) -> None:
    for count in (0, 2, 16, 17, 253):
        raw.put(said(work.Lend(raw.key, 5)), *(memfd() for _ in range(count)))
        assert raw.code(session, Lent(5, SIZE)) == "INVALID"
        raw.reopen()
    raw.lend(5)
    assert raw.code(session, Lent(5, SIZE)) == "ok"


def test_a_flood_of_descriptors_takes_none_of_the_daemons(
    raw: RawLane, unharmed: LocalClient, session: str
) -> None:
    """They are looked at with a call that names one, and then there are few at one time."""
    most = 0
    for number in range(1, FLOOD):
        try:
            raw.lane.setblocking(False)
            raw.lend(number)
        except (BlockingIOError, BrokenPipeError) as error:
            call = raw.call_with(session, Lent(number - 1, SIZE))
            most = max(most, *(lent_in(unharmed.daemon_pid).descriptors for _ in range(5)))
            raw.answer(call)
            if isinstance(error, BrokenPipeError):
                raw.reopen()
    assert most < A_FEW


# What is lent


LOANS: dict[str, tuple[Callable[[], int], Lent, str]] = {
    "as it should": (memfd, Lent(1, SIZE), "ok"),
    "a socket": (lambda: socket.socket().detach(), Lent(1, SIZE), "INVALID"),
    "a directory": (lambda: os.open("/", os.O_RDONLY), Lent(1, SIZE), "INVALID"),
    "a file": (lambda: os.open(__file__, os.O_RDONLY), Lent(1, SIZE), "INVALID"),
    "a device": (lambda: os.open("/dev/zero", os.O_RDONLY), Lent(1, SIZE), "INVALID"),
    "unsealed": (partial(memfd, seals=0), Lent(1, SIZE), "INVALID"),
    "one that can shrink": (partial(memfd, seals=SEALS & ~fcntl.F_SEAL_SHRINK), Lent(1, SIZE), "INVALID"),
    "smaller than said": (partial(memfd, SIZE - 1), Lent(1, SIZE), "INVALID"),
    "of no size": (partial(memfd, 0), Lent(1, 0), "INVALID"),
    "less than nothing": (memfd, Lent(1, -1), "INVALID"),
    "less than all": (memfd, Lent(1, -(2**63)), "INVALID"),
    "another number": (memfd, Lent(2, SIZE), "INVALID"),
    "a negative number": (memfd, Lent(-1, SIZE), "INVALID"),
    "too large": (partial(memfd, 2**40), Lent(1, 2**29), "TOO_LARGE"),
    "the largest": (partial(memfd, 2**40), Lent(1, 2**64 - 1), "TOO_LARGE"),
    "less than the value needs": (memfd, Lent(1, SIZE - 1), "INVALID"),
}


@pytest.mark.parametrize("what", LOANS)
def test_a_call_with_what_cannot_be_lent_is_refused(raw: RawLane, session: str, what: str) -> None:
    make, lent, code = LOANS[what]
    for _ in range(3):
        raw.lend(1, make())
        assert raw.code(session, lent) == code
        raw.send(msg.HandBack([1, 2, 3, 2**64 - 1], [1, 7]))


def test_a_call_whose_memory_never_came_is_refused_at_once(
    raw: RawLane, session: str, unharmed: LocalClient
) -> None:
    with within(AT_ONCE_SECONDS), RawClient(unharmed.run_dir) as without:
        assert raw.code(session, Lent(1, SIZE)) == "INVALID"
        raw.lend(1)
        raw.lane.close()
        assert raw.code(session, Lent(1, SIZE)) == "ok", "it had come before the end"
        assert raw.code(session, Lent(2, SIZE)) == "INVALID"
        call = msg.Call(CallId(bytes(16)), session, None, "size", lent=Lent(1, SIZE))
        without.send(call)
        assert without.answer(call.id).code == "INVALID", "it has no lane"


def test_a_region_in_the_message_beside_one_that_is_lent_means_nothing(raw: RawLane, session: str) -> None:
    raw.lend(1)
    id = raw.call_with(session, Lent(1, SIZE), region=b"x" * SIZE)
    assert values.unpack(raw.answer(id).value) == SIZE


def test_a_lane_can_be_opened_again_in_the_midst_of_calls(raw: RawLane, session: str) -> None:
    """What was on the old one may be lost, and nothing that is on the new one."""
    for number in range(1, 90, 3):
        for same in range(3):
            raw.lend(number + same)
            raw.call_with(session, Lent(number + same, SIZE))
        raw.reopen()
        answers = [raw.next() for _ in range(3)]
        assert {getattr(answer, "code", "INVALID") for answer in answers} == {"INVALID"}
        raw.lend(number)
        assert raw.code(session, Lent(number, SIZE)) == "ok"


def test_what_is_said_on_a_lane_when_a_client_is_gone_means_nothing(
    raw: RawLane, unharmed: LocalClient
) -> None:
    with RawLane(unharmed.run_dir) as other:
        key, lane = other.key, other.connected()
        other.put(said(work.Lend(key)), at=lane)
        other.lend(1)
    until(lambda: unharmed.status().clients == 3)
    for late in (lane, raw.connected()):
        with late, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.put(said(work.Lend(key, 2)), memfd(), at=late)
            assert late.recv(1) == b""


def test_a_client_has_no_more_lent_than_it_may(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with warmd.testing.daemon(max_lent_bytes=2 * SIZE) as own, RawLane(own.run_dir) as raw:
        session = raw.run(ECHO, "size", b"").session
        stuck = own.session(id=session).submit("wait", {"value": None, "pipe": str(pipe)})
        until(lambda: stuck.status().state == "running")
        calls = []
        for number in range(1, 4):
            raw.lend(number)
            calls.append(raw.call_with(session, Lent(number, SIZE)))
        assert raw.answer(calls[2]).code == "QUEUE_FULL"
        pipe.write_text("go on")
        assert {values.unpack(raw.answer(call).value) for call in calls[:2]} == {SIZE}


# What is given back


def test_who_hands_back_and_never_reads_gets_frames_when_the_lane_is_full(raw: RawLane, session: str) -> None:
    given = values.pack({"number": 1, "size": SIZE})
    raw.reopen()
    came: list[str] = []
    for _ in range(ROUNDS):
        raw.send(msg.Call(CallId(os.urandom(16)), session, None, "filled", input=given))
        result = raw.as_sent()
        came.append("lent" if result.lent else "frame")
        if result.lent:
            assert result.lent.size >= SIZE
            raw.send(msg.HandBack([result.lent.number]))
        else:
            assert len(result.region) >= SIZE
    assert came[0] == "lent" and came[-1] == "frame"
    assert 0 < lent_in(os.getpid()).on_their_way < ROUNDS


def test_who_hands_nothing_back_gets_frames_when_all_is_lent(raw: RawLane, session: str) -> None:
    given = values.pack({"number": 1, "size": SIZE})
    raw.reopen()
    for number in range(2 * MOST_SEGMENTS):
        raw.send(msg.Call(CallId(os.urandom(16)), session, None, "filled", input=given))
        assert (raw.as_sent().lent is not None) == (number < MOST_SEGMENTS)


# Clients that are honest


def test_results_whose_lane_was_closed_meanwhile_are_there(unharmed: LocalClient) -> None:
    """The daemon hangs up on what is none of its protocol, with descriptors on their way both ways."""
    with warmd.Client(unharmed.address) as client, client.session(ECHO) as session:
        array = np.arange(SIZE)
        session.call("echo", array)
        calls = [session.submit("echo", array + number) for number in range(8)]
        until(lambda: unharmed.status().running + unharmed.status().queued == 0)
        link = client._link
        assert link is not None and link.transport.lane is not None
        assert link.transport.lane._socket is not None
        lane, hung_up = link.transport.lane._socket, select.poll()
        hung_up.register(lane, 0)
        lane.send(GARBAGE["no message"])
        late = [plan.call({"session": session.id, "function": "echo", "input": array}) for _ in range(4)]
        with link._mutex:
            refused = [link.exchange.begin(message, time.monotonic(), None) for message in late]
            link.transport.flush()  # and nothing is received
        assert hung_up.poll(20_000)
        for number, call in enumerate(calls):
            assert np.array_equal(call.result().output, array + number)
        assert all(link.wait(pending, done) for pending in refused)
        codes = [pending.problem.code for pending in refused if pending.problem is not None]
        assert codes and {*codes} == {"INVALID"}
        assert np.array_equal(session.call("echo", array).output, array), "now without a lane"
        until(lambda: not lends(client), AT_ONCE_SECONDS)


# Workers


def lies_with_files() -> dict[str, tuple[bytes, int]]:
    """What a worker sends, and how many descriptors with each piece."""
    returned = partial(work.Returned, work.Ordinal(1), 0.0, 0, b"x")
    return {
        "a result without its memory": (said(returned(lent=Lent(1, SIZE))), 0),
        "a part without its memory": (said(work.Yielded(work.Ordinal(1), 0, b"x", Lent(1, SIZE))), 0),
        "more than there is": (said(returned(lent=Lent(1, 2**40))), 1),
        "a flood": (said(work.Progressed(work.Ordinal(1), values.pack(1))), 16),
        "a flood with nothing": (b"\0", 16),
    }


@pytest.mark.parametrize("what", lies_with_files())
def test_a_worker_that_lies_about_memory_is_dead(unharmed: LocalClient, what: str) -> None:
    data, files = lies_with_files()[what]
    most = 0
    with unharmed.session(LIES) as session, unharmed.session(ECHO) as other:
        call = session.submit("lie_with_files", {"data": data, "files": files, "times": 100})
        while not call.done():
            most = max(most, lent_in(unharmed.daemon_pid).descriptors)
        assert error_of(call.result).code == "WORKER_DIED"
        assert other.call("size", b"xyz").output == 3
    assert most < A_FEW
    until(lambda: lent_in(unharmed.daemon_pid) == NOTHING, AT_ONCE_SECONDS)


def test_a_worker_that_hands_back_what_it_was_not_given_harms_nobody(unharmed: LocalClient) -> None:
    numbers, array = [*range(-5, 500), 2**64 - 1], np.arange(SIZE)
    with warmd.Client(unharmed.address) as client:
        liar, other = client.session(LIES), client.session(ECHO)
        kept = [other.call("echo", array).output for _ in range(5)]
        for lie in (msg.HandBack(numbers), msg.HandBack(numbers, numbers), msg.HandBack([], numbers)):
            assert liar.call("lie", {"data": said(lie), "more": array}).output == "true"
            assert np.array_equal(other.call("echo", array).output, array)
        assert all(np.array_equal(one, array) for one in kept)
        liar.end()
        other.end()
