"""Sessions whose functions come and go: only their workers know which there are."""

from __future__ import annotations

import pytest

from tests.core.test_ahead import sent
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.messages import SessionId
from warmd.protocol.work import Ordinal


def reloading(limits: Limits | None = None) -> tuple[World, SessionId]:
    """An idle session of a worker that reloads."""
    world = World(limits or Limits(), holds=(fx.Spawn,))
    heard = world.call("new", "")
    world.holds = ()
    world.spawned()
    world.ready(reloads=True)
    assert heard.code == "ok"
    return world, SessionId(str(heard.session))


def test_a_function_that_is_not_known_is_asked_for() -> None:
    world, session = reloading()
    heard = world.call(session, "cuont")
    assert world.running().function == "cuont"
    world.says(work.Reloaded(["cuont", "run"], False))
    world.returns(b"value")
    assert heard.code == "ok"


def test_one_that_is_not_there_is_refused_as_elsewhere() -> None:
    world, session = reloading()
    heard = world.call(session, "cuont")
    world.disowns()
    assert heard.code == "FUNCTION_NOT_FOUND"
    assert heard.final.ran == "no"
    assert heard.final.message == (
        "app 'counter' has no function 'cuont'; did you mean 'count'? (functions: run, count, fail)"
    )
    assert world.state(session) == "idle"


def test_the_next_call_is_served_before_the_refusal_is_told() -> None:
    world, session = reloading()
    gone, next_one = world.call(session, "gone"), world.call(session)
    world.disowns()
    world.returns()
    assert (gone.code, next_one.code) == ("FUNCTION_NOT_FOUND", "ok")


def test_the_functions_are_those_that_were_told_last() -> None:
    world, session = reloading()
    heard = world.call(session, "run")
    world.says(work.Reloaded(["other"], False))
    world.disowns()
    assert heard.final.details == {"functions": ["other"]}


def test_an_on_cancel_that_came_is_told_of() -> None:
    world, session = reloading()
    heard = world.call(session)
    world.says(work.Reloaded(["run"], True))
    world.cancel(heard)
    (request,) = world.ordered(fx.RequestCancel)
    assert request.signal


def test_functions_that_are_not_known_go_ahead_too() -> None:
    world, session = reloading(Limits(dispatch_ahead=2))
    for function in ("run", "new", ""):
        world.call(session, function)
    assert sent(world) == ["run", "new"]


def test_a_call_without_a_function_needs_no_worker() -> None:
    world, session = reloading()
    assert world.call(session, "").code == "ok"
    assert sent(world) == []


def test_a_call_that_was_stopped_meanwhile_ends_as_stopped() -> None:
    world, session = reloading()
    heard = world.call(session, "gone")
    world.cancel(heard)
    world.says(work.NoFunction(world.running().ordinal))
    assert heard.code == "CANCELLED"
    assert world.state(session) == "idle"


def test_a_late_word_means_nothing() -> None:
    world, session = reloading()
    world.call(session)
    world.returns()
    assert world.says(work.NoFunction(Ordinal(1))) == []
    assert world.state(session) == "idle"


@pytest.mark.parametrize("reloads", [False, True])
def test_who_does_not_reload_or_has_begun_cannot_say_so(reloads: bool) -> None:
    world, session = reloading() if reloads else ((world := World()), world.session())
    heard = world.call(session, window=2)
    if reloads:
        world.yields()
    world.says(work.NoFunction(world.running().ordinal))
    assert heard.code == "WORKER_DIED"
    assert "spoke nonsense on its link (a NoFunction that does not fit)" in heard.final.message
