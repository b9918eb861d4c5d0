"""Scenes for tests of templates: an import under way, or done and forked once."""

from __future__ import annotations

from tests.core.nursery import FakeTemplate
from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core.policy import Limits
from warmd.protocol.messages import Failure

LIMITS = Limits(max_templates=2, template_seconds=60.0, template_bytes=2500, start_timeout_seconds=30.0)


def patient(limits: Limits = LIMITS) -> World:
    """A world in which nothing is done before the test says so."""
    return World(limits, holds=EVERYTHING)


def importing(world: World, **options: object) -> FakeTemplate:
    """A call whose session waits for an import that is under way."""
    world.call("new", **options)
    world.found()
    world.template_spawned()
    return world.template()


def up(world: World) -> FakeTemplate:
    """A template that has been forked once, and the session, idle."""
    template = importing(world, function="")
    world.imported()
    world.spawned()
    world.ready()
    return template


def states(world: World) -> list[str]:
    return [template.state for template in world.broker.templates()]


def failures(world: World) -> list[tuple[str, str]]:
    return [(heard.code, heard.final.ran) for heard in world.history if isinstance(heard.final, Failure)]
