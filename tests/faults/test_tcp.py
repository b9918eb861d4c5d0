"""Clients over TCP: only with a key that is known, only while it is, and not to bring code."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import zmq

import warmd
from tests.faults.relay import relayed
from tests.faults.watch import AT_ONCE_SECONDS, begun, error_of, undisturbed, until, within, zoo
from warmd.protocol import messages as msg
from warmd.protocol import places
from warmd.protocol.keys import ClientKey, KeyFolder, public_of
from warmd.protocol.messages import PROTOCOL
from warmd.protocol.wire import FROM_CLIENT

if TYPE_CHECKING:
    from warmd.owndaemon import LocalClient

GUEST = """
import time
from warmd import context

class Guest:
    def setup(self, config=None):
        self.n = 0

    def count(self):
        self.n += 1
        return self.n

    def echo(self, value):
        return value

    def numbers(self, n):
        yield from range(n)

    def sleep(self, seconds):
        context.progress("in")
        time.sleep(seconds)
"""
LIMIT_BYTES = 2_000_000
MAX_CONNECTIONS = 12
IN_MID_CALL = """
import sys, warmd
client = warmd.Client(sys.argv[1])
call = client.session(id=sys.argv[2]).submit("sleep", 60)
while call.status().progress is None:
    pass
print("in", flush=True)
call.result()
"""


class Guests:
    """Gives out keys."""

    def __init__(self, daemon: LocalClient) -> None:
        self.daemon = daemon
        self.address = str(daemon.status().listen)
        self.folder = KeyFolder(places.keys_dir(daemon.run_dir))

    def key(self, name: str) -> str:
        text = self.folder.add(name).text
        self.daemon.reload_keys()
        return text

    def revoke(self, name: str) -> int:
        self.folder.remove(name)
        return int(self.daemon.reload_keys().connections_ended)


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    apps = tmp_path_factory.mktemp("apps")
    (apps / "guest").mkdir()
    (apps / "guest" / "app.py").write_text(GUEST)
    with warmd.testing.daemon(
        listen="tcp://127.0.0.1:0",
        app_folders=str(apps),
        max_message_bytes=LIMIT_BYTES,
        max_connections=MAX_CONNECTIONS,
    ) as daemon:
        yield Guests(daemon)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"client-{abs(hash(request.node.name))}"


@pytest.fixture
def key(guests: Guests, name: str) -> Iterator[str]:
    yield guests.key(name)
    if name in guests.folder.clients().values():
        guests.revoke(name)


@pytest.fixture
def client(guests: Guests, key: str) -> Iterator[warmd.Client]:
    with warmd.Client(guests.address, key=key) as found:
        yield found


def test_a_client_with_a_key_calls_streams_and_gets_its_errors(client: warmd.Client) -> None:
    with client.session("guest") as session:
        assert [session.call("count").output for _ in range(3)] == [1, 2, 3]
        assert list(session.stream("numbers", 500)) == list(range(500))
        body = os.urandom(LIMIT_BYTES - 100)
        assert session.call("echo", body).output == body, "what encryption adds does not count"
        assert error_of(lambda: session.call("echo", bytes(LIMIT_BYTES))).code == "TOO_LARGE"
        assert error_of(lambda: session.call("nothing")).code == "FUNCTION_NOT_FOUND"
    assert error_of(lambda: session.call("count")).code == "SESSION_ENDED"


def test_so_does_an_asyncio_client(guests: Guests, key: str) -> None:
    async def talk() -> list[Any]:
        async with warmd.AsyncClient(guests.address, key=key) as client, client.session("guest") as session:
            await session.call("count")
            return [part async for part in session.stream("numbers", 100)]

    assert asyncio.run(talk()) == list(range(100))


def test_its_key_can_come_from_the_environment(guests: Guests, key: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("WARMD_HOST", guests.address)
    monkeypatch.setenv("WARMD_KEY", key)
    with warmd.Client() as client:
        assert client.status().listen == guests.address


# Who does not come in


def refused(guests: Guests, socket: zmq.Socket[bytes]) -> bool:
    """Whether nothing is answered to a hello, by the time that the daemon has answered another's."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(guests.address)
    socket.send_multipart(FROM_CLIENT.pack(msg.Hello(PROTOCOL, "0", os.getpid(), "stranger")))
    return not socket.poll(int(AT_ONCE_SECONDS * 1000))


