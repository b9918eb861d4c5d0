"""Who watches the daemon is told what has changed: all of it, seldom, and only when it takes it."""

from dataclasses import replace

import pytest

from tests.daemon.test_control import CLIENT, DEAD, ID, NOW, OTHER, A, B, World
from warmd.daemon import news
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.protocol import values
from warmd.protocol.messages import (
    AppRef,
    Call,
    CallId,
    Failure,
    Part,
    Request,
    Result,
    SessionId,
    Timing,
)  # fmt: skip

WARM = Timing(False, 0.001, 0.0, 0.0, 0.0, 0.5)
COLD = Timing(True, 0.0, 0.2, 0.3, 0.1, 0.5)


class Watched(World):
    """A world that somebody watches."""

    def watch(self, window=10, client=CLIENT, id=ID):
        self.control.handle(client, Request(id, "watch", {}, window), self.time)

    def turn(self):
        """Let the timer ring that is set; the values of the parts that were sent."""
        timers, self.timers = self.timers, []
        for when, callback in timers:
            self.time = max(self.time, when)
            callback()
        return self.told()

    def told(self):
        sent, self.sent = self.sent, []
        assert all(type(message) is Part for _, message in sent), sent
        return [values.unpack(message.value) for _, message in sent]

    def change(self, **changes):
        self.live[A] = replace(self.live[A], **changes)
        self.turned()

    def call(self, number, session=A, app=None, ends=None, code=None):
        """A call arrives and ends."""
        id = CallId(number.to_bytes(16, "big"))
        named = AppRef(app) if app else None
        call = Call(id, session, named, "run")
        self.story.saw(ev.CallArrived(CLIENT, call, ""), (), self.time - 1)
        if code:
            end = Failure(id, SessionId(session), code, "no", "no")
        else:
            end = Result(id, SessionId(session) if session else None, 0, ends or WARM)
        self.story.saw(ev.TimePassed(), [fx.Send(CLIENT, end)], self.time)
        self.turned()
        return id


@pytest.fixture
def world(tmp_path):
    world = Watched(tmp_path)
    yield world
    world.logs.close()


def test_first_comes_all_that_lives_and_what_has_lately_ended(world):
    world.watch()
    (first,) = world.turn()
    assert {info["id"]: info["state"] for info in first["sessions"]} == {A: "idle", B: "died"}
    assert (first["calls"], first["ended"], first["draining"]) == ([], 0, False)


def test_then_only_what_has_changed(world):
    world.watch()
    world.turn()
    world.turned()
    assert world.turn() == [], "an event that changed nothing"
    world.change(state="busy", running_function="run")
    (told,) = world.turn()
    assert [(info["id"], info["state"], info["running_function"]) for info in told["sessions"]] == [
        (A, "busy", "run")
    ]


def test_nothing_is_looked_at_while_nothing_happens(world):
    world.watch()
    world.turn()
    assert world.timers == []


def test_changes_are_told_together_and_not_too_often(world):
    world.watch()
    world.turn()
    for calls in range(5):
        world.change(calls=calls)
    assert len(world.timers) == 1
    assert world.timers[0][0] >= NOW + news.PAUSE_SECONDS
    (told,) = world.turn()
    assert told["sessions"][0]["calls"] == 4


@pytest.mark.parametrize(("took", "pause"), [(0.001, 0.25), (0.01, 1.0), (0.1, 2.0)])
def test_a_look_that_takes_long_is_made_less_often(world, monkeypatch, took, pause):
    monkeypatch.setattr(news, "thread_time", iter([0.0, took]).__next__)
    world.watch()
    world.turn()
    began = world.time
    world.change(calls=9)
    assert world.timers[0][0] == pytest.approx(began + pause)


def test_a_session_that_is_gone_is_told_of_once(world):
    world.watch()
    world.turn()
    del world.live[A]
    world.dead[A] = replace(DEAD, id=A, state="expired", reason="idle")
    world.turned()
    (told,) = world.turn()
    assert [(info["id"], info["state"], info["reason"]) for info in told["sessions"]] == [
        (A, "expired", "idle")
    ]
    world.turned()
    assert world.turn() == []


def test_one_that_came_and_went_between_two_looks_is_told_of(world):
    world.watch()
    world.turn()
    C = "sess_" + "c" * 32
    world.dead[C] = replace(DEAD, id=C, state="ended")
    world.turned()
    (told,) = world.turn()
    assert [(info["id"], info["state"]) for info in told["sessions"]] == [(C, "ended")]


def test_who_has_no_credit_is_told_of_all_changes_later_and_of_those_between_never(world):
    world.watch(window=1)
    world.turn()
    world.change(calls=7)
    assert world.turn() == []
    world.change(calls=8)
    world.change(queued=2)
    assert world.turn() == []
    world.control.news.credit(CLIENT, ID, 1)
    (told,) = world.turn()
    assert (told["sessions"][0]["calls"], told["sessions"][0]["queued"]) == (8, 2)


