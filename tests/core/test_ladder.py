"""How a running call is stopped, step by step and to the tenth of a second."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.fakes import Heard
from tests.core.world import STACK, World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.ladder import place_of
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.messages import Failure
from warmd.protocol.work import Ordinal

LADDER = (fx.CaptureStack, fx.RequestCancel, fx.Interrupt, fx.Kill)


def running(world: World, **options: Any) -> Heard:
    heard = world.call(world.session(), **options)
    assert world.worker().running
    return heard


def steps(world: World, since: float) -> list[tuple[float, str]]:
    """The orders of the ladder: seconds since, and what."""
    return [(round(at - since, 3), type(e).__name__) for at, e in world.effects if isinstance(e, LADDER)]


def interrupts(begin: float) -> list[tuple[float, str]]:
    return [(round(begin + tenth / 10, 3), "Interrupt") for tenth in range(10)]


def failure(heard: Heard) -> Failure:
    assert isinstance(heard.final, Failure)
    return heard.final


def test_a_cancelled_call_without_on_cancel_is_interrupted_at_once() -> None:
    world = World()
    heard = running(world)
    world.cancel(heard)
    assert steps(world, world.now) == [(0.0, "CaptureStack"), (0.0, "RequestCancel"), (0.0, "Interrupt")]
    (asked,) = world.ordered(fx.RequestCancel)
    assert asked.signal is False
    world.obeys()
    assert (heard.code, failure(heard).ran) == ("CANCELLED", "maybe")
    assert failure(heard).details == {"stack": STACK}
    assert STACK in failure(heard).message


def test_the_session_lives_on_when_the_interrupt_took() -> None:
    world = World()
    heard = running(world)
    behind = world.call(heard.call.session)
    world.cancel(heard)
    world.obeys()
    assert world.running().call == behind.call.id
    world.returns()
    assert behind.code == "ok"
    assert world.ordered(fx.Kill) == []


def test_who_cannot_be_interrupted_is_killed_after_a_second_and_the_session_has_died() -> None:
    world = World()
    heard = running(world)
    behind = world.call(heard.call.session)
    begin = world.now
    world.cancel(heard)
    world.wait(1.0)
    assert steps(world, begin) == [
        (0.0, "CaptureStack"), (0.0, "RequestCancel"), *interrupts(0.0), (1.0, "Kill"),
    ]  # fmt: skip
    assert heard.code == "CANCELLED"
    assert "could not be interrupted" in failure(heard).message
    assert heard.call.session in failure(heard).message, "it says that the session is gone"
    assert behind.code == "SESSION_DIED"
    assert world.call(heard.call.session).code == "SESSION_DIED"
    world.assert_over()


def test_a_call_that_returns_while_it_is_cancelled_is_cancelled() -> None:
    world = World(holds=(fx.CaptureStack,))
    for end in ("returns", "raises", "obeys"):
        heard = running(world)
        world.cancel(heard)
        getattr(world, end)()
        assert heard.code == "CANCELLED"
        assert world.state(str(heard.call.session)) == "idle"


def test_the_stack_is_taken_first_and_waited_for_150_ms() -> None:
    world = World(holds=(fx.CaptureStack,))
    heard = running(world)
    begin = world.now
    world.cancel(heard)
    world.wait(0.149)
    assert steps(world, begin) == [(0.0, "CaptureStack")]
    world.wait(0.001)
    assert steps(world, begin)[1:] == [(0.15, "RequestCancel"), (0.15, "Interrupt")]
    world.stack("late.py:1 in run")
    world.obeys()
    assert failure(heard).details == {"stack": "late.py:1 in run"}, "late, and still better than nothing"


def test_a_late_stack_of_the_last_call_is_not_taken_for_that_of_this_one() -> None:
    world = World(holds=(fx.CaptureStack,))
    first = running(world)
    second = world.call(first.call.session)
    world.cancel(first)
    world.returns()
    world.cancel(second)
    before = len(world.effects)
    world.stack("first.py:1 in run")
    assert len(world.effects) == before, "the second call's own is still awaited"
    world.stack("second.py:2 in run")
    world.obeys()
    assert failure(second).details == {"stack": "second.py:2 in run"}


def test_the_ladder_goes_on_when_the_stack_is_there() -> None:
    world = World(holds=(fx.CaptureStack,))
    heard = running(world)
    begin = world.now
    world.cancel(heard)
    world.wait(0.013)
    world.stack()
    assert steps(world, begin)[1:] == [(0.013, "RequestCancel"), (0.013, "Interrupt")]


def test_without_a_stack_the_error_has_none() -> None:
    world = World(holds=(fx.CaptureStack,))
    heard = running(world)
    world.cancel(heard)
    world.stack("")
    world.obeys()
    assert failure(heard).details == {}
    assert failure(heard).message == "the call was cancelled by its caller"


def test_an_app_with_on_cancel_has_its_grace_before_the_interrupt() -> None:
    world = World(Limits(cancel_grace_seconds=10.0), on_cancel=True)
    heard = running(world)
    begin = world.now
    world.cancel(heard)
    (asked,) = world.ordered(fx.RequestCancel)
    assert asked.signal is True
    world.wait(11.0)
    assert steps(world, begin) == [
        (0.0, "CaptureStack"), (0.0, "RequestCancel"), *interrupts(10.0), (11.0, "Kill"),
    ]  # fmt: skip
    assert heard.code == "CANCELLED"


def test_an_app_with_on_cancel_may_end_by_itself() -> None:
    world = World(on_cancel=True)
    heard = running(world)
    world.cancel(heard)
    world.wait(5.0)
    world.returns()
    assert heard.code == "CANCELLED"
    assert world.ordered(fx.Interrupt) == []
    assert world.state(str(heard.call.session)) == "idle"


def test_a_deadline_names_the_function_the_limit_and_where_it_hung() -> None:
    world = World()
    heard = running(world, timeout_seconds=5.0)
    world.wait(5.0)
    world.obeys()
    assert (heard.code, failure(heard).ran) == ("TIMEOUT", "maybe")
    assert failure(heard).message == f"'run' ran past its deadline (timeout 5 s); it was at {STACK}"
    assert failure(heard).details == {"stack": STACK}
    assert world.state(str(heard.call.session)) == "idle"


def test_the_ladder_at_a_deadline_takes_a_second_and_a_half_at_most() -> None:
    """The longest way: a stack that does not come, an app with `on_cancel`, no interrupt that takes."""
    world = World(holds=(fx.CaptureStack,), on_cancel=True)
    heard = running(world, timeout_seconds=5.0)
    begin = world.now
    world.wait(6.5)
    assert steps(world, begin) == [
        (5.0, "CaptureStack"), (5.15, "RequestCancel"), *interrupts(5.45), (6.45, "Kill"),
    ]  # fmt: skip
    assert heard.code == "TIMEOUT"
    assert heard.answered_at <= begin + 6.5


def test_a_call_without_a_timeout_has_the_daemons() -> None:
    world = World(Limits(call_timeout_seconds=20.0))
    heard = running(world)
    world.wait(20.0)
    world.obeys()
    assert heard.code == "TIMEOUT"
    assert "timeout 20 s" in failure(heard).message


def test_a_deadline_during_a_cancels_grace_hurries_it() -> None:
    world = World(Limits(cancel_grace_seconds=10.0), on_cancel=True)
    heard = running(world, timeout_seconds=5.0)
    begin = world.now
    world.wait(1.0)
    world.cancel(heard)
    world.wait(5.5)
    assert steps(world, begin) == [
        (1.0, "CaptureStack"), (1.0, "RequestCancel"), *interrupts(5.3), (6.3, "Kill"),
    ]  # fmt: skip
    assert heard.code == "CANCELLED", "that came first"


def test_a_deadline_does_not_slow_a_cancel_that_is_nearly_over() -> None:
    world = World(Limits(cancel_grace_seconds=1.0), on_cancel=True)
    heard = running(world, timeout_seconds=5.0)
    begin = world.now
    world.wait(4.1)
    world.cancel(heard)
    world.wait(1.0)
    assert steps(world, begin)[2:] == [(5.1, "Interrupt")]


def test_a_second_cancel_changes_nothing() -> None:
    world = World()
    heard = running(world)
    world.cancel(heard)
    before = len(world.effects)
    world.cancel(heard)
    assert len(world.effects) == before


def test_a_waiting_call_is_withdrawn_at_once() -> None:
    world = World()
    session = world.session()
    first, second, third = (world.call(session) for _ in range(3))
    world.cancel(second)
    assert (second.code, failure(second).ran) == ("CANCELLED", "no")
    world.returns()
    assert world.running().call == third.call.id
    assert first.code == "ok"


def test_a_waiting_call_is_withdrawn_at_its_deadline() -> None:
    world = World()
    session = world.session()
    world.call(session)
    world.call(session)
    waiting = world.call(session, timeout_seconds=5.0)
    world.wait(5.0)
    assert (waiting.code, failure(waiting).ran) == ("TIMEOUT", "no")
    assert "waited 5 s for its turn (calls before it: 2)" in failure(waiting).message


def test_a_death_on_the_ladder_ends_the_call_once() -> None:
    world = World()
    heard = running(world)
    world.cancel(heard)
    world.exits(signal="SIGSEGV")
    assert heard.code in ("CANCELLED", "WORKER_DIED")
    assert failure(heard).ran == "maybe"
    world.assert_over()


def test_an_interrupt_is_never_ordered_for_the_next_call() -> None:
    world = World()
    heard = running(world)
    world.cancel(heard)
    world.wait(0.3)
    world.obeys()
    after = world.call(heard.call.session)
    before = len(world.ordered(fx.Interrupt))
    world.wait(5.0)
    assert len(world.ordered(fx.Interrupt)) == before
    assert {effect.ordinal for effect in world.ordered(fx.Interrupt)} == {Ordinal(1)}
    assert after.code == ""


@pytest.mark.parametrize("call", ["unknown", "answered"])
def test_a_cancel_of_nothing_does_nothing(call: str) -> None:
    world = World()
    heard = running(world)
    world.returns()
    before = len(world.effects)
    if call == "answered":
        world.cancel(heard)
    else:
        world.cancel(Heard(heard.client, heard.call, 0.0, 0.0, 0))
    assert len(world.effects) == before
    assert world.state(str(heard.call.session)) == "idle"


def test_word_that_is_read_after_the_kill_is_dropped() -> None:
    world = World(holds=(fx.Kill,))
    heard = running(world)
    ordinal = world.running().ordinal
    world.cancel(heard)
    world.wait(1.0)
    assert heard.code == "CANCELLED"
    assert world.says(work.Returned(ordinal, 1.0, 0, b"late")) == []
    world.exits(signal="SIGKILL")
    world.tree_ends()
    world.assert_over()


def test_the_place_is_the_apps_own_line_and_what_it_waits_in():
    assert place_of("/usr/lib/python3/selectors.py:5 in select\n/home/app.py:7 in run") == (
        "/home/app.py:7 in run (in /usr/lib/python3/selectors.py:5 in select)"
    )
    assert place_of("/home/app.py:7 in run") == "/home/app.py:7 in run"
    assert place_of("") == ""