def test_nobody_comes_in_without_a_key(guests: Guests) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        assert refused(guests, plain)
    assert guests.daemon.status().sessions == 0


def test_nobody_comes_in_by_the_names_of_others(guests: Guests, key: str) -> None:
    """The public halves of the daemon's and of a client's key are no secrets."""
    known = ClientKey.parse(key)
    with zmq.Context() as context, context.socket(zmq.DEALER) as forger:
        forger.curve_serverkey = known.daemon_public
        forger.curve_publickey = public_of(known.secret)
        forger.curve_secretkey = os.urandom(32)
        assert refused(guests, forger)


def test_a_key_that_is_not_known_is_told_so_at_once(guests: Guests, key: str) -> None:
    stranger = ClientKey(ClientKey.parse(key).daemon_public, os.urandom(32))
    with warmd.Client(guests.address, key=stranger.text) as client, within(AT_ONCE_SECONDS):
        error = error_of(client.status)
    assert (error.code, error.ran) == ("NOT_ALLOWED", "no")
    assert "does not know this key" in str(error)


def test_a_false_daemon_learns_nothing(key: str) -> None:
    """It has a key, but not the daemon's."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as false:
        false.setsockopt(zmq.LINGER, 0)
        false.curve_server = True
        false.curve_secretkey = os.urandom(32)
        port = false.bind_to_random_port("tcp://127.0.0.1")
        with warmd.Client(f"tcp://127.0.0.1:{port}", key=key) as client:
            assert error_of(client.status).code in ("DAEMON_UNAVAILABLE", "NOT_ALLOWED")
        assert not false.poll(0)


def test_nothing_can_be_read_on_the_wire(guests: Guests, key: str) -> None:
    secret = "the-word-that-nobody-else-may-read"
    with relayed(guests.address) as (relay, address), warmd.Client(address, key=key) as client:
        assert client.run(app="guest", function="echo", input=secret).output == secret
        assert len(relay.seen) > 500
        assert secret.encode() not in relay.seen and b"guest" not in relay.seen


@pytest.mark.alone
def test_garbage_and_silence_at_the_port_disturb_nobody(guests: Guests) -> None:
    host, _, port = guests.address.removeprefix("tcp://").partition(":")
    with undisturbed(guests.daemon.address):
        for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\xff" + bytes(8) + b"\x7f\x03"):
            with socket.create_connection((host, int(port)), timeout=5) as stranger:
                stranger.sendall(garbage)
    assert guests.daemon.status().clients == 1


def test_connections_over_the_limit_are_hung_up_on_and_the_others_go_on(
    guests: Guests, client: warmd.Client
) -> None:
    host, _, port = guests.address.removeprefix("tcp://").partition(":")
    with client.session("guest") as session:
        crowd = [socket.create_connection((host, int(port)), timeout=10) for _ in range(2 * MAX_CONNECTIONS)]
        try:
            # Sooner than libzmq gives up on who says nothing.
            most = len(crowd) - MAX_CONNECTIONS // 2
            until(lambda: sum(map(ended, crowd)) >= most, 2 * AT_ONCE_SECONDS)
            with warmd.Client(guests.daemon.address) as local:
                assert local.status().clients == 3, "a crowd out there locks nobody out here"
            assert session.call("count").output == 1
        finally:
            for one in crowd:
                one.close()
    until(lambda: error_free(lambda: warmd.Client(guests.daemon.address).status()))


def ended(connection: socket.socket) -> bool:
    """Whether the other end has hung up, before or after its greeting."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


