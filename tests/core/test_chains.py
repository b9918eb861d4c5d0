"""Sessions that would wait for each other in a circle: refused at once, and nothing else is."""

from __future__ import annotations

from tests.core.fakes import Heard
from tests.core.world import World, client
from warmd.daemon.core import events as ev
from warmd.protocol.messages import SessionId


def live_inside(world: World, session: str, name: str) -> None:
    """From now on the client of that name is a program inside the app of that session."""
    world.tell(ev.ClientInside(client(name), SessionId(session)))


def refused(heard: Heard) -> bool:
    if heard.code != "INVALID":
        return False
    assert heard.final.ran == "no" and "wait for itself" in heard.final.message
    return True


def test_a_session_cannot_call_itself_while_it_runs_a_call():
    world = World()
    session = world.session()
    live_inside(world, session, "inner")
    world.call(session)
    inner = world.call(session, by="inner")
    assert refused(inner)
    assert f"{session} -> {session}" in inner.final.message


def test_a_thread_of_an_idle_app_may_call_its_own_session():
    world = World()
    session = world.session()
    live_inside(world, session, "inner")
    assert not refused(world.call(session, by="inner"))


def chain(world: World, length: int) -> list[str]:
    """Sessions each of which runs a call that calls the next."""
    sessions = [world.session() for _ in range(length)]
    for number, session in enumerate(sessions):
        live_inside(world, session, f"in {number}")
        world.call(session, by=f"in {number - 1}" if number else "ann")
    return sessions


def test_a_chain_that_comes_back_is_refused_and_shown():
    world = World()
    a, b, c = chain(world, 3)
    back = world.call(a, by="in 2")
    assert refused(back)
    assert f"{c} -> {a} -> {b} -> {c}" in back.final.message
    assert not refused(world.call(world.session(), by="in 2")), "onward it may go"


def test_a_long_chain_is_shown_in_short():
    world = World()
    sessions = chain(world, 9)
    assert refused(back := world.call(sessions[0], by="in 8"))
    assert "..." in back.final.message


def test_two_that_call_each_other_out_of_their_own_calls_are_refused_too():
    """B runs a call of somebody else when A's call waits behind it: nobody is the other's caller."""
    world = World()
    a, b = world.session(), world.session()
    live_inside(world, a, "in a")
    live_inside(world, b, "in b")
    world.call(a)
    world.call(b)
    assert not refused(world.call(b, by="in a"))
    assert refused(world.call(a, by="in b"))


def test_calls_from_outside_and_those_nobody_waits_for_are_let_through():
    world = World()
    a, _ = chain(world, 2)
    assert not refused(world.call(a, by="bob"))
    assert not refused(world.call(a, by="in 1", detach=True))
    live_inside(world, "sess_of_another_daemon", "far")
    assert not refused(world.call(a, by="far"))


def test_a_session_joined_by_its_name_is_the_same_session():
    world = World()
    session = world.session(name="mine")
    live_inside(world, session, "inner")
    world.call(session)
    assert refused(world.call("new", by="inner", name="mine"))


def test_a_session_that_waits_for_many_is_followed_everywhere():
    world = World()
    a, b, c, d = (world.session() for _ in range(4))
    for name, session in zip("abcd", (a, b, c, d), strict=True):
        live_inside(world, session, f"in {name}")
        world.call(session)
    world.call(d, by="in a")
    world.call(b, by="in a")
    world.call(d, by="in b")
    world.call(d, by="in b", detach=True)
    assert not refused(world.call(c, by="in b"))
    assert refused(world.call(a, by="in c"))


def test_what_has_ended_is_waited_for_no_more():
    world = World()
    a, b = world.session(), world.session()
    live_inside(world, a, "in a")
    live_inside(world, b, "in b")
    world.call(a)
    world.call(b, by="in a")
    assert refused(world.call(a, by="in b"))
    world.returns(worker=2)
    assert not refused(world.call(a, by="in b"))
    world.leave("in b")
    assert not world.broker._book.inside.get(client("in b"))


def test_a_pool_worker_may_not_call_the_session_whose_call_it_runs():
    world = World()
    session = world.session()
    live_inside(world, session, "inner")
    world.call(session)
    world.call(None, by="inner")
    live_inside(world, world.worker().spawn.session, "in the pool")
    assert refused(world.call(session, by="in the pool"))


def test_a_call_to_the_pool_waits_for_no_session():
    world = World()
    session = world.session()
    live_inside(world, session, "inner")
    world.call(session)
    assert not refused(world.call(None, by="inner"))
    assert refused(world.call(session, by="inner"))
