"""Faults of the daemon's own code: whatever raises in it, the calls that it concerns are answered.

The daemon is a real one whose code is broken in one place, for sessions of the app `Doomed` alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import warmd

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
    spawn = Fleet.spawn
    def spawned(self, effect):
        if "Doomed" in effect.spec.name:
            raise RuntimeError("planted")
        spawn(self, effect)
    Fleet.spawn = spawned

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

run_dir, ready, place = json.loads(sys.argv[1])
{"word": break_rule_about_word, "arrival": break_arrival, "spawn": break_spawn,
 "tell": break_tell, "send": break_send, "lookup": break_lookup}[place]()
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
