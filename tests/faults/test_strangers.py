"""Other users of the machine, at a daemon's sockets and files; and how little the daemon says of ids."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import warmd
from tests.faults.daemons import serving
from tests.faults.watch import error_of, zoo
from warmd.protocol import places

if TYPE_CHECKING:
    from pathlib import Path

    from warmd.owndaemon import LocalClient

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")

NOBODY = 65534
STRANGER = """
import os, socket, sys, zmq
import zmq.backend
from warmd.protocol import messages as msg
from warmd.protocol.wire import FROM_CLIENT, FROM_DAEMON
uid, worker = int(sys.argv[1]), sys.argv[2]
hello = FROM_CLIENT.pack(msg.Hello(msg.PROTOCOL, "0", os.getpid(), "stranger"))
context = zmq.Context()
os.setgroups([])
os.setgid(uid)
os.setuid(uid)

def tried(what):
    try:
        return what()
    except OSError as error:
        return type(error).__name__

def greeted():
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect("ipc://warmd.sock")
    dealer.send_multipart(hello)
    if not dealer.poll(1000):
        return "no answer"
    return FROM_DAEMON.unpack(dealer.recv_multipart()).message

def at_the_door():
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(10)
        door.connect("door.sock")
        return door.recv(1)

print(greeted())
print(tried(at_the_door))
print(tried(lambda: open(f"/proc/{worker}/environ", "rb").read()))
print(tried(lambda: os.listdir("logs")))
print(tried(lambda: os.kill(int(worker), 9)))
"""


def said_by_a_stranger(client: LocalClient, worker: int) -> list[str]:
    """By another user who stands in the run directory: what lies above it need not be entered."""
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(NOBODY), str(worker)],
        capture_output=True, text=True, timeout=60, check=False, cwd=client.run_dir,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon() as client:
        client.status()
        yield client


def test_another_user_gets_nowhere(daemon: LocalClient) -> None:
    with daemon.session(zoo("Good")) as session:
        said = said_by_a_stranger(daemon, int(session.info().pid))
        assert said == ["no answer", *["PermissionError"] * 4]
        assert session.call("run").output["n"] == 1


def test_nor_where_the_directory_and_its_sockets_are_open_to_all(daemon: LocalClient) -> None:
    """Then only the daemon's own checks are left."""
    daemon.run_dir.chmod(0o755)
    for path in (places.socket_path(daemon.run_dir), places.door_path(daemon.run_dir)):
        path.chmod(0o777)
    with daemon.session(zoo("Good")) as session:
        greeted, door, environ, logs, kill = said_by_a_stranger(daemon, int(session.info().pid))
        assert f"the client runs as {NOBODY}" in greeted
        assert door == "b''", "hung up on without a word"
        assert [environ, logs, kill] == ["PermissionError"] * 3
        assert session.call("run").output["n"] == 1
        assert daemon.status().strangers_turned_away == 1


def test_a_socket_of_somebody_else_is_not_talked_to(tmp_path: Path) -> None:
    path = tmp_path / "warmd.sock"
    listen = (
        "import os, socket, sys\n"
        f"os.setuid({NOBODY})\n"
        "s = socket.socket(socket.AF_UNIX)\ns.bind('warmd.sock')\ns.listen()\nprint('ready', flush=True)\n"
        "sys.stdin.read()"
    )
    tmp_path.chmod(0o777)
    command = [sys.executable, "-c", listen]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as trap:
        assert trap.stdout is not None and trap.stdout.readline() == b"ready\n"
        with warmd.Client(str(path)) as client:
            error = error_of(client.status)
        trap.communicate()
    assert (error.code, error.ran) == ("NOT_ALLOWED", "no")
    assert f"uid {NOBODY}" in str(error)


def test_the_daemons_log_has_no_whole_id(tmp_path: Path) -> None:
    with serving(tmp_path / "run", "--log-level=debug") as (daemon, client):
        session = client.session(zoo("Good"), name="mine")
        call = session.call("run")
        client.submit(app=zoo("Dies"), session="new", function="nothing")
        session.end()
        client.stop(0.001)
        assert daemon.wait() == 0
    assert session.id[5:13] in daemon.log, "the beginning is there"
    assert not re.search(r"[0-9a-f]{32}", daemon.log)
    assert session.id not in daemon.log and call.call_id not in daemon.log
