"""What an app's manifest asks for, and how far it goes."""

from __future__ import annotations

from math import inf

import pytest

from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import Limits
from warmd.daemon.core.views import SessionView
from warmd.protocol.work import Asks

LIMITS = Limits(session_timeout_seconds=60.0, max_session_timeout_seconds=1000.0, max_templates=4)


def world_of(asks: Asks, limits: Limits = LIMITS, holds: tuple[type, ...] = ()) -> World:
    world = World(limits, holds=holds)
    world.asks = asks
    return world


def only_view(world: World) -> SessionView:
    (view,) = world.broker.views()
    return view


@pytest.mark.parametrize(("asked", "seconds"), [(None, 300.0), (5.0, 5.0)])
def test_an_idle_time_goes_for_sessions_that_ask_for_none(asked: float | None, seconds: float) -> None:
    world = world_of(Asks(idle_seconds=300.0))
    session = world.call("new", "", idle_seconds=asked).session
    world.wait(seconds - 1.0)
    assert world.state(session) == "idle"
    world.wait(2.0)
    assert world.state(session) == "expired"


def test_an_idle_time_goes_for_workers_of_the_pool_too() -> None:
    world = world_of(Asks(idle_seconds=300.0))
    world.call(None)
    assert only_view(world).idle_seconds == 300.0


@pytest.mark.parametrize(("asked", "seconds"), [(None, 50.0), (20.0, 20.0), (900.0, 50.0)])
def test_a_greatest_age_is_one_for_all_its_sessions(asked: float | None, seconds: float) -> None:
    world = world_of(Asks(lifetime_seconds=50.0, idle_seconds=500.0))
    session = world.call("new", "", lifetime_seconds=asked).session
    world.wait(seconds - 1.0)
    assert world.state(session) == "idle"
    world.wait(2.0)
    assert world.state(session) == "expired"


@pytest.mark.parametrize("limits", [LIMITS, Limits()])
def test_the_time_of_a_start_is_its_own(limits: Limits) -> None:
    world = world_of(Asks(start_seconds=7.0), limits, holds=(fx.Spawn, fx.Prepare))
    heard = world.call("new", "")
    world.wait(6.9)
    assert heard.final is None
    world.wait(0.2)
    assert heard.code == "TIMEOUT"
    assert "longer than start_timeout (7 s)" in heard.final.message


def test_an_app_need_not_be_forked() -> None:
    world = world_of(Asks(template=False))
    assert world.call("new", "").code == "ok"
    assert not [effect for _, effect in world.effects if isinstance(effect, fx.Prepare)]
    assert [effect for _, effect in world.effects if isinstance(effect, fx.Spawn)]


@pytest.mark.parametrize(
    ("asks", "text"),
    [
        (Asks(idle_seconds=2000.0), "a session_timeout of 33m20s: it must be from 1s to 16m40s"),
        (Asks(idle_seconds=inf), "a session_timeout of never: it must be from 1s to 16m40s"),
        (Asks(idle_seconds=0.5), "a session_timeout of 0.5s"),
        (Asks(lifetime_seconds=0.5), "a max_lifetime of 0.5s: it must be from 1s to never"),
    ],
)
def test_the_bounds_of_the_daemon_hold(asks: Asks, text: str) -> None:
    world = world_of(asks)
    heard = world.call("new", "")
    assert (heard.code, heard.final.ran) == ("INVALID", "no")
    assert text in heard.final.message
    assert world.call(None).code == "INVALID"


def test_a_spare_that_the_manifest_wants_waits_as_long_as_it_takes() -> None:
    world = world_of(Asks(idle_seconds=300.0, lifetime_seconds=10_000.0, spares=1))
    world.call("new", "", spare=True)
    assert only_view(world).idle_seconds == inf
    world.wait(9000.0)
    taken = world.call("new", "")
    (view, other) = world.broker.views()
    assert (view.id, view.kind, view.idle_seconds) == (taken.session, "session", 300.0)
    assert view.lifetime_seconds == 10_000.0
    assert (other.kind, other.idle_seconds) == ("spare", inf)
    world.wait(301.0)
    assert world.state(taken.session) == "expired"
    assert world.state(other.id) == "idle"


def test_a_spare_that_somebody_asked_for_waits_as_long_as_was_asked() -> None:
    world = world_of(Asks(spares=1))
    world.call("new", "", spare=True, idle_seconds=500.0)
    world.call("new", "")
    assert [view.idle_seconds for view in world.broker.views() if view.kind == "spare"] == [500.0]
