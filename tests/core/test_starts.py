"""Starts: how they fail, how long they may take, and when nobody wants them any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.errors import Problem
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import Failure
from warmd.protocol.work import Asks

MISSING = Problem(
    "APP_NOT_FOUND", "there is no app 'conter'; did you mean 'counter'?", details={"near": "counter"}
)
LIMITS = Limits(start_timeout_seconds=60.0)


def starting(stage: str) -> World:
    """A world with one call whose session has come as far as `stage`."""
    world = World(LIMITS, holds=EVERYTHING)
    world.call(timeout_seconds=1000.0)
    if stage != "looking_up":
        world.found()
    if stage == "spawned":
        world.spawned()
    return world


def failure(heard) -> Failure:
    assert isinstance(heard.final, Failure)
    return heard.final


def test_an_app_that_is_not_found_ends_the_call_without_accepting_it() -> None:
    world = starting("looking_up")
    session = next(iter(world.lookups))
    joined = world.call(session)
    world.missing(MISSING)
    (heard, _) = world.history
    assert (heard.code, heard.accepted, failure(heard).ran) == ("APP_NOT_FOUND", None, "no")
    assert failure(heard).message == MISSING.message
    assert failure(heard).details == {"near": "counter"}
    assert joined.code == "APP_NOT_FOUND"
    assert world.call(session).code == "SESSION_DIED"
    world.assert_over()


def test_a_process_that_does_not_come_to_be_needs_no_kill() -> None:
    world = starting("ordered")
    world.spawn_fails(message="fork: out of memory")
    (heard,) = world.history
    assert (heard.code, failure(heard).ran) == ("START_FAILED", "no")
    assert "out of memory" in failure(heard).message
    assert world.ordered(fx.Kill) == []
    world.assert_over()


def test_an_import_that_raises_tells_all_who_wait_and_ends_the_process() -> None:
    world = starting("spawned")
    (first,) = world.history
    second = world.call(str(first.session), by="bob")
    world.says(work.StartFailed("imports", "ModuleNotFoundError", "No module named 'torch'", "Traceback ..."))
    for heard in (first, second):
        assert (heard.code, failure(heard).ran) == ("START_FAILED", "no")
        assert (
            "importing the app failed: ModuleNotFoundError: No module named 'torch'" in failure(heard).message
        )
        assert failure(heard).details == {"type": "ModuleNotFoundError", "traceback": "Traceback ..."}
    assert len(world.ordered(fx.Kill)) == 1
    world.exits(code=1)
    world.tree_ends()
    world.assert_over()


def test_a_prepare_that_raises_is_not_the_import() -> None:
    world = starting("spawned")
    world.says(work.StartFailed("prepare", "OSError", "no weights", "Traceback ..."))
    assert "did not start: prepare failed: OSError: no weights" in failure(world.history[0]).message


@pytest.mark.parametrize(("size", "is_advised"), [(None, True), (60, False)])
def test_who_finds_no_gpu_memory_and_has_not_said_its_size_is_told_to(
    size: int | None, is_advised: bool
) -> None:
    world = World(LIMITS, holds=set(EVERYTHING) - {fx.Look})
    world.insert_cards(card0=100)
    world.asks = Asks() if size is None else Asks(gpu=GpuAsk(bytes=size))
    world.call(timeout_seconds=1000.0)
    world.found()
    world.spawned()
    world.says(work.StartFailed("setup", "OutOfMemoryError", "CUDA out of memory", "Traceback ..."))
    assert ('say so in its app.toml, as in gpu = "20GB"' in failure(world.history[0]).message) is is_advised


def test_a_setup_that_raises_says_so() -> None:
    world = starting("spawned")
    world.says(work.StartFailed("setup", "ValueError", "no such model", "Traceback ..."))
    assert "setup failed: ValueError: no such model" in failure(world.history[0]).message


@pytest.mark.parametrize(("how", "says"), [({"signal": "SIGSEGV"}, "SIGSEGV"), ({"code": 0}, "code 0")])
def test_a_process_that_dies_during_its_start_is_a_failed_start(how, says) -> None:
    world = starting("spawned")
    world.exits(log="illegal instruction", **how)
    (heard,) = world.history
    assert (heard.code, failure(heard).ran) == ("START_FAILED", "no")
    assert says in failure(heard).message
    assert "illegal instruction" in failure(heard).message
    assert failure(heard).details["log_tail"] == "illegal instruction"
    world.tree_ends()
    world.assert_over()


def test_a_link_lost_during_the_start_waits_for_the_exit_that_explains_it() -> None:
    world = starting("spawned")
    world.loses_link()
    assert world.history[0].code == ""
    assert len(world.ordered(fx.Kill)) == 1
    world.exits(signal="SIGKILL")
    assert world.history[0].code == "START_FAILED"
    assert "closed its link" in failure(world.history[0]).message
    world.tree_ends()
    world.assert_over()


@pytest.mark.parametrize("stage", ["ordered", "spawned"])
def test_a_start_past_its_timeout_is_ended(stage: str) -> None:
    world = starting(stage)
    world.wait(59.999)
    assert world.history[0].code == ""
    world.wait(0.001)
    heard = world.history[0]
    assert (heard.code, failure(heard).ran) == ("TIMEOUT", "no")
    assert "start_timeout (60 s)" in failure(heard).message
    assert failure(heard).details == {"limit": 60.0}
    world.oblige()
    world.assert_over()


def test_a_call_may_have_less_patience_than_the_start() -> None:
    world = World(LIMITS, holds=EVERYTHING)
    heard = world.call(timeout_seconds=5.0)
    other = world.call(next(iter(world.lookups)), timeout_seconds=50.0)
    world.found()
    world.spawned()
    world.wait(5.0)
    assert (heard.code, failure(heard).ran) == ("TIMEOUT", "no")
    assert "5 s" in failure(heard).message
    assert "the start of its session" in failure(heard).message
    assert world.ordered(fx.Kill) == [], "another call still waits for this start"
    world.ready()
    assert world.running().call == other.call.id


WAYS_TO_LOSE_INTEREST: dict[str, Callable[[World], None]] = {
    "times out": lambda world: world.wait(1000.0),
    "is cancelled": lambda world: world.cancel(world.history[0]),
    "loses its client": lambda world: world.leave("ann"),
}


@pytest.mark.parametrize("stage", ["looking_up", "ordered", "spawned"])
@pytest.mark.parametrize("way", sorted(WAYS_TO_LOSE_INTEREST))
def test_a_start_that_nobody_waits_for_is_given_up(stage: str, way: str) -> None:
    world = World(Limits(start_timeout_seconds=5000.0), holds=EVERYTHING)
    world.call(timeout_seconds=1000.0)
    session = next(iter(world.lookups))
    if stage != "looking_up":
        world.found()
    if stage == "spawned":
        world.spawned()
    WAYS_TO_LOSE_INTEREST[way](world)
    assert world.call(session).code == "SESSION_ENDED"
    assert len(world.ordered(fx.Kill)) == (stage == "spawned")
    world.oblige()
    world.assert_over()


def test_a_process_that_is_no_longer_wanted_is_killed_as_soon_as_it_exists() -> None:
    world = starting("ordered")
    world.cancel(world.history[0])
    assert world.ordered(fx.Kill) == [], "there is no process yet"
    world.spawned()
    assert len(world.ordered(fx.Kill)) == 1


def test_a_process_that_is_no_longer_wanted_may_fail_to_start() -> None:
    world = starting("ordered")
    world.cancel(world.history[0])
    world.spawn_fails()
    world.assert_over()


def test_an_app_that_is_found_too_late_is_not_started() -> None:
    world = starting("looking_up")
    session = next(iter(world.lookups))
    world.cancel(world.history[0])
    world.found(session)
    assert world.ordered(fx.Spawn) == []
    world.assert_over()


def test_a_worker_that_is_ready_too_late_gets_no_call() -> None:
    world = starting("spawned")
    world.cancel(world.history[0])
    world.ready()
    assert world.ordered(fx.Tell) == []
    world.exits(signal="SIGKILL")
    world.tree_ends()
    world.assert_over()


def test_a_worker_that_says_twice_that_it_is_ready_gets_no_second_call() -> None:
    world = World()
    session = world.session()
    running, waiting = world.call(session), world.call(session)
    world.ready()
    assert world.running().call == running.call.id
    assert waiting.worker is None


def test_a_worker_may_be_ready_before_its_start_is_reported() -> None:
    world = starting("ordered")
    world.ready()
    assert world.running().call == world.history[0].call.id
    world.spawned()
    world.returns()
    view = world.broker.view(str(world.history[0].session))
    assert view is not None
    assert view.pid == 101


def test_a_start_that_succeeds_leaves_no_timer_of_the_start() -> None:
    world = World(LIMITS, holds=EVERYTHING)
    world.call("new", "", idle_seconds=3000.0)
    world.found()
    world.spawned()
    world.ready()
    assert world.wait_for_deadline() == 3000.0


def test_what_a_look_up_found_is_used_once():
    world = World(holds=EVERYTHING)
    world.call("new")
    session = next(iter(world.lookups))
    world.found()
    spec = world.worker().spawn.spec
    assert world.tell(ev.AppFound(session, spec)) == []
    assert world.tell(ev.AppMissing(session, Problem("APP_NOT_FOUND", "there is none"))) == []
