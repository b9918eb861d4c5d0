"""Streams and their credits; readers that leave; clients that are gone."""

from __future__ import annotations

from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import DETACHED_WINDOW
from warmd.protocol import work
from warmd.protocol.messages import Part, Parts, Result
from warmd.protocol.work import MoreCredit, Ordinal

# streams


def test_parts_are_numbered_and_counted() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=3)
    world.yields(b"a")
    world.yields(b"b")
    world.returns(b"")
    assert heard.parts == [b"a", b"b"]
    assert isinstance(heard.final, Result)
    assert (heard.final.parts, heard.final.value) == (2, b"")


def test_the_window_goes_to_the_worker_and_credit_follows() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=1)
    assert world.running().window == 1
    world.credit(heard, 4)
    assert world.ordered(fx.Tell)[-1].message == MoreCredit(Ordinal(1), 4)
    assert world.worker().credit == 5


def test_credit_that_comes_before_the_dispatch_is_not_lost() -> None:
    world = World()
    session = world.session()
    world.call(session)
    heard = world.call(session, "count", window=0)
    world.credit(heard, 2)
    world.credit(heard, 3)
    world.returns()
    assert world.running().window == 5
    for _ in range(5):
        world.yields()
    assert len(heard.parts) == 5


def test_credit_where_there_is_no_stream_is_dropped() -> None:
    world = World()
    heard = world.call(world.session(), "count")
    assert world.running().window is None
    assert world.tell(ev.CreditArrived(heard.client, heard.call.id, 3)) == []
    waiting = world.call(heard.call.session)
    assert world.tell(ev.CreditArrived(waiting.client, waiting.call.id, 3)) == []
    world.returns()
    assert world.running().window is None


def test_credit_of_nothing_or_less_is_dropped() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=1)
    for parts in (0, -5):
        assert world.tell(ev.CreditArrived(heard.client, heard.call.id, parts)) == []


def test_a_stream_of_two_sessions_is_not_mixed() -> None:
    world = World()
    one = world.call(world.session(), "count", window=2)
    two = world.call(world.session(), "count", window=2)
    world.yields(b"1", worker=1)
    world.yields(b"2", worker=2)
    assert (one.parts, two.parts) == ([b"1"], [b"2"])


def test_a_stream_that_breaks_does_not_look_complete() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=2)
    world.yields()
    world.exits(signal="SIGKILL")
    assert heard.code == "WORKER_DIED"


# readers that leave


def test_an_abandoned_stream_is_closed_at_its_next_chance_and_costs_no_session() -> None:
    world = World()
    session = world.session(idle_seconds=5.0)
    heard = world.call(session, "count", window=2)
    world.yields()
    world.cancel(heard, "abandon")
    (asked,) = world.ordered(fx.RequestCancel)
    assert (asked.ordinal, asked.signal) == (Ordinal(1), False)
    world.wait(0.9)
    assert world.ordered(fx.Interrupt) == []
    world.obeys()
    assert heard.code == "CANCELLED"
    assert world.state(session) == "idle"


def test_an_abandoned_stream_that_hangs_is_interrupted_but_never_killed() -> None:
    world = World()
    session = world.session()
    heard = world.call(session, "count", window=2)
    world.yields()
    world.cancel(heard, "abandon")
    world.wait(10.0)
    assert len(world.ordered(fx.Interrupt)) >= 5
    assert world.ordered(fx.Kill) == []
    assert heard.final is None
    world.obeys()
    assert heard.code == "CANCELLED"
    assert world.state(session) == "idle"


def test_parts_that_were_read_together_are_told_together() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=8)
    world.yields(b"a")
    world.yields_together([b"b", b"", b"ccc"])
    assert heard.parts == [b"a", b"b", b"", b"ccc"]
    assert [type(effect.message) for effect in world.ordered(fx.Send)][-2:] == [Part, Parts]
    world.returns(b"")
    assert isinstance(heard.final, Result)
    assert heard.final.parts == 4


