"""The daemon's shell as a whole: real processes, real sockets, the real rule book."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.daemon.rawclient import RawClient
from warmd.protocol import messages as msg
from warmd.protocol import values
from warmd.protocol.messages import AppRef, CallId, NewSession

PATIENCE_SECONDS = 20
CODE = """
import json, os, sys
from warmd.daemon import config, main
flags, ready = json.loads(sys.argv[1])
sys.exit(main.serve(config.load(flags, {}, []), ready, None, False))
"""
APP = """
import os, subprocess, sys, time

class App:
    def setup(self, config=None):
        if config == "die":
            os._exit(7)

    def sprout(self, input):
        '''Leaves a child, and a grandchild in a session of its own that outlives its parent.'''
        sleep = [sys.executable, "-c", "import time; time.sleep(300)"]
        child = subprocess.Popen(sleep)
        orphaning = (
            "import subprocess as s, sys;"
            "print(s.Popen(sys.argv[1:], start_new_session=True, stdout=s.DEVNULL).pid)"
        )
        done = subprocess.run([sys.executable, "-c", orphaning, *sleep], stdout=subprocess.PIPE, text=True)
        return [os.getpid(), child.pid, int(done.stdout)]

    def sleep(self, input):
        print("about to sleep", flush=True)
        time.sleep(input["seconds"])

    def spin(self):
        while True:
            pass

    def echo(self, input):
        return input

    def parts(self, count, size):
        for number in range(count):
            yield bytes([number % 256]) * size

    def pid(self):
        return os.getpid()

    def zombie(self, input):
        '''Orphans that end by themselves and become the daemon's to reap.'''
        for _ in range(input["count"]):
            subprocess.run([sys.executable, "-c", "import os; os.fork() and os._exit(0)"])
"""


class Daemon:
    """A daemon in a subprocess, with one app folder."""

    def __init__(self, folder: Path, **flags: Any) -> None:
        self.run_dir = folder / "r"
        (folder / "apps" / "app").mkdir(parents=True, exist_ok=True)
        (folder / "apps" / "app" / "app.py").write_text(APP)
        flags = {"run_dir": str(self.run_dir), "app_folders": [str(folder / "apps")], **flags}
        ready, ready_end = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, json.dumps([flags, ready_end])], pass_fds=[ready_end]
        )
        os.close(ready_end)
        with open(ready) as file:
            said = file.read()
        assert said == "ready\n", said

    def client(self) -> RawClient:
        return RawClient(self.run_dir)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    try:
        yield daemon
    finally:
        code = daemon.stop()
    assert code == 0


@pytest.fixture
def client(daemon: Daemon) -> Iterator[RawClient]:
    with daemon.client() as client:
        yield client


def value(answer: Any) -> Any:
    assert isinstance(answer, msg.Result), answer
    return values.unpack(answer.value)


def await_end(pids: list[int], seconds: float = 5) -> None:
    """Waits until the processes have ended; one that is a zombie of somebody else's has."""
    until = time.monotonic() + seconds
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < until, f"{psutil.Process(pid)} is still there after {seconds} s"
                time.sleep(0.005)  # they are no children of ours: nothing tells when they end


def test_a_session_counts_to_a_hundred(client: RawClient) -> None:
    session = client.run("counter", "incr", {"by": 1}).session
    answers = [value(client.run(None, "incr", {"by": 1}, session)) for _ in range(99)]
    assert answers == [{"n": n} for n in range(2, 101)]


def test_a_killed_worker_is_told_at_once_to_all_who_wait(client: RawClient) -> None:
    opened = client.run("app", "pid")
    pid, session = value(opened), opened.session
    running = client.call(None, "sleep", {"seconds": 60}, session)
    waiting = client.call(None, "pid", None, session)
    while b"about to sleep" not in client.log(session):
        pass
    os.kill(pid, signal.SIGKILL)
    start = time.monotonic()
    answers = {}
    for _ in range(2):
        answer = client.next()
        answers[answer.id] = answer
    assert time.monotonic() - start < 1
    assert (answers[running].code, answers[running].ran) == ("WORKER_DIED", "maybe")
    assert answers[running].details["signal"] == "SIGKILL"
    assert answers[running].details["log_tail"] == "about to sleep"
    assert (answers[waiting].code, answers[waiting].ran) == ("SESSION_DIED", "no")
    assert client.run(None, "pid", None, session).code == "SESSION_DIED"
    await_end([pid])


@pytest.mark.parametrize("how", ["end", "kill", "expire"])
def test_nothing_of_a_session_is_left(client: RawClient, how: str) -> None:
    id = CallId(os.urandom(16))
    new = NewSession(idle_seconds=1.0) if how == "expire" else None
    client.send(msg.Call(id, "new", AppRef("app"), "sprout", new=new, input=values.pack(None)))
    answer = client.answer(id)
    pids = value(answer)
    assert all(psutil.pid_exists(pid) for pid in pids)
    if how == "end":
        client.ask("sessions.end", session=answer.session)
        assert not any(psutil.pid_exists(pid) for pid in pids)
    elif how == "kill":
        os.kill(pids[0], signal.SIGKILL)
    await_end(pids)


