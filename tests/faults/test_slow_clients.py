"""Clients that do not read what they are sent: bounded memory, and nothing is lost in silence."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import zmq

import warmd
from tests.daemon.rawclient import RawClient
from tests.faults.watch import open_all, undisturbed, until, zoo
from warmd.protocol import messages as msg
from warmd.protocol import values
from warmd.protocol.messages import CallId

pytestmark = pytest.mark.alone

if TYPE_CHECKING:
    from warmd.owndaemon import LocalClient

MB = 1_000_000
POURS = f"{Path(__file__).parents[1] / 'zoo_pours.py'}:Pours"
FLOODS = f"{Path(__file__).parents[1] / 'zoo_outputs.py'}:Floods"
CALLS = 40
PARTS_AT_ONCE = -(-msg.WINDOW_BYTES // (2 * MB))
"""That are allowed before any is taken; the last one goes over the window."""
GROWTH_BYTES = 64 * MB
STOPS_ITSELF = """
import json, os, signal, sys, warmd
address, app, calls, size, kind = sys.argv[1:]
with warmd.Client(address) as client:
    session = client.session(app)
    detach = {"detach": True} if kind == "detached" else {}
    pending = [session.submit("large", int(size), **detach) for _ in range(int(calls))]
    pending[0].result()  # so all of them have left this process
    print("sent", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    ends = []
    for call in pending:
        try:
            ends.append(["ok", "yes", len(call.result().output)])
        except warmd.WarmdError as error:
            ends.append([error.code, error.ran, str(error)])
    print(json.dumps(ends), flush=True)
    print(json.dumps(len(session.call("large", 5).output)), flush=True)
    session.end()
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon(max_unread_bytes="32MiB", detached_max_bytes="256MiB") as client:
        open_all(client)
        yield client


def resident(daemon: LocalClient) -> int:
    return int(psutil.Process(daemon.daemon_pid).memory_info().rss)


class Peak:
    """The most memory that the daemon has while the block runs."""

    def __init__(self, daemon: LocalClient) -> None:
        self._daemon = daemon
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.most = resident(daemon)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, resident(self._daemon))

    @property
    def growth(self) -> int:
        return self.most - self.before


def nothing_under_way(daemon: LocalClient) -> bool:
    told = daemon.status()
    return told.running == 0 and told.queued == 0


def line(stream: int) -> bytes:
    said = b""
    while not said.endswith(b"\n"):
        assert select.select([stream], [], [], 30)[0], "the client says nothing"
        said += os.read(stream, 65536)
    return said


def test_a_stopped_client_with_large_results_to_come_costs_a_bounded_memory(daemon: LocalClient) -> None:
    arguments = [daemon.address, zoo("Raises"), str(CALLS), str(10 * MB), "plain"]
    command = [sys.executable, "-c", STOPS_ITSELF, *arguments]
    with Peak(daemon) as peak, subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        out = client.stdout.fileno()
        assert line(out) == b"sent\n"
        with undisturbed(daemon.address):
            until(lambda: nothing_under_way(daemon))
        assert peak.growth < GROWTH_BYTES
        client.send_signal(signal.SIGCONT)
        ends, after = map(json.loads, line(out).splitlines() + line(out).splitlines())
    assert after == 5, "who has caught up is served as before"
    received = [size for code, _, size in ends if code == "ok"]
    dropped = [text for code, ran, text in ends if (code, ran) == ("APP_ERROR", "yes")]
    assert len(received) + len(dropped) == CALLS, ends
    assert set(received) == {10 * MB}
    assert dropped, "so much cannot be sent to one who does not read"
    for text in dropped:
        assert str(10 * MB)[:4] in text and "max_unread_bytes" in text, text