def test_who_does_not_read_is_told_nothing_until_it_does(world):
    world.watch()
    world.turn()
    world.control.news.pause(CLIENT, True)
    world.change(calls=7)
    assert world.turn() == []
    world.control.news.pause(CLIENT, False)
    assert [told["sessions"][0]["calls"] for told in world.turn()] == [7]


def test_calls_that_have_ended_with_their_times_and_their_app(world):
    world.watch()
    world.turn()
    id = world.call(1, ends=COLD)
    world.call(2, session=None, app="counter")
    world.call(3, code="TIMEOUT")
    (told,) = world.turn()
    first, pool, late = told["calls"]
    assert (first["id"], first["app"], first["session"], first["code"]) == (id.hex(), "counter", A, None)
    assert first["timing"] == COLD._asdict()
    assert first["ended"] - first["arrived"] == pytest.approx(1)
    assert (pool["app"], pool["session"]) == ("counter", None)
    assert (late["code"], late["timing"], late["ran"]) == ("TIMEOUT", None, "no")
    assert told["ended"] == 3


def test_of_many_calls_the_latest_are_told_and_all_that_waited_for_a_start(world, monkeypatch):
    monkeypatch.setattr(news, "MOST_CALLS", 3)
    world.watch()
    world.turn()
    world.call(1, ends=COLD)
    for number in range(2, 10):
        world.call(number)
    (told,) = world.turn()
    assert [int(call["id"], 16) for call in told["calls"]] == [1, 7, 8, 9]
    assert told["ended"] == 9
    world.call(10)
    (told,) = world.turn()
    assert [int(call["id"], 16) for call in told["calls"]] == [10]


def test_names_that_were_refused_for_their_length_are_told_in_few_bytes(world):
    world.watch()
    world.turn()
    call = Call(CallId(b"l" * 16), None, AppRef("a" * 60_000), "f" * 60_000)
    world.story.refused(call, Failure(call.id, None, "INVALID", "no " * 10_000, "no"), world.time)
    world.turned()
    (told,) = world.turn()
    assert all(len(str(value)) <= 600 for value in told["calls"][0].values())


def test_a_new_watcher_is_told_of_calls_that_ended_before(world):
    world.watch()
    world.turn()
    world.call(1)
    world.turn()
    world.watch(client=OTHER)
    (told,) = world.turn()
    assert (len(told["calls"]), told["ended"]) == (1, 0)


def test_the_time_until_a_generators_first_part(world):
    world.watch()
    world.turn()
    id = CallId(b"g" * 16)
    world.story.saw(ev.CallArrived(CLIENT, Call(id, A, None, "run"), ""), (), world.time - 1)
    world.story.yielded(id, world.time - 0.4)
    world.story.saw(ev.TimePassed(), [fx.Send(CLIENT, Result(id, SessionId(A), 3, WARM))], world.time)
    world.turned()
    (told,) = world.turn()
    assert told["calls"][0]["first_seconds"] == pytest.approx(0.1)


def test_one_that_is_cancelled_or_gone_is_told_no_more_and_the_last_one_takes_all_with_it(world):
    world.watch()
    world.watch(client=OTHER)
    world.turn()
    world.control.news.cancel(CLIENT, ID, "abandon")
    (failure,) = [message for _, message in world.sent]
    assert (failure.code, world.control.stream_of(CLIENT, ID)) == ("CANCELLED", None)
    world.sent.clear()
    assert world.turned is not None
    world.control.news.client_gone(OTHER)
    assert world.turned is None, "who hears of nothing costs nothing"


@pytest.mark.parametrize("window", [None, -1, 10_001])
def test_watching_without_a_sound_window_is_refused(world, window):
    failure = world.failure("watch", window)
    assert failure.code == "INVALID" and "0 to 10000 parts" in failure.message


def test_watchers_are_bounded_and_their_ids_are_their_own(world, monkeypatch):
    monkeypatch.setattr(news, "MOST_WATCHERS", 2)
    world.watch()
    assert world.failure("watch", 1).code == "INVALID", "the id is in use"
    world.sent.clear()
    world.watch(client=OTHER)
    world.watch(client=OTHER, id=b"o" * 16)
    assert world.sent[-1][1].code == "QUEUE_FULL"
    assert "there are 2 who watch already" in world.sent[-1][1].message
    monkeypatch.setattr(news, "MOST_WATCHERS_OF_CLIENT", 1)
    world.watch(client=OTHER, id=b"o" * 16)
    assert "this client watches 1 times already" in world.sent[-1][1].message
