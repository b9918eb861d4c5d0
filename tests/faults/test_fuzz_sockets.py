"""Bytes on the daemon's sockets that are not of their protocol: nobody else notices."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.faults.fuzz import Garbage, examples, on_a_stream
from tests.faults.watch import until, within, zoo
from tests.rawzmq import GREETING, READY, connected, shake_hands
from warmd.daemon.front import HANDSHAKE_MILLISECONDS
from warmd.protocol import places, work
from warmd.protocol.messages import PROTOCOL
from warmd.protocol.stream import marked_off
from warmd.protocol.wire import FROM_CLIENT, FROM_WORKER

if TYPE_CHECKING:
    from warmd.local import LocalClient  # imported, it would hide the function `warmd.local`

pytestmark = pytest.mark.alone

OPENINGS = {
    "nothing": b"",
    "no greeting": b"GET / HTTP/1.1\r\n\r\n",
    "half a greeting": GREETING[:20],
    "a greeting of another version": GREETING.replace(b"\x7f\x03", b"\x7f\x09"),
    "a greeting of another mechanism": GREETING.replace(b"NULL", b"CURV"),
    "a greeting alone": GREETING,
    "half a handshake": GREETING + READY[:9],
    "a handshake of another kind": GREETING + READY.replace(b"\x06DEALER", b"\x06GOLFER"),
    "all at once": GREETING + READY + b"\0\1x",
}
MESSAGES = {
    "nothing": b"",
    "no warmd": b"\0\1x",
    "a frame of 8 GB": b"\x02" + (8 * 2**30).to_bytes(8, "big") + b"x",
    "a frame of 16 EB": b"\x03" + b"\xff" * 8,
    "endless frames": b"\x01\x01x" * 10_000,
    "reserved flags": b"\xf8\x01x",
    "a command": b"\x04\x05\x04PING",
    "an identity too many": READY,
}


def visit(path: Path, data: bytes, shaken: bool = False) -> socket.socket:
    """A connection that has said this much, once hands were shaken or at once; the caller closes it."""
    found = connected(path)
    with contextlib.suppress(ConnectionError):
        assert not shaken or shake_hands(found)
        found.sendall(data)
    return found


def is_over(connection: socket.socket) -> bool:
    """Waits for the other side to close it, whatever that sends before."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def test_bytes_that_are_no_zeromq_harm_nobody(unharmed: LocalClient) -> None:
    path = places.socket_path(unharmed.run_dir)
    random = Garbage(FROM_CLIENT, {}).random
    with contextlib.ExitStack() as open_ones:
        for shaken, known in ((False, OPENINGS), (True, MESSAGES)):
            for data in known.values():
                open_ones.enter_context(visit(path, data, shaken))
                visit(path, data, shaken).close()
        for number in range(examples(300)):
            shaken = random.random() < 0.5
            known = MESSAGES if shaken else OPENINGS
            cut = random.choice(list(known.values()))[: random.randrange(120)]
            visiting = visit(path, cut + random.randbytes(random.randrange(200)), shaken)
            if number % 6:
                visiting.close()
            else:
                open_ones.enter_context(visiting)
    until(lambda: unharmed.status().clients == 2)  # this one and the witness


def test_connections_that_only_come_and_go_harm_nobody(unharmed: LocalClient) -> None:
    descriptors = psutil.Process(unharmed.daemon_pid).num_fds
    before = descriptors()
    for path in (places.socket_path(unharmed.run_dir), places.door_path(unharmed.run_dir)):
        for _ in range(examples(500)):
            visit(path, b"").close()
    until(lambda: descriptors() <= before)


def test_who_does_not_finish_the_handshake_is_sent_away(client: LocalClient) -> None:
    unfinished = ["nothing", "half a greeting", "a greeting alone", "half a handshake"]
    with contextlib.ExitStack() as open_ones, within(2 * HANDSHAKE_MILLISECONDS / 1000):
        path = places.socket_path(client.run_dir)
        waiting = [open_ones.enter_context(visit(path, OPENINGS[opening])) for opening in unfinished]
        assert all(map(is_over, waiting))


def test_who_shows_no_token_is_sent_away(unharmed: LocalClient) -> None:
    before = unharmed.status().strangers_turned_away
    path, pid = places.door_path(unharmed.run_dir), os.getpid()
    tokens = ["", "x", "0" * 64, "f" * 63, "f" * 32, "\U0001f4a9" * 16, "x" * 3000]
    wrong = [said(work.Arrived(PROTOCOL, "0", token, pid)) for token in tokens]
    wrong += [said(work.Arrived(PROTOCOL, "0", tokens[2], pid + 1)), bytes(4096), b"\xff" * 12]
    wrong += [
        said(work.Returned(work.Ordinal(1), 0.0, 0, b"x")),
        said(work.Arrived(PROTOCOL, "0", "", pid)) * 9,
    ]
    for data in wrong:
        with visit(path, data) as visiting:
            assert is_over(visiting)
    assert unharmed.status().strangers_turned_away >= before + len(wrong)


def test_garbage_at_the_door_harms_nobody(unharmed: LocalClient) -> None:
    garbage = Garbage(FROM_WORKER, {"token": ["0" * 64, ""], "pid": [os.getpid(), 1]})
    path = places.door_path(unharmed.run_dir)
    for _ in range(examples(400)):
        visit(path, on_a_stream(garbage.frames(), garbage.random)).close()
    with unharmed.session(zoo("Good")) as session:  # the door still lets workers in
        assert session.call("run").output["n"] == 1


def said(message: work.FromWorker) -> bytes:
    return b"".join(bytes(part) for part in marked_off(FROM_WORKER.pack(message)))
