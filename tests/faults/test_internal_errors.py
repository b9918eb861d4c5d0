"""Faults of our own code: whatever raises in daemon, worker or client, the calls that it concerns end.

The daemon is a real one whose code is broken in one place, for sessions of the app `Doomed` alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import warmd
from tests.faults.watch import begun, error_of, within, zoo
from warmd.protocol import messages
from warmd.protocol.exchange import Exchange
from warmd.protocol.wire import FROM_DAEMON

CODE = """
import json, sys
from warmd.daemon import config, main
from warmd.daemon.core import broker, events
from warmd.daemon.fleet import Fleet
from warmd.daemon.front import Front
from warmd.protocol import messages, work

def concerns(session):
    return "Doomed" in session.app.name and session.calls >= 2

def break_rule_about_word():
    rule = broker._WORDS[work.Returned]
    def returned(book, session, said):
        if concerns(session):
            raise RuntimeError("planted")
        rule(book, session, said)
    broker._WORDS[work.Returned] = returned

def break_arrival():
    rule = broker._RULES[events.CallArrived]
    def arrived(book, event):
        if event.call.function == "doom":
            raise RuntimeError("planted")
        rule(book, event)
    broker._RULES[events.CallArrived] = arrived

def break_spawn():
    prepare = Fleet.prepare
    def prepared(self, effect):
        if "Doomed" in effect.spec.name:
            raise RuntimeError("planted")
        prepare(self, effect)
    Fleet.prepare = prepared

def break_fork():
    fork = Fleet.fork
    def forked(self, effect):
        if "Doomed" in effect.spec.name:
            raise RuntimeError("planted")
        fork(self, effect)
    Fleet.fork = forked

def break_tell():
    from warmd.daemon.door import Door
    tell = Door.tell
    def told(self, worker, message):
        if getattr(message, "function", "") == "doom":
            raise RuntimeError("planted")
        tell(self, worker, message)
    Door.tell = told

def break_send():
    send = Front.send
    def sent(self, client, message):
        if isinstance(message, messages.Result) and bytes(message.value) == b"\\xa4doom":
            raise RuntimeError("planted")
        send(self, client, message)
    Front.send = sent

def break_lookup():
    from warmd.daemon.catalog import Catalog
    look = Catalog.lookup
    def lookup(self, app):
        if "Doomed" in app.name:
            raise RuntimeError("planted")
        return look(self, app)
    Catalog.lookup = lookup

def break_watch():
    prepare, started, doomed = Fleet.prepare, Fleet._started, set()
    def prepared(self, effect):
        if "Doomed" in effect.spec.name:
            doomed.add(effect.worker)
        prepare(self, effect)
    def refuse(*_):
        raise OSError(28, "planted")
    def begun(self, worker, pid, pidfd):
        if worker in doomed:
            self._loop.watch = refuse
        try:
            started(self, worker, pid, pidfd)
        finally:
            self._loop.__dict__.pop("watch", None)
    Fleet.prepare, Fleet._started = prepared, begun

run_dir, ready, place = json.loads(sys.argv[1])
{"word": break_rule_about_word, "arrival": break_arrival, "spawn": break_spawn, "fork": break_fork,
 "tell": break_tell, "send": break_send, "lookup": break_lookup, "watch": break_watch}[place]()
sys.exit(main.serve(config.load({"run_dir": run_dir}, {}, []), ready, None, False))
"""
APPS = """
class Fine:
    def run(self, input=None):
        return input
    doom = run

class Doomed(Fine):
    pass
