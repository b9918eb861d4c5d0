import math
import os
import time
from dataclasses import replace

import pytest

from tests.daemon.logreader import serve
from warmd.daemon import config, control
from warmd.daemon.catalog import Catalog
from warmd.daemon.control import MAX_LOOKUPS, Control
from warmd.daemon.core.effects import Answer
from warmd.daemon.core.events import EndArrived, KeepaliveArrived, StopArrived
from warmd.daemon.core.views import CallView, SessionView, TemplateView, Totals
from warmd.daemon.logs import SessionLogs
from warmd.daemon.story import Story
from warmd.daemon.verbs import REQUIRED, VERBS
from warmd.protocol import values
from warmd.protocol.errors import Problem
from warmd.protocol.messages import NOTHING, CallId, Failure, Request, Result

CLIENT, OTHER = b"client", b"other"
ID = b"i" * 16
A, B = "sess_" + "a" * 32, "sess_" + "b" * 32
NOW = 1000.0
CALL = "ca" * 16

LIVE = SessionView(
    id=A, kind="session", app="counter", name="mine", labels={"k": "v"}, state="idle", worker=1,
    origin="fork", pid=os.getpid(), stuck=(),
    created=NOW - 50, last_call=NOW - 10, calls=3, queued=0, running_call=None,
    running_function=None, running_since=None,
    idle_seconds=60.0, lifetime_seconds=math.inf, idle_since=NOW - 10, held_until=0.0,
    expires_at=NOW + 50, reason=None, progress=NOTHING,
)  # fmt: skip
DEAD = replace(LIVE, id=B, state="died", pid=None, worker=None, expires_at=None, reason="killed by SIGKILL")


class World:
    """The services of a server, and a rule book with two sessions in it."""

    def __init__(self, folder) -> None:
        self.settings = config.load({"run_dir": str(folder)}, {}, [])
        self.logs = SessionLogs(folder / "logs", 10**6, 10)
        self.catalog = Catalog()
        self.boot = "boot"
        self.started = NOW - 100
        self.broker = self
        self.live = {A: LIVE}
        self.dead = {B: DEAD}
        self.calls = {}
        self.sent = []
        self.refused = None
        self.events = []
        self.stops = []
        self.jobs = []
        self.story = Story()
        self.timers = []
        self.turned = None
        self.time = NOW
        self.control = Control(self)

    def view(self, session):
        return self.live.get(session) or self.dead.get(session)

    def views(self, include_dead=False):
        return [*self.dead.values(), *self.live.values()] if include_dead else [*self.live.values()]

    def settle_left(self):
        pass

    def gone(self):
        return reversed(self.dead.values())

    def call_view(self, call):
        return self.calls.get(call)

    def detached_views(self):
        return [view for view in self.calls.values() if view.detached]

    def missing_call(self, call):
        return Problem("CALL_GONE", f"call {call} is unknown")

    def templates(self):
        return [TemplateView("counter", 7, "up", 2**20, 3, NOW - 9, NOW - 4)]

    def missing_session(self, session):
        return Problem("SESSION_NOT_FOUND", f"there is no session {session}")

    def now(self):
        return self.time

    def call_at(self, when, callback):
        self.timers.append((when, callback))

    def tell_of_turns(self, turned):
        self.turned = turned

    def totals(self):
        return Totals(1, 0, 2, 30, 0, 0, False)

    def refusal(self, _client):
        return self.refused

    def send(self, client, message):
        self.sent.append((client, message))

    def submit(self, event):
        self.events.append(event)

    remote = cgroups = None

    def reload_keys(self, done):
        done(self.connections_ended)

    def request_stop(self, drain_seconds):
        self.stops.append(drain_seconds)

    def gpu_infos(self):
        return {"gpus": [], "no_gpus": "none here"}

    def counters(self):
        return {"dropped_messages": 7, "log_lines_dropped": 8}

    def in_thread(self, work, done):
        self.jobs.append((work, done))

    def ask(self, verb, window=None, **arguments):
        """The messages that answer a request."""
        self.sent.clear()
        self.control.handle(CLIENT, Request(ID, verb, arguments, window), NOW)
        serve(self.logs)
        assert all(client == CLIENT and message.id == ID for client, message in self.sent)
        return [message for _, message in self.sent]

    def value(self, verb, **arguments):
        (result,) = self.ask(verb, **arguments)
        assert type(result) is Result, result
        return values.unpack(result.value)

    def failure(self, verb, window=None, **arguments):
        (failure,) = self.ask(verb, window, **arguments)
        assert type(failure) is Failure
        assert failure.ran == "no"
        return failure


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.logs.close()


