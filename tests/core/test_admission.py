"""What is refused at the door, and in which words: before anything starts or changes."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from tests.core.world import World, client
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import Limits
from warmd.protocol.messages import AppRef, Call, CallId, Failure, NewSession, Origin, SessionId


def refusal(world: World, *arguments: Any, **options: Any) -> Failure:
    """The refusal of a call that must leave no trace."""
    before = len(world.effects)
    heard = world.call(*arguments, **options)
    assert isinstance(heard.final, Failure)
    assert len(world.effects) == before + 1, "nothing happened but the refusal"
    assert heard.final.ran == "no"
    return heard.final


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.999, 3600.001, inf, -inf, nan])
def test_a_session_timeout_out_of_bounds_is_refused(seconds: float) -> None:
    failure = refusal(World(), "new", idle_seconds=seconds)
    assert failure.code == "INVALID"
    asked = "never" if seconds == inf else f"{seconds:g} s"
    assert failure.message == (
        f"session_timeout is {asked}: it must be from 1 to 3600 s (max_session_timeout)"
    )


@pytest.mark.parametrize("seconds", [1.0, 3600.0])
def test_a_session_timeout_at_its_bounds_is_taken(seconds: float) -> None:
    world = World()
    world.session(idle_seconds=seconds)
    assert world.wait_for_deadline() == seconds


def test_the_ceiling_of_session_timeouts_is_a_setting() -> None:
    assert World(Limits(max_session_timeout_seconds=7200.0)).session(idle_seconds=7200.0)
    failure = refusal(World(Limits(max_session_timeout_seconds=30.0)), "new", idle_seconds=31.0)
    assert "from 1 to 30 s" in failure.message


@pytest.mark.parametrize("seconds", [0.0, -1.0, inf, nan])
def test_a_timeout_that_is_none_is_refused(seconds: float) -> None:
    failure = refusal(World(), "new", timeout_seconds=seconds)
    assert (failure.code, failure.message) == (
        "INVALID", f"timeout is {seconds:g}: give a number of seconds above 0",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("session", "options", "says"),
    [
        (None, {"idle_seconds": 5.0}, 'need session="new"'),
        (None, {"lifetime_seconds": 5.0}, 'need session="new"'),
        ("new", {"lifetime_seconds": 0.5}, "max_lifetime is 0.5 s"),
        (None, {"name": "mine"}, 'need session="new"'),
        (None, {"labels": {"a": "b"}}, 'need session="new"'),
        ("live", {"idle_seconds": 5.0}, "belong to a new session"),
        ("live", {"name": "mine"}, "belong to a new session"),
        ("live", {"env": {"A": "1"}}, "belong to a new session"),
        ("live", {"setup": b"\xc0"}, "belong to a new session"),
        ("live", {"pickled": b"class"}, "belong to a new session"),
        ("new", {"name": ""}, "give 1 to 128 characters"),
        ("new", {"name": "x" * 129}, "give 1 to 128 characters"),
        ("new", {"name": "sess_mine"}, "do not begin with 'sess_'"),
        ("new", {"name": "new"}, "that are not 'new'"),
        ("new", {"window": -1}, "window is -1"),
        ("new", {"id": CallId(b"short")}, "16 bytes, not 5"),
        ("new", {"function": "f" * 257}, "257 characters, the limit is 256"),
        ("new", {"app": AppRef("/" + "a" * 4096)}, "4097 characters, the limit is 4096"),
    ],
)
def test_options_that_do_not_fit_are_refused(session: str | None, options: dict[str, Any], says: str) -> None:
    world = World()
    if session == "live":
        session = world.session()
    failure = refusal(world, session, **options)
    assert failure.code == "INVALID"
    assert says in failure.message


@pytest.mark.parametrize("session", ["new", None])
def test_a_call_without_a_session_must_name_its_app(session: str | None) -> None:
    world = World()
    call = Call(CallId(bytes(16)), session, None, "run")
    (effect,) = world.broker.handle(ev.CallArrived(client("ann"), call, "0" * 32), world.now)
    assert isinstance(effect, fx.Send)
    assert isinstance(effect.message, Failure)
    assert effect.message.code == "INVALID"
    assert "must name its app" in effect.message.message


@pytest.mark.parametrize("function", ["_hidden", "__init__", "__class__", "setup", "unload", "on_cancel"])
@pytest.mark.parametrize("session", ["new", None, "live"])
def test_private_functions_are_refused_at_the_door(function: str, session: str | None) -> None:
    world = World()
    if session == "live":
        session = world.session()
    failure = refusal(world, session, function)
    assert failure.code == "FUNCTION_NOT_FOUND"
    assert repr(function) in failure.message


def test_an_unknown_function_is_refused_at_its_turn_with_a_suggestion() -> None:
    world = World()
    session = world.session()
    heard = world.call(session, "cuont")
    assert heard.code == "FUNCTION_NOT_FOUND"
    assert heard.final.message == (
        "app 'counter' has no function 'cuont'; did you mean 'count'? (functions: run, count, fail)"
    )
    assert heard.final.details == {"functions": ["run", "count", "fail"]}
    assert world.state(session) == "idle"


def test_an_app_of_many_functions_is_not_listed_whole() -> None:
    world = World(holds=(fx.Spawn,))
    heard = world.call("new", "nope")
    world.spawned()
    world.ready(functions=tuple(f"function_{number}" for number in range(3000)))
    assert heard.final.message.endswith("function_48, function_49 and 2950 more)")
    assert len(heard.final.details["functions"]) == 50


def test_an_unknown_function_does_not_hold_up_those_behind_it() -> None:
    world = World()
    session = world.session()
    world.call(session)
    unknown, last = world.call(session, "nope"), world.call(session)
    assert unknown.code == "", "it waits for its turn"
    world.returns()
    assert unknown.code == "FUNCTION_NOT_FOUND"
    assert world.running().call == last.call.id


def test_an_unknown_function_of_a_new_session_leaves_the_session() -> None:
    world = World()
    heard = world.call("new", "nope")
    assert heard.code == "FUNCTION_NOT_FOUND"
    assert heard.accepted is not None
    assert world.state(str(heard.session)) == "idle"


# apps


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (AppRef("chat"), "belongs to app 'counter', not to 'chat'"),
        (AppRef("counter", Origin("/python", "/home", "/home")), "of another interpreter or folder"),
        (AppRef("counter", None, "ab" * 32), "belongs to app 'counter', not to 'counter'"),
    ],
)
def test_a_call_by_id_to_another_app_is_refused(other: AppRef, says: str) -> None:
    world = World()
    failure = refusal(world, world.session(), app=other)
    assert failure.code == "APP_MISMATCH"
    assert says in failure.message


# repetitions


def test_a_repeated_id_runs_no_second_time_and_is_not_answered() -> None:
    world = World()
    session = world.session()
    heard = world.call(session)
    assert world.tell(ev.CallArrived(heard.client, heard.call, "0" * 32)) == []
    other = replace(heard.call, function="count")
    assert world.tell(ev.CallArrived(heard.client, other, "0" * 32)) == []
    world.returns()
    assert heard.code == "ok"
    assert world.worker().invoked == 1


def test_an_id_that_another_client_uses_is_refused_to_the_second_only() -> None:
    world = World()
    heard = world.call(world.session())
    (effect,) = world.broker.handle(ev.CallArrived(client("bob"), heard.call, "0" * 32), world.now)
    assert isinstance(effect, fx.Send)
    assert isinstance(effect.message, Failure)
    assert (effect.client, effect.message.code) == (client("bob"), "INVALID")
    world.returns()
    assert heard.code == "ok"


def test_an_id_of_another_client_cannot_be_cancelled_or_fed() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=1)
    assert world.tell(ev.CancelArrived(client("bob"), heard.call.id, "cancel")) == []
    assert world.tell(ev.CreditArrived(client("bob"), heard.call.id, 5)) == []


# room


def test_a_full_queue_refuses_and_takes_again_when_there_is_room() -> None:
    world = World(Limits(max_queue=2))
    session = world.session()
    calls = [world.call(session) for _ in range(3)]
    failure = refusal(world, session)
    assert failure.code == "QUEUE_FULL"
    assert failure.message.startswith(f"2 calls wait for session {session} already (max_queue): ")
    assert failure.details == {"limit": 2}
    world.returns()
    assert world.call(session).code == ""
    assert [heard.code for heard in calls] == ["ok", "", ""]


def test_a_queue_is_bounded_during_the_start_too() -> None:
    world = World(Limits(max_queue=2), holds=(fx.LookUp,))
    world.call()
    session = next(iter(world.lookups))
    world.call(session)
    assert world.call(session).code == "QUEUE_FULL"


def test_without_a_free_place_a_new_session_is_refused() -> None:
    world = World(Limits(max_sessions=2))
    session = world.session()
    world.session()
    failure = refusal(world)
    assert failure.code == "NO_ROOM"
    assert failure.message.startswith("all 2 places for processes are taken (max_sessions): ")
    assert failure.details == {"limit": 2}
    world.end(session)
    assert world.call("new", "").code == "ok"


def test_a_session_that_is_looked_up_has_a_place_already() -> None:
    world = World(Limits(max_sessions=1), holds=(fx.LookUp,))
    world.call()
    assert world.call().code == "NO_ROOM"


def test_a_daemon_that_drains_takes_no_more() -> None:
    world = World()
    session = world.session()
    world.call(session)
    world.drain()
    for wanted in (session, "new", None, "sess_unknown"):
        failure = refusal(world, wanted)
        assert failure.code == "DRAINING"
        assert "stopping" in failure.message


# names


def test_a_name_in_place_of_an_id_is_said_to_be_one() -> None:
    world = World()
    session = world.session(name="mine")
    failure = refusal(world, "mine")
    assert failure.code == "SESSION_NOT_FOUND"
    assert f"'mine' is the name of a session, and a call names its id: give {session}" in failure.message
    assert world.broker.missing_session(SessionId("mine")).message == failure.message


def test_a_name_joins_the_session_that_has_it() -> None:
    world = World()
    session = world.session(name="mine", setup=b"\x01", env={"A": "1"}, idle_seconds=30.0)
    heard = world.call("new", name="mine", setup=b"\x01", env={"A": "1"})
    assert heard.session == session
    assert heard.accepted is not None
    world.returns()
    assert heard.final.session == session
    assert len(world.ordered(fx.Spawn)) == 1


def test_two_clients_that_open_one_name_at_once_share_the_start() -> None:
    world = World(holds=(fx.LookUp,))
    one, two = world.call("new", name="mine", by="ann"), world.call("new", name="mine", by="bob")
    world.found()
    assert one.session == two.session
    world.returns()
    world.returns()
    assert (one.code, two.code) == ("ok", "ok")


def test_a_name_can_be_joined_with_its_own_options() -> None:
    world = World()
    session = world.session(name="mine", idle_seconds=30.0, labels={"a": "b"})
    heard = world.call("new", "", name="mine", idle_seconds=30.0, labels={"a": "b"})
    assert heard.session == session


@pytest.mark.parametrize(
    "difference",
    [{"app": AppRef("chat")}, {"setup": b"\x02"}, {"env": {"A": "2"}}],
    ids=["app", "setup", "env"],
)
def test_a_name_of_something_else_is_refused(difference: dict[str, Any]) -> None:
    world = World()
    session = world.session(name="mine", setup=b"\x01", env={"A": "1"})
    failure = refusal(world, "new", name="mine", **{"setup": b"\x01", "env": {"A": "1"}, **difference})
    assert failure.code == "APP_MISMATCH"
    assert "'mine'" in failure.message
    assert session in failure.message


def test_a_name_with_another_timeout_is_refused_naming_both() -> None:
    world = World()
    world.session(name="mine", idle_seconds=30.0)
    failure = refusal(world, "new", name="mine", idle_seconds=60.0)
    assert failure.code == "INVALID"
    assert "60 s" in failure.message
    assert "30 s" in failure.message


def test_a_name_with_other_labels_is_refused() -> None:
    world = World()
    world.session(name="mine", labels={"a": "b"})
    assert refusal(world, "new", name="mine", labels={"a": "c"}).code == "INVALID"


@pytest.mark.parametrize("end", ["end", "exits", "expires"])
def test_a_name_is_free_when_its_session_begins_to_stop(end: str) -> None:
    world = World(holds=(fx.Kill,))
    old = world.session(name="mine", idle_seconds=1.0)
    if end == "end":
        world.end(old)
    elif end == "exits":
        world.exits()
    else:
        world.wait(1.0)
    assert world.state(old) == "stopping"
    assert world.session(name="mine") != old


def test_a_name_does_not_need_a_place_of_its_own() -> None:
    world = World(Limits(max_sessions=1))
    session = world.session(name="mine")
    assert world.call("new", "", name="mine").session == session


def test_a_refused_call_reserves_no_name() -> None:
    world = World(Limits(max_sessions=1))
    first = world.session()
    assert world.call("new", name="mine").code == "NO_ROOM"
    world.end(first)
    assert world.session(name="mine") != SessionId("")


def test_options_of_new_are_as_declared() -> None:
    """`refusal` above builds them by name: a new option must be tested here."""
    assert NewSession._fields == ("idle_seconds", "name", "labels", "env", "lifetime_seconds", "spare")