def error_free(work: Any) -> bool:
    try:
        work()
    except warmd.WarmdError:
        return False
    return True


# What nobody may ask for here


def by_value() -> type:
    """A class that no module has."""

    class Mine:
        def run(self) -> str:
            return "reached"

    return Mine


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda client: client.run(app=by_value()), "class given by value"),
        (lambda client: client.run(app=zoo("Good")), "folder or module"),
        (lambda client: client.run(app="tests.zoo:Good"), "folder or module"),
        (lambda client: client.describe(zoo("Good")), "folder or module"),
        (lambda client: client.session("guest", env={"PYTHONPATH": "/tmp"}), "variables"),
        (lambda client: client.submit(app="guest", session="new", env={"A": "b"}).result(), "variables"),
        (lambda client: client.stop(), "own machine"),
        (lambda client: client.reload_keys(), "own machine"),
    ],
    ids=["class", "folder", "module", "described", "env", "env, submitted", "stop", "keys"],
)
def test_what_would_bring_code_or_lock_others_out_is_not_allowed(
    client: warmd.Client, ask: Any, says: str
) -> None:
    before = client.status().sessions
    with within(AT_ONCE_SECONDS):
        error = error_of(lambda: ask(client))
    assert (error.code, error.ran) == ("NOT_ALLOWED", "no")
    assert says in str(error)
    assert client.status().sessions == before


# Revoking


def test_a_revoked_key_ends_its_connections_at_once_and_no_others(
    guests: Guests, name: str, key: str
) -> None:
    other = f"{name}-other"
    with (
        warmd.Client(guests.address, key=key) as revoked,
        warmd.Client(guests.address, key=guests.key(other)) as stays,
        guests.daemon.session("guest") as session,
    ):
        call = begun(revoked.session(id=session.id).submit("sleep", 60))
        behind = stays.session(id=session.id).submit("count")
        with within(AT_ONCE_SECONDS):
            assert guests.revoke(name) == 1
            error = error_of(call.result)
            assert error.code == "DAEMON_LOST" and "or this client's key was revoked" in str(error)
        assert error_of(revoked.status).code == "NOT_ALLOWED"
        assert not behind.done()
        guests.daemon.calls.cancel(call.call_id)
        assert behind.result(10).output == 1
    guests.revoke(other)


def test_a_new_key_under_an_old_name_does_not_let_the_old_one_in(guests: Guests, name: str, key: str) -> None:
    with warmd.Client(guests.address, key=key) as old:
        old.status()
        guests.folder.remove(name)
        new = guests.key(name)
        assert error_of(old.status).code in ("NOT_ALLOWED", "DAEMON_LOST")
        assert error_of(old.status).code == "NOT_ALLOWED"
        with warmd.Client(guests.address, key=new) as client:
            assert client.status().clients == 2


# Leaving


def test_a_killed_client_is_noticed_and_its_session_is_free(
    guests: Guests, client: warmd.Client, key: str
) -> None:
    with client.session("guest") as session:
        command = [sys.executable, "-c", IN_MID_CALL, guests.address, session.id]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"WARMD_KEY": key}) as doomed:
            assert doomed.stdout is not None and doomed.stdout.readline() == b"in\n"
            clients = guests.daemon.status().clients
            doomed.kill()
            with within(AT_ONCE_SECONDS):
                until(lambda: guests.daemon.status().clients == clients - 1)
        assert client.sessions.get(session.id).state == "busy"
        guests.daemon.sessions.end(session.id)


def test_it_is_named_by_its_key_in_the_story_of_what_it_did(
    guests: Guests, client: warmd.Client, name: str
) -> None:
    session = client.session("guest")
    session.end()
    assert f"of {name}" in guests.daemon.why(session.id).text