def test_the_info_of_a_session(world):
    (info,) = world.value("sessions.list")
    assert abs(info.pop("created") - (time.time() - 50)) < 5
    assert abs(info.pop("last_call") - (time.time() - 10)) < 5
    assert info.pop("memory") > 10**6
    assert info == {
        "id": A, "kind": "session", "app": "counter", "name": "mine", "labels": {"k": "v"}, "state": "idle",
        "calls": 3, "queued": 0, "running_call": None, "running_function": None, "running_seconds": None,
        "idle_timeout": 60.0, "ended": None,
        "expires_in": 50.0, "held_for": None, "lives_for": None,
        "origin": "fork", "pid": os.getpid(), "stuck": [], "gpu": None, "reason": None, "progress": None,
    }  # fmt: skip


def test_never_and_not_counting_are_none(world):
    world.live[A] = replace(
        LIVE, idle_seconds=math.inf, expires_at=None,
        running_call="ab", running_function="run", running_since=NOW - 2,
    )
    info = world.value("sessions.get", session=A)
    assert (info["idle_timeout"], info["expires_in"]) == (None, None)
    assert (info["running_call"], info["running_seconds"]) == ("ab", 2.0)


def test_dead_sessions_are_shown_when_asked_for(world):
    assert [info["id"] for info in world.value("sessions.list")] == [A]
    assert [info["id"] for info in world.value("sessions.list", all=True)] == [B, A]
    info = world.value("sessions.get", session=B)
    assert (info["state"], info["reason"], info["memory"]) == ("died", "killed by SIGKILL", None)


def test_of_the_sessions_that_are_gone_the_newest_are_listed(world, monkeypatch):
    monkeypatch.setattr(control, "LISTED", 2)
    world.dead = {f"{number}": replace(DEAD, id=f"{number}") for number in range(5)}
    assert [info["id"] for info in world.value("sessions.list", all=True)] == ["3", "4", A]
    world.live = {}
    assert [info["id"] for info in world.value("sessions.list", all=True)] == ["3", "4"]
    assert world.value("sessions.list") == []


def test_progress_is_passed_on_as_it_came(world):
    world.live[A] = replace(LIVE, progress=values.pack({"done": (1, 2)}))
    assert world.value("sessions.get", session=A)["progress"] == {"done": (1, 2)}
    for bad in (b"\xc1", b"\x81", b"\x01\x01", b"\x91" * 100_000, values.pack("x" * 100_000)):
        world.live[A] = replace(LIVE, progress=bad)
        assert [info["progress"] for info in world.value("sessions.list", all=True)] == [None, None]


def test_an_unknown_session_is_not_found(world):
    for verb in ("sessions.get", "sessions.keepalive", "sessions.end", "logs"):
        failure = world.failure(verb, 1, session="sess_" + "0" * 32)
        assert failure.code == "SESSION_NOT_FOUND"
        assert "session" in failure.message
    assert world.events == []
    assert world.failure("logs", 1, session="../../etc/passwd").code == "SESSION_NOT_FOUND"


def test_keepalive_and_end_are_events_and_answered_later(world):
    assert world.ask("sessions.keepalive", session=A) == []
    assert world.ask("sessions.end", session=B, running="finish") == []
    assert world.ask("sessions.end", app="counter") == []
    assert world.ask("sessions.end", all=True) == []
    assert world.events == [
        KeepaliveArrived(CLIENT, ID, A),
        EndArrived(CLIENT, ID, B, None, "finish"),
        EndArrived(CLIENT, ID, None, "counter", "cancel"),
        EndArrived(CLIENT, ID, None, None, "cancel"),
    ]
    world.control.answer(Answer(CLIENT, ID, (A,), False), NOW)
    world.control.answer(Answer(CLIENT, ID, (A, B), True), NOW)
    world.control.answer(Answer(CLIENT, ID, (), True), NOW)
    one, many, none = (values.unpack(message.value) for _, message in world.sent)
    assert one["id"] == A
    assert [info["id"] for info in many] == [A, B]
    assert none == []


@pytest.mark.parametrize(
    "arguments", [{}, {"session": A, "all": True}, {"app": "x", "session": A}, {"all": False}]
)
def test_end_takes_exactly_one_choice(world, arguments):
    assert "exactly one" in world.failure("sessions.end", **arguments).message


