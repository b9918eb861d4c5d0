"""The TCP listener: what it needs to open, and how a host that vanishes is noticed on both sides."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import warmd
from tests.daemon.lanes import no_lanes
from tests.daemon.turning import turn_until
from tests.faults.relay import relayed
from tests.faults.watch import error_of, within
from warmd import transport
from warmd.daemon import remote as remote_module
from warmd.daemon.front import Front
from warmd.daemon.loop import Loop
from warmd.daemon.remote import Remote, forbidden
from warmd.protocol import messages as msg
from warmd.protocol.keys import ClientKey, KeyFolder, public_of
from warmd.protocol.messages import PROTOCOL, AppRef, Call, CallId, ClientId, Request
from warmd.protocol.places import keys_dir
from warmd.protocol.wire import FROM_CLIENT

SILENCE_SECONDS = 0.5


class House:
    """A front that listens on TCP too, and who has left it."""

    def __init__(self, folder: Path, address: str = "tcp://127.0.0.1:0") -> None:
        self.loop = Loop()
        self.keys = KeyFolder(folder / "keys")
        self.remote = Remote(self.loop, address, self.keys)
        self.gone: list[ClientId] = []
        self.hellos: list[msg.Hello] = []
        handlers: dict[type, Any] = {msg.Hello: lambda _client, hello: self.hellos.append(hello)}
        welcome = msg.Welcome(PROTOCOL, "9.9", "boot", os.getpid(), 100_000)
        try:
            self.front = Front(
                self.loop, folder / "s", welcome, handlers, self.gone.append,
                lanes=no_lanes(self.loop), remote=self.remote,
            )  # fmt: skip
        except BaseException:
            self.loop.close()
            raise

    def close(self) -> None:
        self.front.close()
        self.loop.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (remote_module, transport):
        monkeypatch.setattr(module, "HEARTBEAT_MILLISECONDS", int(SILENCE_SECONDS * 200))
        monkeypatch.setattr(module, "SILENCE_MILLISECONDS", int(SILENCE_SECONDS * 1000))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.close()


def connected(house: House, context: zmq.Context[Any], address: str, key: ClientKey) -> zmq.Socket[bytes]:
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.curve_serverkey, dealer.curve_publickey = key.daemon_public, public_of(key.secret)
    dealer.curve_secretkey = key.secret
    dealer.connect(address)
    hello = msg.Hello(PROTOCOL, "0", os.getpid(), "test", "sess_" + "0" * 32)
    dealer.send_multipart(FROM_CLIENT.pack(hello))
    turn_until(house.loop, lambda: dealer.poll(0))
    dealer.recv_multipart()
    return dealer


@pytest.mark.usefixtures("quick")
def test_a_host_that_vanishes_is_noticed_by_the_daemon(house: House) -> None:
    key = house.keys.add("laptop")
    house.front.admit_keys(house.keys.clients())
    with relayed(house.remote.address) as (relay, address), zmq.Context() as context:
        with connected(house, context, address, key):
            assert list(house.front.connected().values()) == [(0, "test of laptop")]
            relay.fall_silent()
            turn_until(house.loop, lambda: house.gone)
        assert not house.front.connected()


def test_what_a_remote_client_says_of_sessions_here_is_not_believed(house: House) -> None:
    key = house.keys.add("laptop")
    house.front.admit_keys(house.keys.clients())
    with zmq.Context() as context, connected(house, context, house.remote.address, key):
        assert house.hellos == []


@pytest.mark.usefixtures("quick")
def test_a_daemon_that_vanishes_is_noticed_by_its_clients() -> None:
    with warmd.testing.daemon(listen="tcp://127.0.0.1:0") as daemon:
        key = KeyFolder(keys_dir(daemon.run_dir)).add("laptop").text
        daemon.reload_keys()
        listens = str(daemon.status().listen)
        with relayed(listens) as (relay, address), warmd.Client(address, key=key) as client:
            call = client.submit(app="counter", session="new", function="incr")
            call.result(10)
            relay.fall_silent()
            with within(4 * SILENCE_SECONDS):
                error = error_of(client.status)
            assert error.code in ("DAEMON_LOST", "DAEMON_UNAVAILABLE")


def test_without_any_key_nobody_comes_in_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path)
    house.close()
    assert "no client has a key" in caplog.text


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use") as caught:
            House(tmp_path, address)
    assert str(caught.value).count(address) == 1 and "listen" in str(caught.value)


def test_a_broken_key_of_the_daemon_is_named_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    (folder / "daemon").write_text("rubbish\n")
    with pytest.raises(ValueError, match="holds no key"):
        House(tmp_path)
    assert (folder / "daemon").read_text() == "rubbish\n"


def test_ipv6_works_where_the_machine_has_it(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    house = House(tmp_path, "tcp://[::1]:0")
    try:
        assert house.remote.address.startswith("tcp://[::1]:")
        key = house.keys.add("laptop")
        house.front.admit_keys(house.keys.clients())
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.setsockopt(zmq.IPV6, 1)
            dealer.curve_serverkey, dealer.curve_publickey = key.daemon_public, public_of(key.secret)
            dealer.curve_secretkey = key.secret
            dealer.connect(house.remote.address)
            dealer.send_multipart(FROM_CLIENT.pack(msg.Hello(PROTOCOL, "0", os.getpid(), "test")))
            turn_until(house.loop, lambda: dealer.poll(0))
        assert len(house.front.connected()) == 1
    finally:
        house.close()


@pytest.mark.parametrize("name", ["/tmp/app", "os:_Environ"])
def test_files_and_modules_of_the_machine_are_no_names(name):
    """Also without an origin, which warmd's own client would send."""
    call = Call(CallId(b"c" * 16), None, AppRef(name), "run")
    asked = Request(CallId(b"r" * 16), "apps.describe", {"app": name})
    for message in (call, asked):
        problem = forbidden(message)
        assert problem is not None and problem.code == "NOT_ALLOWED" and "folder or module" in problem.message
    assert forbidden(Call(CallId(b"c" * 16), None, AppRef("guest"), "run")) is None
    assert forbidden(Request(CallId(b"r" * 16), "apps.describe", {"app": "guest"})) is None
