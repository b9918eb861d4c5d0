"""A session's life: it opens, serves one call after another, idles, and is remembered when it is gone."""

from __future__ import annotations

from math import inf

import pytest

from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core import book
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.messages import WINDOW_BYTES, Accepted, AppRef, NewSession, Result, SessionId, Timing
from warmd.protocol.work import AppSpec


def kinds(effects: list[tuple[float, fx.Effect]]) -> list[str]:
    """The names of effects; of messages, their own."""
    return [type(getattr(effect, "message", effect)).__name__ for _, effect in effects]


def test_the_first_call_opens_a_session_and_runs_in_it() -> None:
    world = World(holds=EVERYTHING)
    heard = world.call("new", input=b"in", setup=b"config", env={"A": "1"}, idle_seconds=30.0)
    (look_up,) = world.ordered(fx.LookUp)
    assert look_up.app == AppRef("counter")
    assert heard.accepted is None, "the app is not known yet"

    world.found()
    session = look_up.session
    assert heard.accepted == Accepted(heard.call.id, session)
    assert world.ordered(fx.Spawn) == [
        fx.Spawn(work.WorkerId(1), session, AppSpec("counter", "counter:App"), {"A": "1"}, b"config", b"")
    ]
    world.spawned()
    world.ready()
    assert world.running() == work.Invoke(
        work.Ordinal(1), heard.call.id, "run", None, b"in", window_bytes=WINDOW_BYTES
    )

    world.returns(b"out")
    assert isinstance(heard.final, Result)
    assert (heard.final.session, heard.final.value) == (session, b"out")
    assert kinds(world.effects) == ["LookUp", "Accepted", "Spawn", "Invoke", "Result"]
    assert world.state(session) == "idle"


def test_an_id_is_made_of_the_random_bits_that_came_with_the_call() -> None:
    session = World().session()
    assert session == SessionId("sess_" + "0" * 31 + "1")


def test_a_call_by_id_goes_straight_to_the_warm_worker() -> None:
    world = World()
    session = world.session()
    before = len(world.effects)
    heard = world.call(session, input=b"2")
    world.returns()
    assert kinds(world.effects[before:]) == ["Invoke", "Result"], "no Accepted: its client knows the session"
    assert heard.code == "ok"
    assert len(world.workers) == 1


def test_a_call_by_id_may_name_its_app() -> None:
    world = World()
    heard = world.call(world.session(), app=AppRef("counter"))
    world.returns()
    assert heard.code == "ok"


def test_calls_run_one_after_another_in_the_order_of_arrival() -> None:
    world = World()
    session = world.session()
    calls = [world.call(session, by=name) for name in ("ann", "bob", "ann", "cat")]
    ran = []
    for _ in calls:
        ran.append(world.running().call)
        world.returns()
    assert ran == [heard.call.id for heard in calls]
    assert [heard.code for heard in calls] == ["ok"] * 4


def test_a_call_is_dispatched_before_the_end_of_the_last_is_told() -> None:
    """The worker works while the answer is on its way."""
    world = World()
    session = world.session()
    world.call(session)
    world.call(session)
    before = len(world.effects)
    world.returns()
    assert kinds(world.effects[before:]) == ["Invoke", "Result"]


def test_calls_that_come_during_the_start_wait_for_it() -> None:
    world = World(holds=EVERYTHING)
    first = world.call()
    world.found()
    assert first.session
    second = world.call(first.session)
    world.spawned()
    world.ready()
    assert world.running().call == first.call.id
    world.returns()
    world.returns()
    assert second.code == "ok"


def test_two_sessions_never_share_a_process() -> None:
    world = World()
    one, two = world.session(), world.session()
    world.call(one)
    world.call(two)
    assert world.running(1).call != world.running(2).call


def test_an_open_waits_for_the_start_and_runs_nothing() -> None:
    world = World(holds=EVERYTHING)
    heard = world.call("new", "")
    world.found()
    world.spawned()
    assert heard.code == ""
    world.ready()
    assert isinstance(heard.final, Result)
    assert heard.final.value == b"\xc0", "a packed None"
    assert world.worker().invoked == 0


def test_the_first_answer_says_where_its_time_went() -> None:
    world = World(holds=EVERYTHING)
    heard = world.call()
    world.now += 0.25
    world.found()
    world.now += 1.0
    world.spawned()
    world.ready()  # says: imports 0.2 s, setup 0.3 s
    world.now += 2.0
    world.returns(seconds=1.9)
    assert isinstance(heard.final, Result)
    assert heard.final.timing == Timing(True, 0.25, 0.5, 0.2, 0.3, 1.9)