"""
ANSWER_SECONDS = 5.0


@contextmanager
def daemon_broken_at(place: str, folder: Path) -> Iterator[warmd.Client]:
    (folder / "apps.py").write_text(APPS)
    ready, ready_end = os.pipe()
    environment = {name: value for name, value in os.environ.items() if name != "WARMD_CHECK"}
    arguments = json.dumps([str(folder / "r"), ready_end, place])
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, arguments],
        pass_fds=[ready_end],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    os.close(ready_end)
    try:
        with open(ready) as file:
            assert file.read() == "ready\n"
        with warmd.Client(f"{folder}/r/warmd.sock") as client:
            yield client
    finally:
        process.terminate()
        assert process.wait(20) == 0, "the daemon did not survive its own fault"


def opened_and_doomed(client: warmd.Client, app: str) -> None:
    opened = client.run(app=app, session="new", timeout=30)
    client.run(function="doom", input="doom", session=opened.session_id, timeout=30)


@pytest.mark.parametrize(
    ("place", "kind", "ran"),
    [
        ("arrival", warmd.DaemonFailed, "no"),
        ("word", warmd.DaemonFailed, "maybe"),
        ("tell", warmd.SessionDied, "no"),
        ("send", warmd.DaemonFailed, "maybe"),
        ("spawn", warmd.StartFailed, "no"),
        ("fork", warmd.StartFailed, "no"),
        ("watch", warmd.StartFailed, "no"),
        ("lookup", warmd.DaemonFailed, "no"),
    ],
)
def test_the_call_is_answered_and_the_daemon_goes_on(place, kind, ran, tmp_path):
    fine, doomed = f"{tmp_path}/apps.py:Fine", f"{tmp_path}/apps.py:Doomed"
    with daemon_broken_at(place, tmp_path) as client, client.session(fine) as bystander:
        begun = time.monotonic()
        with pytest.raises(kind, match="planted") as caught:
            opened_and_doomed(client, doomed)
        assert time.monotonic() - begun < ANSWER_SECONDS
        assert caught.value.ran == ran
        assert bystander.call("run", 7).output == 7
        assert client.run(app=fine, session="new").output is None
        assert client.status().sessions <= 3, "a place is lost"


# In a worker

BREAKERS = """
import warmd.daemon.worker.invoke as sync, warmd.daemon.worker.invoke_async as looped

def planted(*_):
    raise RuntimeError("planted")

class Sync:
    def run(self, input=None):
        return input
    def break_it(self):
        sync.Calls._answer = planted

class Async:
    async def run(self, input=None):
        return input
    async def break_it(self):
        looped.AsyncCalls._on_message = planted
"""


@pytest.mark.parametrize("app", ["Sync", "Async"])
def test_a_fault_of_the_workers_runtime_is_a_death_that_says_so(client, app, tmp_path):
    (tmp_path / "apps.py").write_text(BREAKERS)
    session = client.session(f"{tmp_path}/apps.py:{app}")
    began = time.monotonic()
    session.call("break_it", timeout=30)
    error = error_of(lambda: session.call("run", timeout=30))
    assert (error.code, error.ran) in {("WORKER_DIED", "maybe"), ("SESSION_DIED", "no")}
    assert time.monotonic() - began < ANSWER_SECONDS
    assert b"planted" in b"".join(client.logs(session.id)), "the log has the traceback"
    assert "exited with code" in str(error_of(lambda: session.call("run")))


# In a client


def failing_once(monkeypatch):
    """The next result that any client of this process receives is too much for its books."""
    received = Exchange.received

    def fails(self, frames, now):
        if FROM_DAEMON.unpack(frames).__class__ is messages.Result:
            monkeypatch.setattr(Exchange, "received", received)
            raise RuntimeError("planted")
        received(self, frames, now)

    monkeypatch.setattr(Exchange, "received", fails)


def test_a_fault_of_the_blocking_client_is_told_to_all_its_threads(client, monkeypatch):
    with warmd.Client(client.address) as faulty, faulty.session(zoo("Good")) as session:
        waiting = [begun(faulty.session(zoo("Hangs")).submit("sleep", {"seconds": 60})) for _ in range(3)]
        threads = [threading.Thread(target=lambda call=call: ends(call.result)) for call in waiting]
        for thread in threads:
            thread.start()
        failing_once(monkeypatch)
        with within(ANSWER_SECONDS):
            error = error_of(lambda: session.call("run"))
            for thread in threads:
                thread.join()
        assert (error.code, error.ran) == ("DAEMON_LOST", "maybe") and "planted" in str(error)
        assert session.call("run").output["n"] == 2, "the next call has a connection of its own"


def ends(wait):
    assert error_of(wait).code == "DAEMON_LOST"


def test_a_fault_of_the_asyncio_client_is_told_to_all_its_tasks(client, monkeypatch):
    async def talk():
        async with warmd.AsyncClient(client.address) as faulty, faulty.session(zoo("Good")) as session:
            waiting = await faulty.submit(app=zoo("Hangs"), session="new", function="sleep")
            task = asyncio.create_task(waiting.result())
            failing_once(monkeypatch)
            errors = await asyncio.gather(session.call("run"), task, return_exceptions=True)
            return errors, (await session.call("run")).output["n"]

    with within(ANSWER_SECONDS):
        errors, n = asyncio.run(talk())
    assert [error.code for error in errors] == ["DAEMON_LOST"] * 2 and n == 2
