"""How long a template stays, and what a fault of the rules about it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.imports import LIMITS, importing, patient, states, up
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.protocol.messages import AppRef

# How long it stays


def test_it_ends_when_it_was_not_forked_for_so_long() -> None:
    world = patient()
    template = up(world)
    world.wait(40.0)
    world.call("new")
    world.found()
    world.spawned()
    world.wait(59.0)
    assert template.kills == 0
    world.wait(1.0)
    assert template.kills == 1
    world.oblige()
    world.end()
    world.assert_over()


def test_or_never() -> None:
    world = World(replace(LIMITS, template_seconds=float("inf")))
    world.session()
    world.wait(1e9)
    assert states(world) == ["up"]


def test_one_that_is_to_end_finishes_the_forks_under_way() -> None:
    world = patient()
    template = up(world)
    heard = world.call("new", "")
    world.found()
    world.drain()
    assert template.kills == 0
    world.spawned()
    assert template.kills == 1
    world.oblige()
    assert heard.final is not None
    world.assert_over()
    assert world.stopped


def test_a_daemon_that_stops_waits_for_its_templates() -> None:
    world = World(LIMITS)
    world.session()
    world.holds = frozenset({fx.Kill})
    world.end()
    world.drain()
    world.oblige()
    assert world.stopped


def test_the_least_recently_used_makes_place() -> None:
    world = World(LIMITS)
    world.session(app=AppRef("one"))
    world.wait(1.0)
    world.session(app=AppRef("two"))
    world.wait(1.0)
    world.session(app=AppRef("one"))
    world.session(app=AppRef("three"))
    assert {template.app for template in world.broker.templates()} == {"one", "three"}


def test_one_that_imports_or_forks_makes_no_place() -> None:
    world = patient(replace(LIMITS, max_templates=1))
    importing(world)
    world.call("new", app=AppRef("other"))
    world.found()
    (order,) = world.ordered(fx.Spawn)
    view = world.broker.view(order.session)
    assert view is not None and "max_templates" in view.origin


def test_all_together_have_no_more_memory_than_they_may() -> None:
    world = patient(replace(LIMITS, max_templates=5))
    for name in ("one", "two", "three"):
        importing(world, app=AppRef(name))
        world.wait(1.0)
        world.imported(memory=1000)
        world.spawned()
    assert [(t.app, t.state) for t in world.broker.templates()] == [
        ("one", "ending"), ("two", "up"), ("three", "up")
    ]  # fmt: skip


def test_one_that_alone_is_too_large_serves_those_who_wait_and_ends() -> None:
    world = patient()
    importing(world)
    world.imported(memory=9999)
    assert len(world.ordered(fx.Fork)) == 1
    world.spawned()
    assert world.template().kills == 1


def test_it_holds_no_place_of_a_session() -> None:
    world = World(replace(LIMITS, max_sessions=2))
    world.session()
    world.session()
    assert world.call("new").code == "NO_ROOM"
    assert world.broker.totals().sessions == 2


# When a rule fails


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize(
    "step", ["template_spawned", "imported", "import_fails", "template_exits", "template_loses_link"]
)
def test_a_fault_about_a_template_costs_the_starts_that_wait_for_it(step: str, when: str) -> None:
    world = patient()
    bystander = world.call("new", app=AppRef("other"))
    world.found()
    heard = world.call("new")
    world.found()
    if step != "template_spawned":
        world.template_spawned()
    world.sabotage = when  # type: ignore[assignment]
    getattr(world, step)()
    if when == "early":
        assert heard.code == "INTERNAL"
    world.oblige()
    world.wait(100)
    assert heard.final is not None and bystander.open
    world.returns(worker=int(bystander.worker or 0))
    assert bystander.code == "ok"
    world.end()
    world.wait(100)
    world.assert_over()


@pytest.mark.parametrize("step", ["spawn_fails", "tree_ends", "overdue", "unused"])
def test_also_at_its_end_and_in_its_timers(step: str) -> None:
    world = patient()
    if step == "spawn_fails":
        heard = world.call("new")
        world.found()
        world.sabotage = "early"
        world.template_spawn_fails()
        assert heard.code == "INTERNAL"
    elif step == "tree_ends":
        importing(world)
        world.template_exits()
        world.sabotage = "early"
        world.template_tree_ends()
    elif step == "overdue":
        importing(world)
        world.wait(LIMITS.start_timeout_seconds - 1)
        world.sabotage = "early"
        world.wait(1.0)
    else:
        up(world)
        world.sabotage = "early"
        world.wait(60.0)
        assert world.template().kills == 1
    world.oblige()
    world.wait(100)
    world.end()
    world.assert_over()
