"""The shared pool: calls without a session, and the workers that come and go for them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.fakes import Heard
from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.errors import Problem
from warmd.protocol.messages import Accepted, AppRef, Failure, Origin, Result

LIMITS = Limits(max_pool_workers=2, session_timeout_seconds=60.0)


def busy_worker(world: World) -> int:
    """The number of a worker that runs something."""
    return next(number for number, fake in world.workers.items() if fake.running)


def ready_all(world: World) -> None:
    for session in list(world.lookups):
        world.found(session)
    for number, fake in world.workers.items():
        if not fake.ready:
            world.spawned(number)
            world.ready(number)


def test_a_call_without_a_session_opens_a_worker_and_shows_no_session() -> None:
    world = World()
    heard = world.call(None, input=b"in")
    world.returns(b"out")
    assert heard.accepted == Accepted(heard.call.id, None)
    assert isinstance(heard.final, Result)
    assert (heard.final.session, heard.final.value) == (None, b"out")


def test_the_next_call_takes_the_warm_worker() -> None:
    world = World()
    for _ in range(3):
        heard = world.call(None)
        world.returns()
        assert heard.code == "ok"
    assert len(world.workers) == 1


def test_accepted_waits_for_the_app_to_be_found_the_first_time_only() -> None:
    world = World(holds=EVERYTHING)
    first, second = world.call(None), world.call(None)
    assert (first.accepted, second.accepted) == (None, None)
    ready_all(world)
    assert first.accepted
    assert second.accepted
    assert world.call(None).accepted


@pytest.mark.parametrize(
    "difference",
    [
        {"app": AppRef("chat")},
        {"app": AppRef("counter", Origin("/python", "/home", "/home"))},
        {"setup": b"\x01"},
        {"env": {"A": "1"}},
    ],
    ids=["app", "origin", "setup", "env"],
)
def test_calls_that_differ_share_no_worker(difference: dict[str, Any]) -> None:
    world = World()
    world.call(None)
    world.returns()
    heard = world.call(None, **difference)
    assert heard.worker == 2
    again = world.call(None)
    assert again.worker == 1


def test_a_worker_is_started_as_its_calls_ask() -> None:
    world = World()
    world.call(None, setup=b"\x01", env={"A": "1"}, pickled=b"class")
    (spawn,) = world.ordered(fx.Spawn)
    assert (spawn.setup, spawn.env, spawn.pickled) == (b"\x01", {"A": "1"}, b"class")


def test_calls_at_once_get_workers_of_their_own_up_to_the_limit() -> None:
    world = World(LIMITS)
    calls = [world.call(None) for _ in range(4)]
    assert [heard.worker for heard in calls] == [1, 2, None, None]
    world.returns(worker=2)
    assert calls[2].worker == 2
    world.returns(worker=1)
    assert calls[3].worker == 1


def test_a_call_that_waits_for_a_start_takes_a_worker_that_is_free_sooner() -> None:
    world = World(LIMITS)
    world.call(None)
    world.holds = frozenset(EVERYTHING)
    second = world.call(None)
    assert len(world.lookups) == 1
    world.returns(worker=1)
    assert second.worker == 1


def test_one_call_starts_one_worker() -> None:
    world = World(LIMITS, holds=EVERYTHING)
    world.call(None)
    assert len(world.lookups) == 1
    world.call(None)
    assert len(world.lookups) == 2
    world.call(None)
    assert len(world.lookups) == 2


def test_the_most_recently_used_worker_is_taken_so_that_the_others_expire() -> None:
    world = World(LIMITS)
    world.call(None)
    world.call(None)
    world.returns(worker=1)
    world.now += 1.0
    world.returns(worker=2)
    for _ in range(8):
        world.wait(10.0)
        heard = world.call(None)
        world.returns(worker=busy_worker(world))
        last = heard.worker
        assert last == world.history[2].worker, "always the same one"
    assert sum(not fake.forgotten for fake in world.workers.values()) == 1


def test_an_idle_pool_shrinks_to_nothing_and_starts_again() -> None:
    world = World(LIMITS)
    world.call(None)
    world.returns()
    assert world.wait_for_deadline() == 60.0
    assert world.ordered(fx.Tell)[-1].message == work.Finish("expired")
    world.assert_over()
    heard = world.call(None)
    world.returns()
    assert (heard.code, heard.worker) == ("ok", 2)


def test_workers_of_the_pool_take_places() -> None:
    world = World(Limits(max_sessions=1))
    world.call(None)
    assert world.call().code == "NO_ROOM"


def test_a_pool_without_a_place_refuses() -> None:
    world = World(Limits(max_sessions=1))
    session = world.session()
    heard = world.call(None)
    assert (heard.code, heard.accepted) == ("NO_ROOM", None)
    world.end(session)
    assert world.call(None, "").code == "ok"


def test_a_pool_that_cannot_grow_waits_for_the_workers_it_has() -> None:
    world = World(Limits(max_sessions=1, max_pool_workers=4))
    first, second = world.call(None), world.call(None)
    world.returns()
    assert (first.code, second.worker) == ("ok", 1)


def test_a_pools_queue_is_bounded() -> None:
    world = World(Limits(max_queue=2, max_pool_workers=1))
    for _ in range(3):
        world.call(None)
    failure = world.call(None).final
    assert isinstance(failure, Failure)
    assert failure.code == "QUEUE_FULL"
    assert "app 'counter'" in failure.message


def test_a_death_costs_the_running_call_only() -> None:
    world = World(Limits(max_pool_workers=1))
    running, waiting = world.call(None), world.call(None)
    world.exits(signal="SIGSEGV")
    assert (running.code, running.final.session) == ("WORKER_DIED", None)
    assert waiting.worker == 2, "the next worker of the pool takes it"


def test_a_dying_worker_is_replaced_before_its_tree_is_gone() -> None:
    world = World(Limits(max_pool_workers=1), holds=(fx.Kill,))
    world.call(None)
    waiting = world.call(None)
    world.exits(signal="SIGSEGV")
    assert waiting.worker == 2
    assert not world.worker(1).forgotten


def test_a_call_that_cannot_be_interrupted_costs_its_worker_only() -> None:
    world = World(Limits(max_pool_workers=1))
    running, waiting = world.call(None, timeout_seconds=5.0), world.call(None, timeout_seconds=50.0)
    world.wait(7.0)
    assert running.code == "TIMEOUT"
    assert waiting.worker == 2


def test_an_app_that_is_not_found_fails_all_who_wait() -> None:
    world = World(LIMITS, holds=EVERYTHING)
    calls = [world.call(None) for _ in range(3)]
    world.missing(Problem("APP_NOT_FOUND", "there is no app 'counter'"))
    assert [heard.code for heard in calls] == ["APP_NOT_FOUND"] * 3
    world.oblige()
    world.wait(100.0)
    world.assert_over()


def test_a_failed_start_fails_all_who_wait_when_no_other_worker_is_up() -> None:
    world = World(Limits(max_pool_workers=1), holds=EVERYTHING)
    calls = [world.call(None) for _ in range(2)]
    world.found()
    world.spawned()
    world.says(work.StartFailed("setup", "ValueError", "no model", "Traceback"))
    assert [heard.code for heard in calls] == ["START_FAILED"] * 2
    world.exits(code=1)
    world.tree_ends()
    world.assert_over()


def with_a_failing_second_worker() -> tuple[World, Heard]:
    """One worker is up and busy; a call waits, and the worker started for it does not come up."""
    world = World(Limits(max_pool_workers=2))
    world.call(None, timeout_seconds=1000.0)
    world.holds = frozenset({fx.Spawn})
    waiting = world.call(None, timeout_seconds=1000.0)
    return world, waiting


def test_a_failed_start_beside_a_worker_that_is_up_fails_nobody() -> None:
    world, waiting = with_a_failing_second_worker()
    world.spawned()
    world.says(work.StartFailed("setup", "ValueError", "the port is taken", "Traceback"))
    assert waiting.code == ""
    world.returns(worker=1)
    assert waiting.worker == 1


def test_a_start_that_failed_beside_a_worker_that_is_up_is_not_repeated_for_the_same_calls() -> None:
    """Else a busy pool whose app can run only once would start processes as fast as they fail."""
    world, waiting = with_a_failing_second_worker()
    behind = world.call(None, timeout_seconds=1000.0)
    world.spawned()
    world.says(work.StartFailed("setup", "ValueError", "the port is taken", "Traceback"))
    world.call(None, timeout_seconds=1000.0)
    assert len(world.ordered(fx.Spawn)) == 2
    for _ in range(4):
        world.returns(worker=1)
    assert (waiting.code, behind.code) == ("ok", "ok")


def test_a_pool_tries_to_grow_again_when_it_has_caught_up() -> None:
    world, _ = with_a_failing_second_worker()
    world.spawned()
    world.says(work.StartFailed("setup", "ValueError", "no memory", "Traceback"))
    world.returns(worker=1)
    world.call(None)
    assert len(world.ordered(fx.Spawn)) == 3


def test_a_start_for_a_call_that_is_gone_is_given_up() -> None:
    world = World(LIMITS, holds=EVERYTHING)
    heard = world.call(None)
    world.found()
    world.spawned()
    world.cancel(heard)
    assert heard.code == "CANCELLED"
    assert len(world.ordered(fx.Kill)) == 1


def test_a_call_whose_client_is_gone_is_dropped_from_the_pools_queue() -> None:
    world = World(Limits(max_pool_workers=1))
    world.call(None)
    world.call(None, by="bob")
    last = world.call(None)
    world.leave("bob")
    world.returns()
    assert last.worker == 1


def test_a_call_that_waits_in_vain_says_for_what() -> None:
    world = World(Limits(max_pool_workers=1))
    world.call(None)
    world.call(None)
    heard = world.call(None, timeout_seconds=5.0)
    world.wait(5.0)
    assert (heard.code, heard.final.ran) == ("TIMEOUT", "no")
    assert "waited 5 s for a worker of the shared pool (waiting before it: 1)" in heard.final.message


def test_a_view_tells_the_workers_of_the_pool_apart() -> None:
    world = World()
    world.call(None)
    (view,) = world.broker.views()
    assert (view.kind, view.name, view.queued, view.app) == ("pool", None, 0, "counter")
    assert view.id.startswith("pool_")
    shown = world.broker.call_view(world.history[0].call.id.hex())
    assert shown is not None
    assert (shown.state, shown.session) == ("running", None)


def test_ids_of_pool_workers_differ_where_they_are_shortened() -> None:
    world = World(LIMITS)
    world.call(None)
    world.call(None)
    ids = [view.id for view in world.broker.views()]
    assert len({id[:13] for id in ids}) == 2
    assert {len(id) for id in ids} == {37}


def test_a_pool_worker_that_is_gone_is_not_remembered() -> None:
    world = World()
    world.call(None, "")
    world.wait(60.0)
    assert world.broker.views(include_dead=True) == []