def test_parts_of_a_detached_call_are_kept_one_by_one_and_credit_goes_on() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    world.yields_together([b"x"] * DETACHED_WINDOW)
    world.yields_together([b"y"] * DETACHED_WINDOW)
    reader = world.attach(heard, window=1000)
    assert reader.parts == [b"x"] * DETACHED_WINDOW + [b"y"] * DETACHED_WINDOW


def test_parts_of_an_abandoned_stream_go_nowhere_together() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=8)
    world.cancel(heard, how="abandon")
    world.yields_together([b"a", b"b"])
    assert heard.parts == []


def test_what_an_abandoned_stream_still_yields_goes_nowhere() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=2)
    world.cancel(heard, "abandon")
    world.yields()
    assert heard.parts == []
    world.returns()
    assert heard.code == "CANCELLED"


def test_an_abandoned_stream_can_still_be_cancelled() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=2)
    world.cancel(heard, "abandon")
    world.cancel(heard, "abandon")
    assert len(world.ordered(fx.RequestCancel)) == 1
    world.cancel(heard)
    world.wait(2.0)
    assert heard.code == "CANCELLED"
    assert len(world.ordered(fx.Kill)) == 1


def test_an_abandoned_stream_that_waits_is_withdrawn() -> None:
    world = World()
    session = world.session()
    world.call(session)
    waiting = world.call(session, "count", window=2)
    world.cancel(waiting, "abandon")
    assert (waiting.code, waiting.final.ran) == ("CANCELLED", "no")


def test_an_abandoned_stream_has_its_deadline_still() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=2, timeout_seconds=5.0)
    world.cancel(heard, "abandon")
    world.wait(7.0)
    assert heard.code == "TIMEOUT"


# clients that are gone


def test_the_running_call_of_a_client_that_is_gone_runs_to_its_end() -> None:
    world = World()
    session = world.session()
    world.call(session)
    waiting = world.call(session)
    other = world.call(session, by="bob")
    world.leave("ann")
    assert world.ordered(fx.Interrupt) == []
    world.returns()
    assert world.running().call == other.call.id, "the waiting call of the client was dropped"
    assert waiting.final is None
    world.returns()
    assert other.code == "ok"
    assert world.state(session) == "idle"


def test_the_stream_of_a_client_that_is_gone_is_closed() -> None:
    world = World()
    session = world.session()
    world.call(session, "count", window=1)
    world.yields()
    world.leave("ann")
    (asked,) = world.ordered(fx.RequestCancel)
    assert asked.signal is False
    world.obeys()
    assert world.state(session) == "idle"


def test_the_deadline_of_a_call_without_a_client_holds() -> None:
    world = World()
    session = world.session()
    world.call(session, timeout_seconds=5.0)
    world.leave("ann")
    world.wait(7.0)
    assert len(world.ordered(fx.Kill)) == 1
    assert world.state(session) == "died"


def test_a_client_that_is_gone_ends_no_session() -> None:
    world = World()
    session = world.session(idle_seconds=5.0)
    world.leave("ann")
    assert world.state(session) == "idle"
    heard = world.call(session, by="bob")
    world.returns()
    assert heard.code == "ok"


def test_a_client_without_calls_may_leave() -> None:
    assert World().tell(ev.ClientGone(b"nobody")) == []


def test_the_death_of_a_worker_whose_client_is_gone_is_told_to_nobody() -> None:
    world = World()
    session = world.session()
    world.call(session)
    behind = world.call(session, by="bob")
    world.leave("ann")
    world.exits(signal="SIGKILL")
    assert behind.code == "SESSION_DIED"
    world.assert_over()


def test_a_dead_clients_start_lives_on_for_another() -> None:
    world = World(holds=(fx.Spawn,))
    heard = world.call(by="ann")
    other = world.call(heard.session, by="bob")
    world.leave("ann")
    world.spawned()
    world.ready()
    assert world.running().call == other.call.id
    assert world.ordered(fx.Kill) == []


def test_progress_of_a_call_that_was_given_up_is_dropped() -> None:
    world = World()
    world.call(world.session())
    world.returns()
    assert world.says(work.Progressed(Ordinal(1), b"late")) == []
