"""Sessions end on request and with the daemon: who is waited for, and who is told what."""

from __future__ import annotations

import pytest

from tests.core.stage import EVERYTHING
from tests.core.world import World, client
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.messages import AppRef, CallId, Failure, SessionId


def test_an_idle_session_is_asked_to_finish_and_the_end_waits_for_its_tree() -> None:
    world = World(holds=EVERYTHING)
    world.call("new", "")
    session = next(iter(world.lookups))
    world.found()
    world.spawned()
    world.ready()
    request = world.end(session)
    assert world.worker().finish == "ended"
    assert world.state(session) == "stopping"
    world.exits(code=0)
    assert world.requests[request] is None, "its children may still live"
    world.tree_ends()
    answer = world.requests[request]
    assert isinstance(answer, fx.Answer)
    assert (answer.sessions, answer.many) == ((session,), False)
    assert world.state(session) == "ended"
    world.assert_over()


def test_an_end_cancels_what_runs_and_what_waits() -> None:
    world = World()
    session = world.session()
    running, waiting = world.call(session), world.call(session)
    request = world.end(session, running="cancel")
    assert (waiting.code, waiting.final.ran) == ("CANCELLED", "no")
    assert running.code == ""
    world.obeys()
    assert (running.code, running.final.ran) == ("CANCELLED", "maybe")
    assert world.worker().finish == "ended", "unload runs, for the interrupt took"
    assert isinstance(world.requests[request], fx.Answer)
    world.assert_over()


def test_an_end_of_a_call_that_cannot_be_interrupted_kills() -> None:
    world = World()
    session = world.session()
    running = world.call(session)
    request = world.end(session)
    world.wait(1.0)
    assert running.code == "CANCELLED"
    assert isinstance(world.requests[request], fx.Answer)
    assert world.state(session) == "ended", "it was ended, whatever that took"


def test_an_end_may_let_what_runs_finish_but_not_what_waits() -> None:
    world = World()
    session = world.session()
    running, waiting = world.call(session), world.call(session)
    request = world.end(session, running="finish")
    assert waiting.code == "CANCELLED"
    world.wait(100.0)
    assert (running.code, world.requests[request]) == ("", None)
    world.returns()
    assert running.code == "ok"
    assert isinstance(world.requests[request], fx.Answer)
    world.assert_over()


def test_a_second_end_can_be_less_patient() -> None:
    world = World()
    session = world.session()
    running = world.call(session)
    first = world.end(session, running="finish")
    second = world.end(session, running="cancel")
    world.obeys()
    assert running.code == "CANCELLED"
    assert isinstance(world.requests[first], fx.Answer)
    assert isinstance(world.requests[second], fx.Answer)


@pytest.mark.parametrize("stage", ["looking_up", "starting", "spawned"])
def test_an_end_during_the_start_gives_the_start_up(stage: str) -> None:
    world = World(holds=EVERYTHING)
    heard = world.call()
    session = next(iter(world.lookups))
    if stage != "looking_up":
        world.found()
    if stage == "spawned":
        world.spawned()
    request = world.end(session)
    assert (heard.code, heard.final.ran) == ("CANCELLED", "no")
    world.oblige()
    assert isinstance(world.requests[request], fx.Answer)
    assert world.state(session) == "ended"
    world.assert_over()


def test_ending_what_is_gone_is_no_error() -> None:
    world = World()
    ended, expired, died = world.session(), world.session(idle_seconds=1.0), world.session()
    world.end(ended)
    world.wait(1.0)
    world.exits(worker=3)
    assert [view.id for view in world.broker.gone()] == [died, expired, ended], "the latest first"
    for session in (ended, expired, died):
        answer = world.requests[world.end(session)]
        assert isinstance(answer, fx.Answer)
        assert answer.sessions == (session,)


def test_ending_an_unknown_session_is_an_error() -> None:
    world = World()
    failure = world.requests[world.end("sess_unknown")]
    assert isinstance(failure, Failure)
    assert failure.code == "SESSION_NOT_FOUND"


