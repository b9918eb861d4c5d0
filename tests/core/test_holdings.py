"""Bytes of calls that wait: counted to the byte, bounded for each client and in all."""

from __future__ import annotations

from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core.policy import Limits

LIMITS = Limits(max_queued_bytes=100, max_client_queued_bytes=60)


def held(world: World) -> int:
    return world.broker.totals().queued_bytes


def test_only_what_waits_counts() -> None:
    world = World(LIMITS)
    session = world.session()
    world.call(session, input=b"i" * 50)
    assert held(world) == 0, "it went to its worker at once"
    world.call(session, input=b"i" * 20)
    assert held(world) == 20
    world.returns()
    assert held(world) == 0


def test_a_client_has_a_limit_of_its_own() -> None:
    world = World(LIMITS)
    session = world.session()
    world.call(session)
    assert world.call(session, input=b"i" * 60).open
    refused = world.call(session, input=b"i")
    assert (refused.code, refused.final.ran) == ("QUEUE_FULL", "no")  # type: ignore[union-attr]
    for fact in ("1 bytes", "60 bytes", "max_client_queued_bytes: 60"):
        assert fact in refused.final.message  # type: ignore[union-attr]
    assert world.call(session, input=b"i" * 40, by="bob").open
    refused = world.call(session, input=b"i", by="cat")
    assert "100 bytes (max_queued_bytes: 100)" in refused.final.message  # type: ignore[union-attr]
    world.returns()
    assert world.call(session, input=b"i").open, "there is room again"


def test_what_a_start_needs_counts_until_it_is_up() -> None:
    world = World(LIMITS, holds=EVERYTHING)
    world.call("new", setup=b"s" * 20, pickled=b"p" * 10, input=b"i" * 5)
    assert held(world) == 35
    assert world.call("new", setup=b"s" * 40).code == "QUEUE_FULL"
    world.found()
    world.spawned()
    world.ready()
    assert held(world) == 0


def test_a_named_session_keeps_its_setup_and_it_counts() -> None:
    world = World(LIMITS)
    world.session(name="one", setup=b"s" * 20)
    assert held(world) == 20
    world.end(app="counter")
    assert held(world) == 0


def test_the_shared_pool_keeps_what_its_workers_start_from() -> None:
    world = World(LIMITS)
    world.call(None, setup=b"s" * 20, input=b"i" * 30)
    assert held(world) == 20
    world.returns()
    world.wait(LIMITS.session_timeout_seconds + 1)
    assert held(world) == 0


def test_what_is_cancelled_or_loses_its_client_or_its_session_waits_no_more() -> None:
    for how in ("cancel", "leave", "end", "death"):
        world = World(LIMITS)
        session = world.session()
        world.call(session, by="bob")
        waiting = world.call(session, input=b"i" * 20)
        assert held(world) == 20
        if how == "cancel":
            world.cancel(waiting)
        elif how == "leave":
            world.leave("ann")
        elif how == "end":
            world.end(session)
        else:
            world.exits(signal="SIGKILL")
        assert held(world) == 0, how


def test_surplus_credit_is_dropped_and_counted() -> None:
    world = World(Limits(max_stream_window=5))
    heard = world.call(world.session(), "count", window=3)
    world.credit(heard, 10)
    assert world.worker().credit == 5
    assert world.broker.totals().credits_dropped == 8
    world.yields()
    world.credit(heard, 10)
    assert world.worker().credit == 5, "one part has made room for one"
    assert world.broker.totals().credits_dropped == 8 + 9


def test_what_is_counted_can_always_be_said() -> None:
    world = World(Limits(max_stream_window=5))
    heard = world.call(world.session(), "count", window=3)
    for _ in range(3):
        world.credit(heard, 2**64 - 1)
    assert world.broker.totals().credits_dropped == 2**63 - 1


def test_a_window_over_its_limit_is_refused() -> None:
    world = World(Limits(max_stream_window=5))
    refused = world.call("new", window=6)
    assert refused.code == "INVALID"
    assert "5 parts (max_stream_window)" in refused.final.message  # type: ignore[union-attr]
