"""Templates: one import for many starts, or none where it could not be forked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.imports import LIMITS, importing, patient, states, up
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import policy
from warmd.protocol import work
from warmd.protocol.messages import AppRef

# One import for all


def test_the_first_start_imports_and_the_next_ones_fork() -> None:
    world = patient()
    template = up(world)
    for _ in range(2):
        world.call("new", "")
        world.found()
        world.spawned()
        world.ready()
    assert [one.code for one in world.history] == ["ok"] * 3
    assert len(world.ordered(fx.Prepare)) == 1 and world.ordered(fx.Spawn) == []
    assert [order.template for order in world.ordered(fx.Fork)] == [template.worker] * 3
    assert world.broker.templates()[0].forks == 3


def test_starts_that_come_while_it_imports_wait_and_are_forked_in_their_order() -> None:
    world = patient()
    importing(world)
    for _ in range(2):
        world.call("new")
        world.found()
    assert len(world.ordered(fx.Prepare)) == 1
    world.imported()
    sessions = [heard.session for heard in world.history]
    assert [order.session for order in world.ordered(fx.Fork)] == sessions


def test_without_places_for_templates_each_start_is_spawned() -> None:
    world = World(replace(LIMITS, max_templates=0))
    view = world.broker.view(world.session())
    assert view is not None and view.origin == "spawn"
    assert world.ordered(fx.Prepare) == []


@pytest.mark.parametrize("other", [{"app": AppRef("chat")}, {"env": {"A": "1"}}])
def test_another_app_or_environment_has_a_template_of_its_own(other: dict[str, object]) -> None:
    world = World(LIMITS)
    world.session()
    world.session(**other)
    assert len(world.ordered(fx.Prepare)) == 2


def test_another_setup_has_not() -> None:
    world = World(LIMITS)
    world.session()
    world.session(setup=b"other")
    assert len(world.ordered(fx.Prepare)) == 1
    assert [order.setup for order in world.ordered(fx.Fork)] == [b"", b"other"]


def test_workers_of_the_pool_are_forked_too() -> None:
    world = World(LIMITS)
    world.call(None)
    world.call(None)
    assert (len(world.ordered(fx.Prepare)), len(world.ordered(fx.Fork))) == (1, 2)


def test_who_waited_for_the_import_is_told_how_long_it_took() -> None:
    world = patient()
    importing(world)
    world.wait(2.0)
    world.imported()
    world.spawned()
    world.worker().ready = True
    world.says(work.Ready(["run"], 0.0, 0.25, False))
    world.returns()
    (heard,) = world.history
    assert heard.final.timing.cold
    assert (heard.final.timing.imports, heard.final.timing.setup) == (0.5, 0.25)


def test_a_session_that_waits_shows_where_and_its_log_is_the_imports() -> None:
    world = patient()
    template = importing(world)
    (view,) = world.broker.views()
    assert (view.state, view.worker, view.pid) == ("starting", template.worker, None)
    (shared,) = world.ordered(fx.ShareLog)
    assert (shared.session, shared.log) == (view.id, template.order.log)


# Not forkable


def test_what_cannot_be_forked_becomes_the_worker_of_the_first_and_others_are_spawned() -> None:
    world = patient()
    template = importing(world)
    world.call("new")
    world.found()
    world.imported(unforkable="importing it started a thread (x)")
    assert template.given
    (given,) = world.ordered(fx.Fork)
    (spawned,) = world.ordered(fx.Spawn)
    first, second = (heard.session for heard in world.history)
    assert (given.session, given.whole, spawned.session) == (first, True, second)
    assert {view.origin for view in world.broker.views()} == {"spawn (importing it started a thread (x))"}
    world.call("new")
    world.found()
    assert len(world.ordered(fx.Spawn)) == 2, "it is known by now"
    assert states(world) == []


def test_it_is_tried_again_after_a_while() -> None:
    world = patient()
    importing(world)
    world.imported(unforkable="a thread")
    world.wait(policy.UNFORKABLE_SECONDS + 1)
    world.call("new")
    world.found()
    assert len(world.ordered(fx.Prepare)) == 2


def test_it_is_given_away_only_when_its_pid_is_known() -> None:
    world = patient()
    world.call("new")
    world.found()
    world.imported(unforkable="a thread")
    assert world.ordered(fx.Fork) == []
    world.template_spawned()
    assert [order.whole for order in world.ordered(fx.Fork)] == [True]


def test_what_is_remembered_of_apps_that_cannot_be_forked_is_bounded() -> None:
    world = patient()
    known = world.broker._book.unforkable
    for number in range(policy.REMEMBERED_UNFORKABLE):
        known[AppRef(f"app {number}"), ()] = ("a thread", world.now + 1)
    importing(world)
    world.imported(unforkable="a thread")
    assert len(known) == policy.REMEMBERED_UNFORKABLE
    assert (AppRef("app 0"), ()) not in known
