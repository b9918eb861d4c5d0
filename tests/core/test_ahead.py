"""Calls that are sent before their turn: they only wait, can be taken back, and never run by mistake.

The worker of these tests writes what it enters on its control page and skips what is withdrawn, as
`warmd.daemon.core.ahead` says; where it `lags`, the daemon reads its words later than it says them.
"""

from __future__ import annotations

from typing import Any

from tests.core.fakes import Heard
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import policy
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.messages import Failure
from warmd.protocol.work import Ordinal

LIMITS = Limits(dispatch_ahead=2)


def sent(world: World) -> list[str]:
    """The functions of all calls that workers were given, in order."""
    return [
        effect.message.function
        for effect in world.ordered(fx.Tell)
        if isinstance(effect.message, work.Invoke)
    ]


def lagging(holds: Any = (), limits: Limits = LIMITS) -> tuple[World, Heard, Heard]:
    """A call that runs and one that was sent ahead, of other clients; no word of the worker is read."""
    world = World(limits, holds=(fx.Withdraw, fx.Kill, *holds))
    session = world.session()
    world.lags = True
    running = world.call(session, by="ann", timeout_seconds=50.0)
    world.worker().turn()
    return world, running, world.call(session, by="bob", timeout_seconds=50.0)


def faster_than_the_daemon(world: World) -> None:
    """The worker ends its call and turns to the next, all before the daemon reads a word."""
    world.returns()
    world.worker().turn()


def failure(heard: Heard) -> Failure:
    assert isinstance(heard.final, Failure)
    return heard.final


# sending


def test_calls_behind_the_running_one_are_sent_in_order_up_to_the_limit() -> None:
    world = World(LIMITS)
    session = world.session()
    calls = [world.call(session) for _ in range(5)]
    assert [heard.worker for heard in calls] == [1, 1, 1, None, None]
    for heard in calls:
        assert world.running().call == heard.call.id
        world.returns()
    assert [heard.code for heard in calls] == ["ok"] * 5


def test_without_ahead_a_call_waits_for_the_last() -> None:
    world = World(Limits(dispatch_ahead=0))
    session = world.session()
    calls = [world.call(session) for _ in range(2)]
    assert [heard.worker for heard in calls] == [1, None]


def test_more_is_sent_when_half_of_it_is_used_up() -> None:
    world = World(Limits(dispatch_ahead=4))
    session = world.session()
    for _ in range(10):
        world.call(session)
    counts = []
    for _ in range(5):
        counts.append(len(sent(world)))
        world.returns()
    assert counts == [4, 6, 6, 8, 8]


def test_calls_that_waited_for_the_start_are_sent_together() -> None:
    world = World(LIMITS, holds=(fx.Spawn,))
    first = world.call()
    second = world.call(first.session)
    world.spawned()
    world.ready()
    assert (first.worker, second.worker) == (1, 1)


def test_a_call_that_waited_for_the_start_says_so_however_it_was_sent() -> None:
    for ahead in (0, 2):
        world = World(Limits(dispatch_ahead=ahead), holds=(fx.Spawn,))
        first = world.call()
        second = world.call(first.session)
        world.now += 1.0
        world.spawned()
        world.ready()
        warm = world.call(first.session)
        for _ in range(3):
            world.returns()
        assert [heard.final.timing.cold for heard in (first, second, warm)] == [True, True, False]


def test_what_is_held_back_by_more_than_its_turn_waits_and_so_does_what_is_behind_it() -> None:
    large = b"x" * (policy.AHEAD_INPUT_BYTES + 1)
    for options in ({"window": 1}, {"input": large}, {"function": "nope"}):
        world = World(LIMITS)
        session = world.session()
        world.call(session)
        held = world.call(session, **{"function": "count", **options})
        behind = world.call(session)
        assert (held.worker, behind.worker) == (None, None), options
        world.returns()
        if held.open:
            world.returns()
        assert world.running().call == behind.call.id


def test_nothing_is_sent_behind_a_stream_or_a_call_that_is_being_stopped() -> None:
    world = World(LIMITS)
    session = world.session()
    stream = world.call(session, "count", window=1)
    assert world.call(session).worker is None
    world.returns()
    world.returns()
    running = world.call(session)
    world.cancel(running)
    assert world.call(session).worker is None
    assert stream.code == "ok"


def test_nothing_is_sent_ahead_in_the_pool() -> None:
    world = World(Limits(dispatch_ahead=2, max_pool_workers=1), holds=(fx.Spawn,))
    calls = [world.call(None) for _ in range(3)]
    world.spawned()
    world.ready()
    assert [heard.worker for heard in calls] == [1, None, None]
    world.returns()
    assert [heard.worker for heard in calls] == [1, 1, None]


def test_what_was_sent_counts_as_waiting() -> None:
    world = World(Limits(dispatch_ahead=2, max_queue=3))
    session = world.session()
    calls = [world.call(session) for _ in range(4)]
    assert world.call(session).code == "QUEUE_FULL"
    view = world.broker.view(session)
    assert view is not None
    assert (view.calls, view.queued) == (1, 3)
    shown = [world.broker.call_view(heard.call.id.hex()) for heard in calls]
    assert [(one.state, one.position) for one in shown if one] == [
        ("running", 0), ("queued", 0), ("queued", 1), ("queued", 2),
    ]  # fmt: skip