def test_a_worker_of_the_pool_is_not_ended_by_its_id() -> None:
    world = World()
    world.call(None, "")
    (worker,) = world.broker.views()
    failure = world.requests[world.end(worker.id)]
    assert isinstance(failure, Failure)
    assert failure.code == "SESSION_NOT_FOUND"
    assert "is a worker of the shared pool" in failure.message
    assert "`warmd end --app counter`" in failure.message


def test_all_of_an_app_can_be_ended() -> None:
    world = World()
    one, two, other = world.session(), world.session(), world.session(app=AppRef("chat"))
    answer = world.requests[world.end(app="counter")]
    assert isinstance(answer, fx.Answer)
    assert (set(answer.sessions), answer.many) == ({one, two}, True)
    assert world.state(other) == "idle"


def test_all_can_be_ended_the_pool_too() -> None:
    world = World(holds=(fx.Kill,))
    session = world.session()
    world.call(None, "")
    request = world.end()
    world.tree_ends(1)
    assert world.requests[request] is None, "the pool's worker is waited for"
    world.tree_ends(2)
    answer = world.requests[request]
    assert isinstance(answer, fx.Answer)
    assert (answer.sessions, answer.many) == ((session,), True), "workers of the pool have no info"
    world.assert_over()


@pytest.mark.parametrize("app", ["counter", None])
def test_calls_that_wait_for_the_pool_outlive_its_workers(app: str | None) -> None:
    """They named no session, so none of what was ended was theirs: another worker takes them."""
    world = World(Limits(max_pool_workers=1))
    running, waiting = world.call(None), world.call(None)
    request = world.end(app=app)
    world.obeys(worker=1)
    assert isinstance(world.requests[request], fx.Answer)
    assert (running.code, waiting.code, waiting.worker) == ("CANCELLED", "", 2)
    world.returns()
    assert waiting.code == "ok"


def test_ending_all_of_nothing_is_answered_at_once() -> None:
    world = World()
    answer = world.requests[world.end()]
    assert answer == fx.Answer(client("ann"), next(iter(world.requests)), (), True)


def test_a_repeated_end_is_dropped() -> None:
    world = World(holds=(fx.Kill,))
    session = world.session()
    request = world.end(session)
    assert world.tell(ev.EndArrived(client("ann"), request, session, None, "cancel")) == []


def test_an_end_after_an_expiry_waits_for_the_same_exit() -> None:
    world = World(holds=(work.Finish,))
    session = world.session(idle_seconds=1.0)
    world.wait(1.0)
    request = world.end(session)
    assert world.requests[request] is None
    world.exits(code=0)
    assert isinstance(world.requests[request], fx.Answer)
    assert world.state(session) == "expired", "that came first"


def test_unload_that_hangs_is_killed_after_the_grace() -> None:
    world = World(Limits(end_grace_seconds=10.0), holds=(work.Finish,))
    request = world.end(world.session())
    world.wait(9.99)
    assert world.requests[request] is None
    world.wait(0.01)
    assert isinstance(world.requests[request], fx.Answer)
    assert len(world.ordered(fx.Kill)) == 1


# the daemon stops


def test_a_drain_of_an_idle_daemon_stops_at_once() -> None:
    world = World()
    world.drain(30.0)
    assert world.stopped
    world.assert_over()


def test_a_drain_ends_idle_sessions_in_order() -> None:
    world = World()
    session = world.session()
    world.drain(30.0)
    assert world.worker().finish == "stopped"
    assert world.stopped
    assert world.state(session) == "ended"
    world.assert_over()


def test_a_drain_cancels_what_waits_and_lets_what_runs_finish() -> None:
    world = World()
    session = world.session()
    running, waiting, pooled = world.call(session), world.call(session), world.call(None)
    world.drain(30.0)
    assert (waiting.code, waiting.final.ran) == ("CANCELLED", "no")
    assert "stopped" in waiting.final.message
    world.wait(20.0)
    assert not world.stopped
    world.returns(worker=1)
    world.returns(worker=2)
    assert (running.code, pooled.code) == ("ok", "ok")
    assert world.stopped
    world.assert_over()


