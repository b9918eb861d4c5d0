"""Facts that come twice, too late, or together with what they seldom meet."""

from __future__ import annotations

from tests.core.stage import EVERYTHING
from tests.core.world import World, client
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import Limits
from warmd.daemon.core.record import final_bytes
from warmd.protocol import work
from warmd.protocol.messages import AppRef, CallId, Failure
from warmd.protocol.work import Ordinal, WorkerId


def test_word_of_a_worker_that_is_forgotten_means_nothing():
    world = World()
    world.end(world.session())
    assert world.tell(ev.LinkLost(WorkerId(1), "closed its link")) == []


def test_a_client_falls_behind_and_catches_up_once():
    world = World()
    world.catches_up("ann")
    world.falls_behind("ann", 100)
    due = world.broker.deadline()
    world.wait(0.1)
    world.falls_behind("ann", 200)
    assert world.broker.deadline() == due
    world.catches_up("ann")
    assert world.broker.deadline() is None


def test_a_start_that_fails_after_it_was_ready_did_not_fail():
    world = World()
    session = world.session()
    world.says(work.StartFailed("setup", "ValueError", "late", "Traceback"))
    assert world.state(session) == "idle"


def test_a_session_is_told_to_finish_once():
    world = World(holds=[work.Finish])
    session = world.session()
    call = world.call(session)
    world.end(session, running="finish")
    world.returns()
    assert call.code == "ok"
    world.end(session)
    assert world.worker().finish == "ended"


def test_a_fault_about_a_call_that_is_unknown_concerns_nobody():
    world = World()
    session = world.session()
    world.sabotage = "early"
    world.tell(ev.CancelArrived(client("ann"), CallId(bytes(16)), "cancel"))
    assert world.call(session, "").code == "ok"


def test_a_fault_about_a_pool_worker_leaves_the_waiting_calls_to_the_others():
    world = World(Limits(max_pool_workers=1))
    running, waiting = world.call(None), world.call(None)
    world.sabotage = "early"
    world.says(work.Returned(world.running().ordinal, 0.1, 0, b""))
    assert (running.code, running.final.ran) == ("INTERNAL", "maybe")
    world.returns()
    assert waiting.code == "ok"


def test_a_withdrawal_that_is_settled_when_its_turn_has_come():
    """The call before it was answered; the worker has not turned to this one, and never will."""
    world = World(Limits(dispatch_ahead=2), holds=[fx.Withdraw])
    session = world.session()
    first, second = world.call(session), world.call(session)
    third = world.call(session)
    world.lags = True
    world.cancel(second)
    world.worker().running = None
    world.worker().given.pop(Ordinal(1))
    world.tell(ev.WorkerSaid(WorkerId(1), work.Returned(Ordinal(1), 0.1, 0, b"")))
    assert first.code == "ok"
    world.settles()
    assert (second.code, second.final.ran) == ("CANCELLED", "no")
    world.worker().turn()
    world.says(work.Interrupted(Ordinal(2), 0.0))
    assert third.open


def test_of_several_pools_only_the_one_that_is_left_gives_up_its_start():
    world = World(holds=EVERYTHING)
    chat = world.call(None, app=AppRef("chat"), by="bob")
    world.call(None, by="ann")
    world.leave("ann")
    assert chat.open
    assert [view.app for view in world.broker.views() if view.state != "stopping"] == ["chat"]


def test_a_pool_call_over_the_bytes_that_may_wait_is_refused():
    world = World(Limits(max_client_queued_bytes=100, max_pool_workers=1))
    world.call(None)
    refused = world.call(None, input=b"i" * 101)
    assert (refused.code, refused.final.ran) == ("QUEUE_FULL", "no")


def test_a_daemon_stops_while_a_client_is_behind():
    world = World()
    world.falls_behind("ann")
    world.drain(0.0)
    assert world.stopped and world.broker.deadline() is None


def test_a_reader_that_catches_up_is_served_what_is_kept():
    world = World()
    call = world.call(world.session(), detach=True)
    reading = world.attach(call, window=8)
    world.falls_behind("bob")
    world.yields(b"part")
    assert not reading.parts
    world.catches_up("bob")
    assert reading.parts == [b"part"]


def test_details_of_an_error_count_with_all_that_is_in_them():
    plain = Failure(CallId(bytes(16)), None, "APP_ERROR", "x", "yes", {})
    nested = Failure(CallId(bytes(16)), None, "APP_ERROR", "x", "yes", {"a": ["bc", {"d": 1}]})
    assert final_bytes(nested) - final_bytes(plain) == 4 * len("abcd")


def test_what_a_paused_worker_had_said_before_settles_with_its_next_call():
    world = World()
    session = world.session()
    first, second = world.call(session), world.call(session, by="bob")
    world.falls_behind("ann")
    assert world.worker().paused
    world.worker().given.pop(Ordinal(1))
    world.worker().running = None
    world.tell(ev.WorkerSaid(WorkerId(1), work.Returned(Ordinal(1), 0.1, 0, b"small")))
    assert first.code == "ok" and second.open
    assert not world.worker().paused, "it runs another's call now"


def test_a_call_that_ends_on_a_lost_link_is_answered_and_its_worker_killed():
    world = World(holds=[fx.Kill])
    session = world.session()
    call = world.call(session)
    world.tell(ev.LinkLost(WorkerId(1), "closed its link"))
    world.worker().given.pop(Ordinal(1))
    world.tell(ev.WorkerSaid(WorkerId(1), work.Returned(Ordinal(1), 0.1, 0, b"value")))
    assert call.code == "ok"
    assert world.worker().finish is None and world.worker().kills == 1
