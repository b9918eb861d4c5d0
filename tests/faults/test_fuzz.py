"""Garbage at the sockets of a real daemon: it is dropped and counted, and nobody else notices."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from tests.faults.fuzz import DEEP, WIDE, Garbage, examples
from tests.faults.watch import until, zoo
from warmd.protocol import messages as msg
from warmd.protocol import places, values
from warmd.protocol.messages import PROTOCOL, AppRef, CallId
from warmd.protocol.wire import FROM_CLIENT

if TYPE_CHECKING:
    from warmd.local import LocalClient  # imported, it would hide the function `warmd.local`

pytestmark = pytest.mark.alone

SEND_MILLISECONDS = 2000
IDS = [CallId(bytes([n]) * 16) for n in range(8)]
# Not `stop` and not `sessions.end`: what they do is no damage.
VERBS = ["sessions.list", "sessions.get", "sessions.keepalive", "sessions.hold", "calls.get", "calls.list"]
VERBS += ["calls.cancel", "why", "logs", "apps.list", "status", "", "Stop", "__init__", "client_gone"]


class Noisy:
    """A DEALER that sends whatever it is given; it connects anew when it was cut off."""

    def __init__(self, client: LocalClient) -> None:
        self._address = f"ipc://{places.socket_path(client.run_dir)}"
        self._context = zmq.Context()
        self._socket = self._connected()

    def __enter__(self) -> Noisy:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close(0)
        self._context.term()

    def send(self, frames: list[bytes]) -> None:
        try:
            self._socket.send_multipart(frames)
        except zmq.Again:
            self.anew()
        with contextlib.suppress(zmq.Again):
            while True:
                self._socket.recv_multipart(zmq.NOBLOCK)

    def greet(self) -> None:
        self.send([bytes(f) for f in FROM_CLIENT.pack(msg.Hello(PROTOCOL, "test", os.getpid(), "fuzz"))])

    def anew(self) -> None:
        self._socket.close(0)
        self._socket = self._connected()

    def _connected(self) -> zmq.Socket[bytes]:
        found = self._context.socket(zmq.DEALER)
        found.setsockopt(zmq.LINGER, 0)
        found.setsockopt(zmq.SNDTIMEO, SEND_MILLISECONDS)
        found.connect(self._address)
        return found


def pools(session: str) -> dict[str, list[Any]]:
    """Values by field for messages of a client; `session` is one that may be harmed."""
    return {
        "id": [*IDS, *IDS, b"", b"short", b"x" * 17],
        "call": [*IDS, b"x"],
        "session": [session, session, session, "new", None, "", "sess_" + "0" * 32, "x" * 20_000],
        "app": [None, ["nosuch", None, None], ["/no/such", ["/no", "/", "/"], None], ["no:Such", None, "ff"]],
        "function": ["run", "echo", "seen", "", "_x", "setup", "x" * 30_000],
        "verb": VERBS,
        "arguments": [
            {},
            {"session": session},
            {"session": session, "seconds": float("nan")},
            {"id": "x" * 20_000},
            {"session": session, "tail": 2**63, "follow": True},
            {"call": IDS[0].hex()},
            {"x" * 20_000: 1},
        ],
        "input": [values.pack(None), values.pack([1, 2]), b"\xc1", DEEP],
        "setup": [b"", b"", b"", b"\xc1", DEEP],
        "pickled": [b"", b"", b"", b"\x80\x04."],
        "detach": [False, False, True],
        "protocol": [PROTOCOL, PROTOCOL, 1, 2**64 - 1, -1],
    }


def test_garbage_from_clients_is_dropped_and_counted(unharmed: LocalClient) -> None:
    before = unharmed.status().dropped_messages
    with unharmed.session(zoo("Good")) as session, Noisy(unharmed) as noisy:
        garbage = Garbage(FROM_CLIENT, pools(session.id))
        for number in range(examples(3000)):
            if number % 200 == 0:
                noisy.anew()
            if number % 200 == 20:  # before it nothing is anybody's word
                noisy.greet()
            noisy.send(garbage.frames())
        until(lambda: unharmed.status().dropped_messages > before + examples(3000) // 10)


def test_megabytes_of_garbage_do_not_grow_in_the_daemon(unharmed: LocalClient) -> None:
    """Round by round: how far libzmq reads ahead of the daemon is another matter."""
    flood = b"\x91" * (8 * 2**20)
    before = unharmed.status().dropped_messages
    with Noisy(unharmed) as noisy:
        noisy.greet()
        for sent in range(1, 5):
            noisy.send([flood])
            noisy.send([WIDE])
            call = msg.Call(IDS[0], "new", AppRef("nosuch"), "run", input=flood, setup=flood, pickled=flood)
            noisy.send([bytes(frame) for frame in FROM_CLIENT.pack(call)])
            noisy.send([DEEP] * 300)
            until(lambda sent=sent: unharmed.status().dropped_messages >= before + sent * 3)  # type: ignore[misc]


def test_no_field_of_the_right_type_is_too_much(unharmed: LocalClient) -> None:
    before = unharmed.status().uptime_seconds
    with unharmed.session(zoo("Good")) as session, Noisy(unharmed) as noisy:
        garbage = Garbage(FROM_CLIENT, pools(session.id))
        noisy.greet()
        for _ in range(examples(2000)):
            noisy.send(garbage.packed())
        assert unharmed.status().uptime_seconds > before