def test_a_drain_cancels_what_runs_too_long() -> None:
    world = World()
    heard = world.call(world.session())
    begin = world.now
    world.drain(30.0)
    world.wait(29.99)
    assert heard.code == ""
    world.wait(2.0)
    assert (heard.code, heard.final.ran) == ("CANCELLED", "maybe")
    assert "stopped" in heard.final.message
    assert heard.answered_at <= begin + 31.5
    assert world.stopped
    world.assert_over()


def test_a_drain_gives_starts_up() -> None:
    world = World(holds=EVERYTHING)
    looked_up, spawning = world.call(), world.call()
    world.found()
    in_pool = world.call(None)
    world.drain(30.0)
    assert {heard.code for heard in (looked_up, spawning, in_pool)} == {"CANCELLED"}
    world.oblige()
    assert world.stopped
    world.assert_over()


def test_a_drain_without_time_kills_at_once() -> None:
    world = World(holds=(fx.Kill,))
    running, idle = world.call(world.session()), world.session()
    world.drain(0.0)
    assert (running.code, running.final.ran) == ("CANCELLED", "maybe")
    assert len(world.ordered(fx.Kill)) == 2
    assert not world.stopped
    assert world.state(idle) == "stopping"
    for number in (1, 2):
        world.exits(number, signal="SIGKILL")
        world.tree_ends(number)
    assert world.stopped
    world.assert_over()


def test_a_second_drain_can_be_less_patient() -> None:
    world = World()
    heard = world.call(world.session())
    world.drain(30.0)
    world.drain(0.0)
    assert heard.code == "CANCELLED"
    assert world.stopped
    world.assert_over()


def test_a_second_drain_never_puts_off_the_end() -> None:
    world = World()
    heard = world.call(world.session())
    world.drain(5.0)
    world.drain(500.0)
    world.wait(6.5)
    assert heard.code == "CANCELLED"
    assert world.stopped
    world.assert_over()


def test_a_worker_that_cannot_be_killed_does_not_keep_the_daemon() -> None:
    world = World(holds=(fx.Kill,))
    world.session()
    world.drain(0.0)
    world.tree_ends(stuck=(4711,))
    assert world.stopped


def test_an_unload_that_hangs_does_not_keep_the_daemon() -> None:
    world = World(Limits(end_grace_seconds=10.0), holds=(work.Finish,))
    world.session()
    world.drain(30.0)
    world.wait(10.0)
    assert world.stopped


def test_an_end_that_waits_is_answered_before_the_daemon_stops() -> None:
    world = World(holds=(work.Finish,))
    session = world.session()
    request = world.end(session)
    world.drain(30.0)
    world.exits(code=0)
    assert isinstance(world.requests[request], fx.Answer)
    assert isinstance(world.effects[-1][1], fx.Stopped)


def test_ids_of_requests_and_calls_do_not_meet() -> None:
    """A request may have the id of a call that is under way: both are answered."""
    world = World()
    session = world.session()
    heard = world.call(session)
    effects = world.broker.handle(
        ev.EndArrived(client("ann"), CallId(heard.call.id), SessionId("sess_unknown"), None, "cancel"),
        world.now,
    )
    assert len(effects) == 1
    world.returns()
    assert heard.code == "ok"


def test_a_drain_whose_time_is_over_stops_what_runs_and_awaits_what_finishes():
    world = World(holds=[work.Finish])
    finishing, busy = world.session(), world.session()
    running = world.call(busy)
    world.drain(2.0)
    world.wait(2.0)
    assert [interrupt.worker for interrupt in world.ordered(fx.Interrupt)] == [2]
    world.obeys()
    assert running.code == "CANCELLED"
    assert world.state(finishing) == "stopping"
