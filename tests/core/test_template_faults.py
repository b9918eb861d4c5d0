"""Imports and forks that fail: who is told, and what is left."""

from __future__ import annotations

from tests.core.imports import LIMITS, failures, importing, patient, states, up
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core import policy
from warmd.protocol import work
from warmd.protocol.work import AppSpec

# Failures


def with_two_waiting() -> World:
    world = patient()
    importing(world)
    world.call("new")
    world.found()
    return world


def test_an_import_that_raises_fails_all_who_wait() -> None:
    world = with_two_waiting()
    world.import_fails()
    assert failures(world) == [("START_FAILED", "no")] * 2
    assert "no such module" in world.history[1].final.message
    world.oblige()
    world.assert_over()


def test_so_does_its_death_with_its_last_words() -> None:
    world = with_two_waiting()
    world.template_exits(signal="SIGSEGV")
    assert failures(world) == [("START_FAILED", "no")] * 2
    assert "SIGSEGV" in world.history[0].final.message and "last words" in world.history[0].final.message
    world.oblige()
    world.assert_over()


def test_so_does_a_process_that_does_not_come_to_be() -> None:
    world = patient()
    world.call("new")
    world.found()
    world.template_spawn_fails()
    assert failures(world) == [("START_FAILED", "no")]
    world.assert_over()


def test_so_does_a_link_that_is_lost() -> None:
    world = with_two_waiting()
    world.template_loses_link()
    assert failures(world) == [("START_FAILED", "no")] * 2
    world.template_loses_link()
    world.oblige()
    world.assert_over()


def test_an_import_takes_no_longer_than_a_start_may() -> None:
    world = with_two_waiting()
    world.wait(LIMITS.start_timeout_seconds)
    assert failures(world) == [("TIMEOUT", "no")] * 2
    world.oblige()
    world.assert_over()


def test_an_import_that_nobody_waits_for_any_more_is_ended() -> None:
    world = with_two_waiting()
    world.cancel(world.history[0])
    assert world.template().kills == 0
    world.cancel(world.history[1])
    assert world.template().kills == 1
    world.imported()
    world.oblige()
    world.assert_over()


def test_a_word_that_is_no_templates_ends_it() -> None:
    world = patient()
    template = importing(world)
    template.linked = False
    world.tell(ev.WorkerSaid(template.worker, work.Returned(work.Ordinal(1), 0.1)))
    assert failures(world) == [("START_FAILED", "no")]
    assert "nonsense" in world.history[0].final.message
    world.oblige()
    world.assert_over()


def test_a_failure_of_too_many_words_is_nonsense_too() -> None:
    world = patient()
    template = importing(world)
    template.linked = False
    said = work.StartFailed("imports", "E", "x" * 70_000, "")
    world.tell(ev.WorkerSaid(template.worker, said))
    assert "nonsense" in world.history[0].final.message
    world.oblige()


def test_a_second_word_about_the_import_means_nothing() -> None:
    world = patient()
    template = up(world)
    assert world.tell(ev.WorkerSaid(template.worker, work.Prepared(1.0, 1, "a thread"))) == []
    assert states(world) == ["up"]


def test_word_of_a_template_about_other_things_means_nothing() -> None:
    world = patient()
    template = up(world)
    assert world.tell(ev.StackCaptured(template.worker, work.Ordinal(1), "somewhere")) == []


# Forks that fail


def test_a_fork_that_fails_is_a_failed_start_and_the_template_stays() -> None:
    world = patient()
    up(world)
    heard = world.call("new")
    world.found()
    world.spawn_fails(message="no more processes")
    assert (heard.code, heard.final.ran) == ("START_FAILED", "no")
    assert "no more processes" in heard.final.message
    assert states(world) == ["up"]


def test_a_template_whose_app_has_changed_is_replaced_and_the_start_goes_on() -> None:
    world = patient()
    template = up(world)
    heard = world.call("new", "")
    world.found()
    world.finds_changes()
    assert template.kills == 1
    assert [order.worker for order in world.ordered(fx.Prepare)] != [template.worker]
    world.template_spawned()
    world.imported()
    world.spawned()
    world.ready()
    assert heard.code == "ok"


def test_of_a_start_that_is_not_wanted_any_more_nothing_begins_anew() -> None:
    world = patient()
    up(world)
    heard = world.call("new")
    world.found()
    world.cancel(heard)
    world.finds_changes()
    assert len(world.ordered(fx.Prepare)) == 1
    world.oblige()
    world.end()
    world.assert_over()


def test_a_change_that_is_told_of_a_fork_that_is_not_under_way_ends_the_template() -> None:
    world = patient()
    template = up(world)
    world.tell(ev.WorkerSaid(template.worker, work.Outdated(work.WorkerId(99))))
    assert template.kills == 1


def test_an_app_that_is_found_elsewhere_is_imported_anew() -> None:
    world = patient()
    template = up(world)
    world.call("new")
    session = next(iter(world.lookups))
    del world.lookups[session]
    world.tell(ev.AppFound(session, AppSpec("counter", "elsewhere:App")))
    assert template.kills == 1
    assert [order.spec.target for order in world.ordered(fx.Prepare)] == ["counter:App", "elsewhere:App"]


def test_a_template_that_does_not_fork_is_killed_and_the_start_fails() -> None:
    world = patient()
    template = up(world)
    heard = world.call("new")
    world.found()
    world.wait(policy.FORK_SECONDS)
    assert template.kills == 1 and heard.open
    world.template_exits()
    assert (heard.code, heard.final.ran) == ("START_FAILED", "no")
    world.template_tree_ends()
    assert states(world) == []


def test_so_does_one_that_cannot_be_killed() -> None:
    world = patient()
    up(world)
    heard = world.call("new")
    world.found()
    world.wait(policy.FORK_SECONDS)
    world.template_tree_ends(stuck=(4711,))
    assert heard.code == "START_FAILED" and "4711" in heard.final.message
    assert states(world) == []


def test_one_that_was_not_there_to_be_killed_is_killed_when_it_is() -> None:
    world = patient()
    world.call("new")
    world.found()
    world.imported()
    world.wait(policy.FORK_SECONDS)
    assert world.template().kills == 0
    world.template_spawned()
    assert world.template().kills == 1


def test_one_fork_that_came_is_no_word_about_another() -> None:
    world = patient()
    template = up(world)
    for _ in range(2):
        world.call("new")
        world.found()
    world.spawned()
    world.wait(policy.FORK_SECONDS)
    assert template.kills == 1
    world.template_exits()
    assert [heard.code for heard in world.history[1:]] == ["START_FAILED", ""]