def test_a_warm_answer_says_how_long_it_waited() -> None:
    world = World()
    session = world.session()
    world.call(session)
    waiting = world.call(session)
    world.now += 3.0
    world.returns()
    world.returns(seconds=0.5)
    assert isinstance(waiting.final, Result)
    assert waiting.final.timing == Timing(False, 3.0, 0.0, 0.0, 0.0, 0.5)


# idle time


def test_an_idle_session_expires_at_its_time_and_not_before() -> None:
    world = World()
    session = world.session(idle_seconds=30.0)
    world.wait(29.999)
    assert world.state(session) == "idle"
    world.wait(0.001)
    assert world.ordered(fx.Tell)[-1].message == work.Finish("expired")
    assert world.state(session) == "expired"
    world.assert_over()


def test_without_a_wish_the_default_holds() -> None:
    world = World(Limits(session_timeout_seconds=7.0))
    session = world.session()
    assert world.wait_for_deadline() == 7.0
    assert world.state(session) == "expired"


def test_busy_is_never_idle() -> None:
    world = World()
    session = world.session(idle_seconds=1.0)
    world.call(session, timeout_seconds=3000.0)
    world.call(session, timeout_seconds=3000.0)
    world.wait(1000.0)
    world.returns()
    world.wait(1000.0)
    assert world.state(session) == "busy"


def test_the_clock_starts_at_the_end_of_a_call() -> None:
    world = World()
    session = world.session(idle_seconds=10.0)
    world.wait(9.0)
    world.call(session)
    world.wait(100.0)
    world.returns()
    assert world.wait_for_deadline() == 10.0
    assert world.state(session) == "expired"


def test_a_keepalive_restarts_the_clock() -> None:
    world = World()
    session = world.session(idle_seconds=10.0)
    world.wait(9.0)
    answer = world.keepalive(session)
    assert isinstance(answer, fx.Answer)
    assert (answer.sessions, answer.many) == ((session,), False)
    assert world.wait_for_deadline() == 10.0
    assert world.state(session) == "expired"


@pytest.mark.parametrize("phase", ["looking_up", "starting", "busy"])
def test_a_keepalive_of_a_session_that_is_not_idle_changes_nothing(phase: str) -> None:
    world = World(holds=EVERYTHING)
    world.call()
    session = next(iter(world.lookups))
    if phase != "looking_up":
        world.found()
    if phase == "busy":
        world.spawned()
        world.ready()
    due = world.broker.deadline()
    assert isinstance(world.keepalive(session), fx.Answer)
    assert (world.broker.deadline(), world.state(session)) == (due, phase)


def test_a_session_that_never_expires_leaves_no_timer() -> None:
    world = World(Limits(max_session_timeout_seconds=inf))
    session = world.session(idle_seconds=inf)
    assert world.broker.deadline() is None
    view = world.broker.view(session)
    assert view is not None
    assert (view.idle_seconds, view.expires_at) == (inf, None)


# what ended, expired, died, or never was


def gone_session(world: World, how: str) -> str:
    session = world.session(idle_seconds=1.0)
    if how == "expired":
        world.wait(1.0)
    elif how == "ended":
        world.end(session)
    else:
        world.exits(signal="SIGSEGV")
    return session


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("ended", "it was ended on request"),
        ("expired", "nothing called it for 1 s (session_timeout)"),
        ("died", "its worker was killed by SIGSEGV"),
    ],
)
def test_a_session_that_is_gone_says_why(how: str, reason: str) -> None:
    world = World()
    session = gone_session(world, how)
    world.assert_over()
    for heard in (world.call(session), world.call(session, by="bob")):
        assert heard.code == f"SESSION_{how.upper()}"
        assert reason in heard.final.message
        assert session in heard.final.message
        assert heard.final.details == {"reason": reason}
    refusal = world.keepalive(session)
    assert refusal.code == f"SESSION_{how.upper()}"
    view = world.broker.view(session)
    assert view is not None
    assert (view.state, view.reason, view.pid) == (how, reason, None)
    assert world.broker.views() == []
    assert [v.id for v in world.broker.views(include_dead=True)] == [session]


