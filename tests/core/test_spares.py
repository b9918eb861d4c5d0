"""Spares: who takes one, what it is from then on, and what is started in its place."""

from __future__ import annotations

import pytest

from tests.core.fakes import Heard
from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import Limits
from warmd.protocol.messages import AppRef

LIMITS = Limits(max_sessions=3, session_timeout_seconds=60.0, max_session_timeout_seconds=1000.0)


def warm(world: World, **options: object) -> str:
    """A spare that is ready; its id."""
    heard = world.call("new", "", spare=True, **{"idle_seconds": 500.0, **options})
    assert heard.code == "ok"
    return str(heard.session)


def kinds(world: World) -> dict[str, str]:
    return {view.id: view.kind for view in world.broker.views()}


def test_a_call_that_opens_a_session_takes_it_and_is_warm() -> None:
    world = World(LIMITS)
    spare = warm(world)
    heard = world.call("new")
    world.returns(worker=1)
    assert heard.session == spare and heard.code == "ok" and not heard.final.timing.cold
    assert kinds(world)[spare] == "session"


def test_another_is_started_in_its_place_and_lives_as_long() -> None:
    world = World(LIMITS)
    spare = warm(world)
    world.call("new", "")
    (other,) = (id for id, kind in kinds(world).items() if kind == "spare")
    assert other != spare
    view = world.broker.view(other)
    assert view is not None and view.idle_seconds == 500.0
    world.wait(500.0)
    assert world.state(other) == "expired"
    assert [kind for kind in kinds(world).values() if kind == "spare"] == [], "nobody took it"


def test_no_other_where_there_is_no_place() -> None:
    world = World(LIMITS)
    for _ in range(2):
        world.session()
    warm(world)
    assert world.call("new", "").code == "ok"
    assert "spare" not in kinds(world).values()
    assert world.call("new", "").code == "NO_ROOM"


def test_it_takes_the_options_of_the_call() -> None:
    world = World(LIMITS)
    spare = warm(world)
    world.wait(100.0)
    heard = world.call("new", "", idle_seconds=7.0, lifetime_seconds=50.0, name="mine", labels={"a": "b"})
    view = world.broker.view(spare)
    assert heard.session == spare and view is not None
    assert (view.name, view.labels, view.created, view.idle_seconds) == ("mine", {"a": "b"}, world.now, 7.0)
    assert view.lifetime_seconds == 50.0
    assert world.call("new", "", name="mine").session == spare
    world.wait(8.0)
    assert world.state(spare) == "expired"


@pytest.mark.parametrize(
    "other", [{"app": AppRef("chat")}, {"setup": b"other"}, {"env": {"A": "1"}}, {"session": None}]
)
def test_it_is_not_taken_for_what_is_not_alike(other: dict[str, object]) -> None:
    world = World(LIMITS)
    spare = warm(world)
    session = other.pop("session", "new")
    heard = world.call(session, **other)  # type: ignore[arg-type]
    assert heard.session != spare and kinds(world)[spare] == "spare"


def test_nor_before_it_is_ready() -> None:
    world = World(LIMITS, holds=EVERYTHING)
    first = world.call("new", "", spare=True)
    world.found()
    heard = world.call("new")
    world.found()
    assert heard.session != first.session


def test_one_that_is_up_is_taken_before_one_that_is_coming() -> None:
    world = World(LIMITS)
    warm(world)
    world.holds = frozenset({fx.Spawn})
    world.call("new", "", spare=True)
    assert world.call("new", "").code == "ok"


def test_nobody_can_call_it_by_its_id() -> None:
    world = World(LIMITS)
    spare = warm(world)
    assert world.call(spare).code == "SESSION_NOT_FOUND"
    world.end(spare)
    assert world.state(spare) == "ended"


def test_its_setup_counts_as_long_as_it_may_be_needed() -> None:
    world = World(LIMITS)
    warm(world, setup=b"s" * 10)
    assert world.broker.totals().queued_bytes == 10
    world.call("new", "", by="bob", setup=b"s" * 10)
    assert world.broker.totals().queued_bytes == 10, "that of the next one"
    world.call("new", "", setup=b"s" * 10, name="mine")
    assert world.broker.totals().queued_bytes == 20, "and that of who may be joined"
    world.end()
    assert world.broker.totals().queued_bytes == 0


def test_the_start_of_one_is_given_up_with_the_call_that_wants_it() -> None:
    world = World(LIMITS, holds=EVERYTHING)
    heard: Heard = world.call("new", "", spare=True)
    world.found()
    world.cancel(heard)
    world.oblige()
    world.assert_over()


def test_one_whose_start_fails_is_not_started_again() -> None:
    world = World(LIMITS)
    warm(world)
    world.holds = frozenset({fx.Spawn})
    world.call("new", "")
    world.spawn_fails()
    assert "spare" not in kinds(world).values()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"function": "run"}, "only started"),
        ({"function": "", "detach": True}, "only started"),
        ({"function": "", "session": None}, "only started"),
        ({"function": "", "name": "mine"}, "no name"),
        ({"function": "", "labels": {"a": "b"}}, "no name"),
        ({"function": "", "lifetime_seconds": 5.0}, "no name"),
    ],
)
def test_what_a_spare_cannot_have(options: dict[str, object], said: str) -> None:
    world = World(LIMITS)
    session = options.pop("session", "new")
    heard = world.call(session, **options, spare=True)  # type: ignore[arg-type]
    assert heard.code == "INVALID" and said in heard.final.message