def test_a_stopped_client_loses_nothing_of_detached_calls(daemon: LocalClient) -> None:
    """What was not sent to it lies where results of detached calls are kept."""
    arguments = [daemon.address, zoo("Raises"), "20", str(7 * MB), "detached"]
    command = [sys.executable, "-c", STOPS_ITSELF, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        out = client.stdout.fileno()
        assert line(out) == b"sent\n"
        until(lambda: nothing_under_way(daemon))
        until(lambda: daemon.status().slow_clients == 1)
        client.send_signal(signal.SIGCONT)
        ends = json.loads(line(out).splitlines()[0])
    assert ends == [["ok", "yes", 7 * MB]] * 20


def test_a_client_that_collects_late_loses_nothing(daemon: LocalClient) -> None:
    """Its program does not come to it, but its process takes all: that is no slow reader."""
    with warmd.Client(daemon.address) as client, client.session(zoo("Raises")) as session:
        sizes = [10 * MB] * 8 + [100_000] * 100
        pending = [session.submit("large", size) for size in sizes]
        until(lambda: nothing_under_way(daemon))
        assert [len(call.result().output) for call in pending] == sizes


def test_a_client_that_never_reads_is_refused(daemon: LocalClient) -> None:
    with Peak(daemon) as peak, RawClient(Path(daemon.status().run_dir), receive_queue=1) as raw:
        session = raw.run(zoo("Raises"), "alive").session
        calls = [raw.call(None, "large", 4 * MB, session) for _ in range(20)]
        until(lambda: daemon.status().slow_clients == 1)
        until(lambda: nothing_under_way(daemon))
        refused = [raw.request("sessions.list"), raw.call(None, "alive", None, session)]
        with undisturbed(daemon.address), warmd.Client(daemon.address) as other:
            assert other.status().slow_clients == 1
        assert peak.growth < GROWTH_BYTES
        told = {message.id: message for message in raw.told() if type(message) in (msg.Result, msg.Failure)}
    assert {told[call].code for call in calls if type(told[call]) is msg.Failure} == {"APP_ERROR"}
    for call in refused:
        assert (told[call].code, told[call].ran) == ("SLOW_CONSUMER", "no")
        assert "max_unread_bytes" in told[call].message
    daemon.sessions.end(session)


def test_many_logs_at_once_cost_a_bounded_memory_disturb_nobody_and_are_whole(daemon: LocalClient) -> None:
    with Peak(daemon) as peak, RawClient(Path(daemon.status().run_dir), receive_queue=1) as raw:
        session = raw.run(FLOODS, "flood", {"megabytes": 7}).session
        with undisturbed(daemon.address):
            logs = [raw.request("logs", 1000, session=session) for _ in range(100)]
            until(lambda: daemon.status().slow_clients == 1)
            # The last: the first ones may be out as a whole before anybody notices that they lie unread.
            raw.send(msg.Cancel(logs[-1]))
            assert daemon.status().slow_clients == 1
        assert peak.growth < GROWTH_BYTES
        for id in logs[10:]:
            raw.send(msg.Cancel(id))
        sizes, ends = dict.fromkeys(logs, 0), {}
        while len(ends) < len(logs):
            message = raw.next()
            if type(message) is msg.Part:
                sizes[message.id] += len(values.unpack(message.value))
            else:
                ends[message.id] = message
    whole = 7 * MB + len("the last line\n")
    assert [(sizes[id], type(ends[id])) for id in logs[:10]] == [(whole, msg.Result)] * 10
    assert ends[logs[-1]].code == ends[logs[50]].code == "CANCELLED"
    daemon.sessions.end(session)


def test_a_client_that_asks_on_and_on_and_never_reads_is_cut_off() -> None:
    with warmd.testing.daemon(max_unread_bytes="1MiB") as daemon:
        with Peak(daemon) as peak, RawClient(Path(daemon.status().run_dir), receive_queue=1) as raw:
            session = raw.run(zoo("Raises"), "alive").session
            for _ in range(10):
                raw.call(None, "large", 2 * MB, session)
            until(lambda: daemon.status().slow_clients == 1)
            until(lambda: nothing_under_way(daemon))
            assert daemon.status().slow_clients == 1

            def cut_off() -> bool:
                with contextlib.suppress(zmq.Again):
                    for _ in range(500):
                        raw.request("status")
                return bool(daemon.status().slow_clients == 0)

            until(cut_off)
            assert daemon.status().clients == 1
        assert peak.growth < GROWTH_BYTES


def is_behind_with(daemon: LocalClient, raw: RawClient, id: CallId) -> bool:
    """Gives credit for a part that it has not taken, and looks whether that was noticed."""
    raw.send(msg.Credit(id, 1))
    return daemon.status().slow_clients == 1


def allowed_until_behind(daemon: LocalClient, raw: RawClient, id: CallId, yielded: Path) -> int:
    """Gives credit part by part, and reads none; how many were allowed when that was noticed."""
    allowed = PARTS_AT_ONCE
    while daemon.status().slow_clients == 0:
        if yielded.exists() and yielded.stat().st_size >= allowed:
            raw.send(msg.Credit(id, 1))
            allowed += 1
    return allowed


def next_part(raw: RawClient, id: CallId) -> msg.Part:
    part: msg.Part = raw.next()
    raw.send(msg.Credit(id, 1))
    return part


def test_a_stream_whose_parts_nobody_takes_stops_at_so_many_bytes(
    daemon: LocalClient, tmp_path: Path
) -> None:
    yielded = tmp_path / "yielded"
    with RawClient(Path(daemon.status().run_dir)) as raw:
        session = raw.run(POURS, "ready").session
        id = CallId(os.urandom(16))
        body = values.pack({"n": 60, "size": 2 * MB, "path": str(yielded)})
        raw.send(msg.Call(id, session, None, "pour", window=60, input=body))
        sent = PARTS_AT_ONCE
        assert [raw.next().number for _ in range(sent)] == list(range(sent))
        said = raw.told()
        assert {type(message) for message in said} <= {msg.Ping}, "the worker goes on without credit"
        for ping in said:
            raw.send(msg.Pong(ping.number))
        assert daemon.status().slow_clients == 0
        raw.send(msg.Credit(id, sent))
        parts = [next_part(raw, id) for _ in range(60 - sent)]
        assert [part.number for part in parts] == list(range(sent, 60))
        assert raw.answer(id).parts == 60
    daemon.sessions.end(session)


def test_a_stalled_stream_pauses_its_worker_and_loses_nothing(daemon: LocalClient, tmp_path: Path) -> None:
    yielded = tmp_path / "yielded"
    with RawClient(Path(daemon.status().run_dir), receive_queue=1) as raw:
        session = raw.run(POURS, "ready").session
        with Peak(daemon) as peak:
            id = CallId(os.urandom(16))
            body = values.pack({"n": 120, "size": 2 * MB, "path": str(yielded)})
            raw.send(msg.Call(id, session, None, "pour", window=120, input=body))
            allowed = allowed_until_behind(daemon, raw, id, yielded)
            raw.send(msg.Credit(id, 120))
            with undisturbed(daemon.address), warmd.Client(daemon.address) as other:
                assert len(other.sessions.list()) >= 1
            # It is counted before it is sent.
            assert yielded.stat().st_size <= allowed + 1 < 60, "the worker goes on though nobody reads"
            parts = [next_part(raw, id) for _ in range(120)]
        assert peak.growth < GROWTH_BYTES
        assert [part.number for part in parts] == list(range(120))
        assert raw.answer(id).parts == 120
    until(lambda: daemon.status().slow_clients == 0)
    daemon.sessions.end(session)


def test_a_stalled_stream_can_be_cancelled(daemon: LocalClient, tmp_path: Path) -> None:
    with RawClient(Path(daemon.status().run_dir), receive_queue=1) as raw:
        session = raw.run(POURS, "ready").session
        id = CallId(os.urandom(16))
        body = values.pack({"n": 60, "size": 2 * MB, "path": str(tmp_path / "yielded")})
        raw.send(msg.Call(id, session, None, "pour", window=60, input=body))
        until(lambda: is_behind_with(daemon, raw, id))
        raw.send(msg.Cancel(id))
        until(lambda: nothing_under_way(daemon))
        assert raw.answer(id).code == "CANCELLED"
        assert raw.run(None, "ready", None, session).parts == 0, "the session lives on"
    daemon.sessions.end(session)