@pytest.mark.parametrize(
    ("verb", "arguments", "text"),
    [
        ("session.list", {}, "did you mean 'sessions.list'?"),
        ("xyzzy", {}, "there are apps.describe, apps.list, calls.cancel, calls.get, calls.list"),
        ("__init__", {}, "unknown request"),
        ("sessions.list", {"al": True}, "did you mean 'all'?"),
        ("status", {"x": 1}, "it takes no arguments"),
        ("sessions.get", {}, "needs 'session'"),
        ("sessions.get", {"session": 3}, "session must be a text, not '3'"),
        ("sessions.list", {"all": 1}, "must be true or false"),
        ("sessions.end", {"session": A, "running": "stop"}, "cancel"),
        ("logs", {"session": A, "tail": -1}, "number of lines"),
        ("logs", {"session": A, "tail": True}, "number of lines"),
        ("stop", {"drain_seconds": -1}, "-1 is refused"),
        ("stop", {"drain_seconds": "soon"}, "not a duration"),
    ],
)
def test_what_is_not_understood_is_invalid_with_a_hint(world, verb, arguments, text):
    failure = world.failure(verb, **arguments)
    assert failure.code == "INVALID"
    assert text in failure.message


def test_every_verb_has_its_method():
    for verb in VERBS:
        assert callable(getattr(Control, "_" + verb.replace(".", "_")))
    assert set(REQUIRED) <= set(VERBS)


def test_a_call_by_id(world):
    world.calls[CALL] = CallView(CALL, "running", A, "run", 0, NOW - 3, values.pack(0.5), False, 2, 0)
    assert world.value("calls.get", call=CALL) == {
        "id": CALL,
        "state": "running",
        "session": A,
        "function": "run",
        "detached": False,
        "position": 0,
        "seconds": 3.0,
        "parts": 2,
        "first_part": 0,
        "note": "",
        "code": None,
        "ran": None,
        "ended": None,
        "progress": 0.5,
    }
    assert world.value("calls.list") == []
    assert world.value("calls.cancel", call=CALL) is True
    assert world.events == [StopArrived(CallId(bytes.fromhex(CALL)))]


def test_a_detached_call_that_is_done(world):
    world.calls[CALL] = CallView(CALL, "done", A, "run", None, NOW - 3, b"", True, 2, 1, "TIMEOUT", "maybe")
    (info,) = world.value("calls.list")
    assert info.keys() == world.value("calls.get", call=CALL).keys()
    assert (info["state"], info["code"], info["ran"], info["position"]) == ("done", "TIMEOUT", "maybe", None)
    assert (info["parts"], info["first_part"], info["progress"]) == (2, 1, None)
    assert info["ended"] == pytest.approx(time.time() - 3, abs=2)
    assert world.value("calls.cancel", call=CALL) is False


@pytest.mark.parametrize("verb", ["calls.get", "calls.cancel"])
def test_a_call_that_nobody_knows(world, verb):
    assert world.failure(verb, call=CALL).code == "CALL_GONE"
    assert "32 hex digits" in world.failure(verb, call="ab").message


def test_status(world):
    status = world.value("status")
    assert status["address"] == f"unix://{world.settings.run_dir}/warmd.sock"
    assert (status["pid"], status["boot"], status["uptime_seconds"]) == (os.getpid(), "boot", 100.0)
    assert (status["sessions"], status["queued"], status["max_sessions"]) == (1, 2, 256)
    assert (status["dropped_messages"], status["log_lines_dropped"]) == (7, 8)
    (template,) = status["templates"]
    assert (template["app"], template["forks"], template["unused_seconds"]) == ("counter", 3, 4.0)


def test_stop_is_answered_before_it_begins(world):
    assert world.value("stop")["stopping"] is True
    world.value("stop", drain_seconds=None)
    world.value("stop", drain_seconds=5)
    world.value("stop", drain_seconds=0)
    assert world.stops == [30.0, 30.0, 5.0, 0.0]


def test_apps_are_listed_off_the_loop(world):
    assert world.ask("apps.list") == []
    ((work, done),) = world.jobs
    done(work())
    ((_, result),) = world.sent
    assert "counter" in [app["name"] for app in values.unpack(result.value)]
    world.sent.clear()
    done(OSError("disk"))
    assert world.sent[0][1].code == "INTERNAL"


def test_a_failure_inside_is_still_answered(world, monkeypatch):
    monkeypatch.setattr(world, "totals", lambda: 1 / 0)
    (failure,) = world.ask("status")
    assert (failure.code, failure.id) == ("INTERNAL", ID)


def test_requests_of_a_client_that_does_not_read_are_refused(world):
    world.refused = Problem("SLOW_CONSUMER", "read first")
    assert world.failure("status").code == "SLOW_CONSUMER"


def test_a_client_may_have_so_many_lookups(world):
    for _ in range(MAX_LOOKUPS):
        assert world.ask("apps.describe", app="counter") == []
    for verb, arguments in (("apps.list", {}), ("apps.describe", {"app": "counter"})):
        failure = world.failure(verb, **arguments)
        assert (failure.code, failure.details) == ("QUEUE_FULL", {"limit": MAX_LOOKUPS})
    for _, done in world.jobs:
        done(RuntimeError("no such disk"))
    assert world.ask("apps.list") == []
