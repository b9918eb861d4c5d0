"""What forged messages and private names come to, at a real daemon over its real sockets."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from tests.daemon.rawclient import RawClient
from tests.faults.watch import error_of
from warmd.protocol import messages as msg
from warmd.protocol import places, values
from warmd.protocol.messages import PROTOCOL, AppRef, CallId
from warmd.protocol.wire import FROM_CLIENT, FROM_DAEMON

if TYPE_CHECKING:
    from warmd.local import LocalClient  # imported, it would hide the function `warmd.local`

GUARDED = """
import time

class Guarded:
    public_value = 1

    def setup(self, config=None):
        self.n = 0
        self.evaluated = 0

    def unload(self):
        pass

    def _hidden(self):
        return "reached"

    @property
    def costly(self):
        self.evaluated += 1
        return lambda: "reached"

    def slow(self):
        self.n += 1
        time.sleep(0.5)
        return self.n

    def counts(self):
        return [self.n, self.evaluated]
"""


@pytest.fixture
def guarded(tmp_path: Path) -> str:
    folder = tmp_path / "guarded"
    folder.mkdir()
    (folder / "app.py").write_text(GUARDED)
    return str(folder)


@pytest.mark.parametrize(
    "name", ["_hidden", "setup", "unload", "__init__", "__class__", "public_value", "costly", "slow.__func__"]
)
def test_what_is_no_public_function_is_not_reached(client: LocalClient, guarded: str, name: str) -> None:
    with client.session(guarded) as session:
        assert error_of(lambda: session.call(name)).ran == "no"
        assert session.call("counts").output == [0, 0]


def test_a_call_that_is_sent_twice_runs_once(client: LocalClient, guarded: str) -> None:
    with client.session(guarded) as session, RawClient(client.run_dir) as raw:
        call = msg.Call(CallId(os.urandom(16)), session.id, None, "slow", input=values.pack(None))
        raw.send(call)
        raw.send(call)
        raw.answer(call.id)
        assert session.call("counts").output == [1, 0]


def test_a_forged_routing_id_gains_nothing(client: LocalClient, guarded: str) -> None:
    context = zmq.Context()
    victim, forger = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    hello = msg.Hello(PROTOCOL, "test", os.getpid(), "test")
    try:
        with client.session(guarded) as session:
            for dealer in (victim, forger):
                dealer.setsockopt(zmq.ROUTING_ID, b"victim")
                dealer.setsockopt(zmq.LINGER, 0)
            victim.connect(f"ipc://{places.socket_path(client.run_dir)}")
            victim.send_multipart(FROM_CLIENT.pack(hello))
            assert victim.poll(10_000)
            assert type(FROM_DAEMON.unpack(victim.recv_multipart())) is msg.Welcome
            call = msg.Call(CallId(os.urandom(16)), session.id, None, "slow", input=values.pack(None))
            victim.send_multipart(FROM_CLIENT.pack(call))
            forger.connect(f"ipc://{places.socket_path(client.run_dir)}")
            for forged in (hello, msg.Cancel(call.id)):
                forger.send_multipart(FROM_CLIENT.pack(forged))
            assert victim.poll(10_000)
            assert type(FROM_DAEMON.unpack(victim.recv_multipart())) is msg.Result
            assert not forger.poll(0)
    finally:
        context.destroy(0)


class Evil:
    """Its pickle makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_a_pickle_as_an_input_is_loaded_nowhere(client: LocalClient, guarded: str, tmp_path: Path) -> None:
    trace = tmp_path / "loaded"
    with client.session(guarded) as session, RawClient(client.run_dir) as raw:
        body = pickle.dumps(Evil(trace))
        call = msg.Call(CallId(os.urandom(16)), session.id, None, "counts", input=body)
        raw.send(call)
        assert type(raw.answer(call.id)) is msg.Failure
        unknown = msg.Call(CallId(os.urandom(16)), "new", AppRef("x"), "run", pickled=body)
        raw.send(unknown)
        assert type(raw.answer(unknown.id)) is msg.Failure
    assert not trace.exists()


UNKNOWN = "sess_" + "0" * 32
ODD_IDS = [UNKNOWN, UNKNOWN.upper(), "../../etc/passwd", "sess_\0", "é" * 40, "x" * 5000, "-1", "*"]


@pytest.mark.parametrize("id", ODD_IDS, ids=range(len(ODD_IDS)))
def test_an_id_that_is_none_finds_nothing_and_opens_no_file(client: LocalClient, id: str) -> None:
    """Nor does the daemon hang, or say what is not the asker's."""
    with RawClient(client.run_dir) as raw:
        call = msg.Call(CallId(os.urandom(16)), id, None, "run", input=values.pack(None))
        raw.send(call)
        assert raw.answer(call.id).code in ("SESSION_NOT_FOUND", "INVALID")
        for verb in ("sessions.get", "sessions.keepalive", "sessions.end", "logs"):
            failure = raw.ask(verb, session=id)
            assert failure.code in ("SESSION_NOT_FOUND", "INVALID") and failure.ran == "no"
        assert len(raw.ask("sessions.get", session=id).message) < 1000
