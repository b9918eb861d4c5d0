"""Clients that are behind in their reading: their workers wait, a moment or for as long as it takes."""

from __future__ import annotations

from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import CATCH_UP_SECONDS
from warmd.protocol.messages import Result
from warmd.protocol.work import MoreCredit

LARGE = b"v" * 5000


def paused(world: World) -> bool:
    return world.worker().paused


def credits_told(world: World) -> list[int]:
    return [told.message.parts for told in world.ordered(fx.Tell) if isinstance(told.message, MoreCredit)]


def test_a_call_of_one_who_is_behind_is_listened_to_again_after_a_moment() -> None:
    world = World()
    session = world.session()
    heard = world.call(session)
    world.falls_behind("ann", 7777)
    assert paused(world)
    world.returns(LARGE)
    assert heard.open
    world.wait(CATCH_UP_SECONDS)
    assert not paused(world)
    assert (heard.code, heard.final.ran) == ("APP_ERROR", "yes")  # type: ignore[union-attr]
    for fact in ("5000 bytes", "7777 bytes", "max_unread_bytes"):
        assert fact in heard.final.message  # type: ignore[union-attr]
    assert world.call(session).code == "SLOW_CONSUMER"
    assert world.call(session, by="bob").open, "others are served"


def test_who_catches_up_in_time_loses_nothing() -> None:
    world = World()
    session = world.session()
    heard = world.call(session)
    world.falls_behind("ann")
    world.returns(LARGE)
    world.wait(CATCH_UP_SECONDS / 2)
    world.catches_up("ann")
    assert heard.code == "ok"
    world.wait(5.0)
    assert world.call(session).open


def test_a_small_result_is_never_dropped() -> None:
    world = World()
    heard = world.call(world.session())
    world.falls_behind("ann")
    world.wait(CATCH_UP_SECONDS)
    world.returns(b"small")
    assert heard.code == "ok"


def test_a_stream_waits_as_long_as_it_takes_and_gets_its_credit_then() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=1)
    world.yields()
    world.falls_behind("ann")
    world.credit(heard, 2)
    world.wait(100.0)
    assert paused(world)
    assert not credits_told(world)
    world.catches_up("ann")
    assert not paused(world)
    assert credits_told(world) == [2]
    world.falls_behind("ann")
    world.catches_up("ann")
    assert credits_told(world) == [2], "once"


def test_a_stream_that_begins_while_its_reader_is_behind_waits() -> None:
    world = World()
    session = world.session()
    world.call(session, by="bob")
    world.call(session, "count", window=4)
    world.falls_behind("ann")
    assert not paused(world), "it is bob's call that runs"
    world.returns()
    assert paused(world)


def test_a_paused_call_can_be_cancelled_and_overdue_and_left() -> None:
    for how in ("cancel", "abandon", "deadline", "leave"):
        world = World(holds=EVERYTHING[3:])
        heard = world.call(world.session(), "count", window=4, timeout_seconds=30.0)
        world.falls_behind("ann")
        assert paused(world)
        if how == "deadline":
            world.wait(30.0)
        elif how == "leave":
            world.leave("ann")
        else:
            world.cancel(heard, how)
        assert not paused(world), how


def test_the_end_of_a_paused_worker_is_heard() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=4)
    world.falls_behind("ann")
    world.exits(signal="SIGKILL")
    assert heard.code == "WORKER_DIED"


def test_a_large_result_of_a_detached_call_is_kept_until_its_reader_reads_again() -> None:
    world = World()
    heard = world.call(world.session(), detach=True)
    other = world.attach(heard, window=None, by="bob")
    world.falls_behind("ann")
    world.wait(CATCH_UP_SECONDS + 1)
    world.returns(LARGE)
    assert (heard.final, other.code) == (None, "ok")
    world.catches_up("ann")
    assert isinstance(heard.final, Result) and heard.final.value == LARGE


def test_so_is_the_last_part_of_a_detached_stream_for_who_wants_only_that() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True, by="bob")
    reading = world.attach(heard, window=None, by="ann")
    world.falls_behind("ann")
    world.yields(LARGE)
    world.returns(b"")
    assert reading.open
    world.catches_up("ann")
    assert isinstance(reading.final, Result) and reading.final.value == LARGE


def test_one_that_never_reads_again_is_told_when_nothing_is_kept_any_more() -> None:
    world = World()
    heard = world.call(world.session(), detach=True)
    world.falls_behind("ann")
    world.returns(LARGE)
    world.wait(world.limits.detached_keep_seconds + 1)
    assert heard.code == "CALL_GONE"


def test_a_small_result_is_never_withheld() -> None:
    world = World()
    heard = world.call(world.session(), detach=True)
    world.falls_behind("ann")
    world.returns(b"v" * 100)
    assert heard.code == "ok"