def test_a_session_idles_only_when_all_that_was_sent_has_ended() -> None:
    world = World(LIMITS)
    session = world.session(idle_seconds=10.0)
    for _ in range(3):
        world.call(session)
    world.wait(100.0)
    world.returns()
    world.wait(100.0)
    world.returns()
    world.returns()
    assert world.wait_for_deadline() == 10.0
    assert world.state(session) == "expired"


# withdrawing


def test_a_call_that_was_sent_and_not_begun_is_withdrawn() -> None:
    world = World(LIMITS)
    session = world.session()
    first, second, third = (world.call(session) for _ in range(3))
    world.cancel(second)
    assert world.ordered(fx.Withdraw) == [fx.Withdraw(work.WorkerId(1), Ordinal(2))]
    assert (second.code, failure(second).ran) == ("CANCELLED", "no")
    assert failure(second).message == "the call was cancelled before it ran"
    world.returns()
    assert world.running().call == third.call.id, "the worker skipped the second"
    assert not second.entered
    world.returns()
    assert (first.code, third.code) == ("ok", "ok")
    assert world.state(session) == "idle"


def test_its_end_is_told_when_it_is_certain() -> None:
    world, _, waiting = lagging()
    world.cancel(waiting)
    assert waiting.code == "", "the worker may be entering it at this moment"
    world.settles()
    assert (waiting.code, failure(waiting).ran) == ("CANCELLED", "no")


def test_a_call_that_was_begun_a_moment_before_is_stopped_as_a_running_one() -> None:
    world, running, waiting = lagging()
    faster_than_the_daemon(world)
    world.cancel(waiting)
    world.settles()
    assert (running.code, waiting.code) == ("", "")
    world.reads()
    assert running.code == "ok"
    assert world.ordered(fx.Interrupt)[-1].ordinal == Ordinal(2)
    world.obeys()
    world.reads()
    assert (waiting.code, failure(waiting).ran) == ("CANCELLED", "maybe")


def test_a_call_that_is_over_before_its_withdrawal_is_settled_was_too_fast_to_be_cancelled() -> None:
    world, _, waiting = lagging()
    faster_than_the_daemon(world)
    world.cancel(waiting)
    world.returns()
    world.reads()
    world.reads()
    assert waiting.code == "ok"
    world.settles()


def test_its_turn_may_come_before_its_withdrawal_is_settled() -> None:
    world, running, waiting = lagging()
    behind = world.call(running.call.session)
    world.returns()
    world.cancel(waiting)
    world.reads()
    assert running.code == "ok"
    world.worker().turn()
    assert world.running().call == behind.call.id
    world.settles()
    world.reads()
    assert waiting.code == "CANCELLED"
    world.returns()
    world.reads()
    assert behind.code == "ok"


def test_a_deadline_withdraws_too() -> None:
    world = World(LIMITS)
    session = world.session()
    world.call(session)
    waiting = world.call(session, timeout_seconds=5.0)
    world.wait(5.0)
    assert (waiting.code, failure(waiting).ran) == ("TIMEOUT", "no")
    assert "waited 5 s for its turn (calls before it: 1)" in failure(waiting).message


def test_a_deadline_of_a_call_that_was_begun_a_moment_before_stops_it() -> None:
    world, _, waiting = lagging()
    world.wait(49.9)
    faster_than_the_daemon(world)
    world.wait(0.1)
    world.settles()
    world.reads()
    assert world.worker().asked == Ordinal(2)
    world.wait(1.0)
    assert (waiting.code, failure(waiting).ran) == ("TIMEOUT", "maybe")


def test_what_a_client_that_is_gone_has_waiting_is_withdrawn() -> None:
    world, running, _ = lagging()
    world.leave("bob")
    world.settles()
    world.returns()
    world.worker().turn()
    world.reads()
    assert world.worker().running is None
    assert running.code == "ok"
    world.catch_up()
    assert world.state(str(running.call.session)) == "idle"


def test_what_it_has_begun_runs_to_its_end() -> None:
    world, _, waiting = lagging()
    faster_than_the_daemon(world)
    world.leave("bob")
    world.settles()
    world.reads()
    assert world.ordered(fx.RequestCancel) == []
    world.returns()
    world.reads()
    assert waiting.entered
    assert world.state(str(waiting.call.session)) == "idle"


def test_what_it_has_begun_does_not_outlive_its_deadline() -> None:
    """The deadline passed while the call was withdrawn, so no other will come."""
    world, _, _ = lagging()
    world.wait(49.9)
    faster_than_the_daemon(world)
    world.wait(0.1)
    world.leave("bob")
    world.settles()
    world.reads()
    world.wait(2.0)
    assert world.worker().kills == 1


def test_an_end_withdraws_what_was_sent() -> None:
    world = World(LIMITS)
    session = world.session()
    running, waiting = world.call(session), world.call(session)
    world.end(session, running="finish")
    assert (waiting.code, failure(waiting).ran) == ("CANCELLED", "no")
    world.returns()
    assert (running.code, world.worker().finish) == ("ok", "ended")
    world.assert_over()
