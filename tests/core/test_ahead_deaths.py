"""Calls that were sent before their turn, and a worker that dies or is killed before they have ended."""

from __future__ import annotations

from tests.core.test_ahead import LIMITS, failure, faster_than_the_daemon, lagging
from tests.core.world import World
from warmd.daemon.core.policy import Limits


def test_a_death_tells_what_had_begun_from_what_had_not() -> None:
    world = World(LIMITS)
    session = world.session()
    running, waiting = world.call(session), world.call(session)
    world.exits(signal="SIGSEGV")
    assert (running.code, failure(running).ran) == ("WORKER_DIED", "maybe")
    assert (waiting.code, failure(waiting).ran) == ("SESSION_DIED", "no")
    world.assert_over()


def test_a_call_whose_turn_had_come_but_that_was_not_begun_has_not_run() -> None:
    """The worker died after it had answered the last call, and before it turned to this one."""
    world, running, waiting = lagging()
    world.returns()
    world.reads()
    world.exits(code=1)
    assert running.code == "ok"
    assert (waiting.code, failure(waiting).ran) == ("SESSION_DIED", "no")


def test_a_call_that_was_begun_in_the_moment_before_a_kill_may_have_run() -> None:
    """The call before it could not be interrupted, and returned just before the signal came."""
    world, running, waiting = lagging()
    world.cancel(running)
    world.wait(0.95)
    faster_than_the_daemon(world)
    world.wait(0.05)
    assert (running.code, world.worker().kills) == ("CANCELLED", 1)
    world.exits(signal="SIGKILL")
    assert (waiting.code, failure(waiting).ran) == ("WORKER_DIED", "maybe")
    world.tree_ends()
    world.assert_over()


def test_a_call_that_was_begun_before_a_kill_is_answered_though_the_process_cannot_be_killed() -> None:
    world, running, waiting = lagging()
    world.cancel(running)
    world.wait(0.95)
    faster_than_the_daemon(world)
    world.wait(0.05)
    assert (running.code, world.worker().kills, waiting.code) == ("CANCELLED", 1, "")
    world.cancel(waiting)
    world.settles()
    assert (waiting.code, failure(waiting).ran) == ("CANCELLED", "maybe")
    world.exits(signal="SIGKILL")
    world.tree_ends()
    world.assert_over()


def test_so_is_one_whose_withdrawal_is_settled_before_the_kill() -> None:
    world, running, waiting = lagging()
    world.cancel(running)
    world.wait(0.9)
    faster_than_the_daemon(world)
    world.cancel(waiting)
    world.settles()
    assert waiting.code == "", "its own stop begins when the call before it has ended"
    world.wait(0.1)
    assert world.worker().kills == 1
    assert (waiting.code, failure(waiting).ran) == ("CANCELLED", "maybe")


def test_a_call_that_was_begun_as_its_session_expired_may_have_run() -> None:
    world, running, waiting = lagging(limits=Limits(dispatch_ahead=2, max_lifetime_seconds=5.0))
    faster_than_the_daemon(world)
    world.wait(4.5)
    world.cancel(running)
    world.wait(0.5)
    world.settles()
    world.wait(0.5)
    assert world.worker().kills == 1
    assert (waiting.code, failure(waiting).ran) == ("WORKER_DIED", "maybe")


def test_a_kill_that_comes_first_leaves_what_was_sent_untouched() -> None:
    world, running, waiting = lagging()
    world.cancel(running)
    world.wait(1.0)
    assert waiting.code == "", "the worker may still turn to it"
    world.exits(signal="SIGKILL")
    assert (waiting.code, failure(waiting).ran) == ("SESSION_DIED", "no")
    assert "could not be interrupted" in failure(waiting).message


def test_a_withdrawal_that_is_not_settled_when_the_worker_dies_is_settled_by_that() -> None:
    world, _, waiting = lagging()
    world.cancel(waiting)
    world.exits(signal="SIGKILL")
    assert (waiting.code, failure(waiting).ran) == ("CANCELLED", "no")
    world.settles()
    world.tree_ends()
    world.assert_over()


def test_that_may_be_that_it_came_too_late() -> None:
    world, _, waiting = lagging()
    faster_than_the_daemon(world)
    world.cancel(waiting)
    world.worker().unread.clear()
    world.exits(signal="SIGKILL")
    assert (waiting.code, failure(waiting).ran) == ("CANCELLED", "maybe")


def test_a_worker_that_skips_a_withdrawn_call_has_not_run_it() -> None:
    world, _, waiting = lagging()
    world.cancel(waiting)
    world.returns()
    world.worker().turn()
    world.reads()
    world.reads()
    assert (waiting.code, failure(waiting).ran) == ("CANCELLED", "no")
    world.settles()