@pytest.mark.parametrize("how", ["ended", "expired", "died"])
def test_it_says_so_while_it_is_still_stopping(how: str) -> None:
    world = World(holds=(fx.Kill, work.Finish))
    session = gone_session(world, how)
    assert world.state(session) == "stopping"
    assert world.call(session).code == f"SESSION_{how.upper()}"
    assert world.keepalive(session).code == f"SESSION_{how.upper()}"


@pytest.mark.parametrize("id", ["sess_0", "", "counter", "sess_" + "f" * 32, "pool_" + "0" * 32, "new " * 50])
def test_an_id_that_never_was_is_not_found(id: str) -> None:
    world = World()
    heard = world.call(id)
    assert heard.code == "SESSION_NOT_FOUND"
    assert "session" in heard.final.message
    assert len(heard.final.message) < 300
    assert world.keepalive(id).code == "SESSION_NOT_FOUND"


def test_workers_of_the_pool_cannot_be_named() -> None:
    world = World()
    world.call(None, "")
    pool = world.worker().spawn.session
    assert pool.startswith("pool_")
    assert world.call(pool).code == "SESSION_NOT_FOUND"
    assert world.keepalive(pool).code == "SESSION_NOT_FOUND"
    assert world.requests[world.end(pool)].code == "SESSION_NOT_FOUND"
    assert world.state(pool) == "idle"


def test_the_dead_are_forgotten_in_the_end_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "REMEMBERED_SESSIONS", 2)
    world = World()
    sessions = [gone_session(world, "ended") for _ in range(3)]
    assert [world.call(session).code for session in sessions] == [
        "SESSION_NOT_FOUND", "SESSION_ENDED", "SESSION_ENDED",
    ]  # fmt: skip


# what can be seen


def test_a_view_shows_a_session() -> None:
    world = World()
    world.now = 2000.0
    session = world.session(idle_seconds=30.0, name="mine", labels={"team": "a"})
    world.now = 2010.0
    running = world.call(session)
    waiting = world.call(session)
    world.says(work.Progressed(world.running().ordinal, b"half"))
    view = world.broker.view(session)
    assert view is not None
    assert (view.id, view.kind, view.app, view.name, view.labels) == (
        session, "session", "counter", "mine", {"team": "a"},
    )  # fmt: skip
    assert (view.state, view.worker, view.pid, view.created, view.last_call) == (
        "busy",
        1,
        101,
        2000.0,
        2010.0,
    )
    assert (view.calls, view.queued, view.running_call, view.running_since) == (
        1,
        1,
        running.call.id.hex(),
        2010.0,
    )
    assert (view.idle_seconds, view.expires_at, view.reason, view.progress) == (30.0, None, None, b"half")
    shown = world.broker.call_view(waiting.call.id.hex())
    assert shown is not None
    assert (shown.state, shown.session, shown.position, shown.since) == ("queued", session, 0, 2010.0)
    totals = world.broker.totals()
    assert (totals.sessions, totals.running, totals.queued, totals.draining) == (1, 1, 1, False)
    assert world.broker.views() == [view]


def test_a_view_of_an_idle_session_says_when_it_expires() -> None:
    world = World()
    view = world.broker.view(world.session(idle_seconds=30.0))
    assert view is not None
    assert (view.state, view.expires_at, view.calls, view.last_call) == ("idle", world.now + 30.0, 0, None)


def test_progress_is_of_the_running_call_only() -> None:
    world = World()
    session = world.session()
    first = world.call(session)
    world.says(work.Progressed(work.Ordinal(1), b"half"))
    assert world.broker.call_view(first.call.id.hex()).progress == b"half"
    world.returns()
    assert world.broker.call_view(first.call.id.hex()) is None
    second = world.call(session)
    world.says(work.Progressed(work.Ordinal(1), b"late"))
    assert world.broker.call_view(second.call.id.hex()).progress == b""


def test_call_views_know_every_state_of_a_call() -> None:
    world = World(holds=(fx.Spawn,))
    heard = world.call()
    seen = [world.broker.call_view(heard.call.id.hex()).state]
    world.spawned()
    world.ready()
    seen.append(world.broker.call_view(heard.call.id.hex()).state)
    world.cancel(heard)
    seen.append(world.broker.call_view(heard.call.id.hex()).state)
    assert seen == ["starting", "running", "cancelling"]
    assert world.broker.call_view("not hex") is None
    assert world.broker.call_view("ab") is None


def test_new_session_options_default_to_nothing() -> None:
    """The default of NewSession is shared by all its instances: nobody may change it."""
    world = World()
    world.session(labels={"a": "b"})
    assert NewSession() == NewSession(None, None, {}, {})