def test_orphans_that_end_by_themselves_are_reaped(daemon: Daemon, client: RawClient) -> None:
    done = client.run("app", "zombie", {"count": 5})
    assert value(done) is None
    me = psutil.Process(daemon.process.pid)
    until = time.monotonic() + 5
    while zombies := [p for p in me.children() if p.status() == psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < until, zombies
        time.sleep(0.005)
    assert value(client.run(None, "pid", None, done.session))


def test_a_process_that_dies_in_setup_fails_the_start(client: RawClient) -> None:
    id = CallId(os.urandom(16))
    client.send(msg.Call(id, "new", AppRef("app"), "pid", setup=values.pack("die")))
    answer = client.answer(id)
    assert (answer.code, answer.details["exit_code"]) == ("START_FAILED", 7)


def test_a_time_out_names_the_line_and_the_session_lives(client: RawClient) -> None:
    session = client.run("app", "pid").session
    id = CallId(os.urandom(16))
    client.send(msg.Call(id, session, None, "spin", timeout_seconds=0.2, input=values.pack(None)))
    answer = client.answer(id)
    assert answer.code == "TIMEOUT"
    assert "app.py" in answer.message
    assert "in spin" in answer.message
    assert value(client.run(None, "pid", None, session))


def test_an_unknown_app_is_told(client: RawClient) -> None:
    assert client.run("couter").code == "APP_NOT_FOUND"


def test_large_values_go_through_whole(client: RawClient) -> None:
    session = client.run("app", "pid").session
    for size in (1000, 20_000, 70_000, 5_000_000, 60_000_000):
        body = os.urandom(1000) * (size // 1000)
        assert value(client.run(None, "echo", body, session)) == body


def test_a_slow_reader_gets_all_parts_in_order(client: RawClient) -> None:
    session = client.run("app", "pid").session
    id = CallId(os.urandom(16))
    body = values.pack({"count": 100, "size": 50_000})
    client.send(msg.Call(id, session, None, "parts", window=2, input=body))
    for number in range(100):
        part = client.next()
        assert (part.number, values.unpack(part.value)[0]) == (number, number % 256)
        client.send(msg.Credit(id, 1))
    assert client.answer(id).parts == 100


def test_a_hung_session_disturbs_no_other(client: RawClient) -> None:
    hung = client.run("app", "pid").session
    lively = client.run("counter").session
    client.call(None, "spin", None, hung)
    for _ in range(20):
        start = time.monotonic()
        value(client.run(None, "incr", None, lively))
        assert time.monotonic() - start < 1
    assert client.ask("sessions.end", session=hung)["state"] == "ended"


def test_a_client_that_is_gone_ends_no_session(daemon: Daemon, client: RawClient) -> None:
    with daemon.client() as other:
        session = other.run("counter").session
        other.call(None, "incr", None, session)
    until = time.monotonic() + 5
    while client.ask("status")["clients"] != 1:
        assert time.monotonic() < until
    assert value(client.run(None, "get", None, session))["n"] >= 1


def test_descriptors_are_flat_over_many_sessions(daemon: Daemon, client: RawClient) -> None:
    value(client.run("counter"))
    client.ask("sessions.end", all=True)
    # The sweeper closes its own a moment after it has told that a tree is gone.
    before = min(daemon.descriptors() for _ in range(50) if client.ask("status"))
    for _ in range(3):
        calls = [client.call("counter") for _ in range(8)]
        for _ in calls:
            assert isinstance(client.next(), msg.Accepted | msg.Result)
        client.ask("sessions.end", all=True)
    until = time.monotonic() + 5
    while daemon.descriptors() != before:
        assert time.monotonic() < until, "descriptors are left open"
        client.ask("status")


def test_a_daemon_that_is_killed_takes_its_workers_along_and_the_next_one_the_rest(tmp_path: Path) -> None:
    first = Daemon(tmp_path)
    with first.client() as client:
        pids = value(client.run("app", "sprout"))
        first.process.kill()
        first.process.wait()
    await_end(pids[:1])
    assert psutil.pid_exists(pids[2])
    second = Daemon(tmp_path)
    try:
        await_end(pids)
        with second.client() as client:
            assert value(client.run("counter"))["n"] == 1
    finally:
        assert second.stop() == 0


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, drain_timeout="1h")
    with daemon.client() as client:
        session = client.run("app", "pid").session
        running = client.call(None, "sleep", {"seconds": 60}, session)
        while client.ask("calls.get", call=running.hex())["state"] != "running":
            pass
        daemon.process.terminate()
        while not client.ask("status")["draining"]:
            pass
        daemon.process.terminate()
        answer = client.answer(running)
        assert (answer.code, answer.ran) == ("CANCELLED", "maybe")
        assert isinstance(client.next(), msg.Goodbye)
    assert daemon.process.wait(PATIENCE_SECONDS) == 0
