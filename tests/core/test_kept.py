"""What is kept of detached calls, for how long, within which bounds; and how it is looked at."""

from __future__ import annotations

import pytest

from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core import policy
from warmd.daemon.core.policy import KEPT_CALL_BYTES, KEPT_PART_BYTES, Limits
from warmd.daemon.core.record import owned
from warmd.protocol.errors import Problem
from warmd.protocol.messages import Failure, Part, Result
from warmd.protocol.parcels import Leaves, Parcel


def bounded(size: int, **more: float) -> World:
    return World(Limits(detached_max_bytes=size, **more))


def kept(parts: int, size: int) -> int:
    """What so many parts of this size cost."""
    return parts * (size + KEPT_PART_BYTES)


def test_it_is_kept_for_its_time_and_then_says_so() -> None:
    world = World(Limits(detached_keep_seconds=20.0, detached_max_bytes=5000))
    heard = world.call(world.session(), detach=True)
    world.returns()
    world.wait(19.0)
    assert world.attach(heard, window=None).code == "ok"
    slow = world.attach(heard, window=0)
    assert slow.code == "ok", "there is nothing that it would have to take"
    world.wait(2.0)
    reading = world.attach(heard)
    assert isinstance(reading.final, Failure)
    assert (reading.code, reading.final.ran) == ("CALL_GONE", "maybe")
    for fact in ("ended well", "20 s (detached_keep)", "5000 bytes", "time is over", heard.call.id.hex()):
        assert fact in reading.final.message


def test_a_reader_who_is_too_slow_is_told_when_all_is_gone() -> None:
    world = World(Limits(detached_keep_seconds=20.0))
    heard = world.call(world.session(), "count", detach=True)
    slow = world.attach(heard, window=0)
    world.yields()
    world.returns(b"")
    world.wait(21.0)
    assert slow.code == "CALL_GONE"


def test_a_call_that_nobody_knows_is_gone() -> None:
    world = World()
    world.wait(3.0)
    world.session()
    assert world.broker.missing_call("ab" * 16).code == "CALL_GONE"
    text = world.broker.missing_call("ab" * 16).message
    assert "started 1003 s ago" in text and "ab" * 16 in text
    assert world.broker.missing_call("no id") is not None


def test_what_ended_first_goes_first() -> None:
    world = bounded(2 * (KEPT_CALL_BYTES + 100))
    session = world.session()
    calls = [world.call(session, detach=True) for _ in range(3)]
    for _ in range(2):
        world.returns(b"x" * 100)
    assert world.attach(calls[0], window=None).code == "ok"
    world.returns(b"x" * 100)
    codes = [world.attach(heard, window=None).code for heard in calls]
    assert codes == ["CALL_GONE", "ok", "ok"]
    assert "room was needed" in world.broker.missing_call(calls[0].call.id.hex()).message


def test_what_has_ended_goes_before_parts_of_what_runs() -> None:
    world = bounded(KEPT_CALL_BYTES + kept(2, 100))
    session = world.session()
    ended, running = world.call(session, detach=True), world.call(session, "count", detach=True)
    world.returns(b"")
    for _ in range(3):
        world.yields(b"x" * 100)
    assert world.attach(ended).code == "CALL_GONE"
    assert len(world.attach(running, window=9).parts) == 3


def test_what_has_ended_goes_whole() -> None:
    world = bounded(KEPT_CALL_BYTES + kept(2, 100))
    session = world.session()
    ended, running = world.call(session, "count", detach=True), world.call(session, "count", detach=True)
    for _ in range(2):
        world.yields(b"x" * 100)
    world.returns(b"")
    world.yields(b"x" * 100)
    assert world.attach(ended, 2).code == "CALL_GONE", "half a result is none"
    assert len(world.attach(running).parts) == 1


def test_the_oldest_parts_of_what_runs_go_next() -> None:
    world = bounded(kept(3, 100))
    heard = world.call(world.session(), "count", detach=True)
    for _ in range(5):
        world.yields(b"x" * 100)
    reading = world.attach(heard, 1)
    assert isinstance(reading.final, Failure)
    assert (reading.code, reading.final.details["first_part"]) == ("CALL_GONE", 2)
    assert "the first that is still kept is 2" in reading.final.message
    assert len(world.attach(heard, 2).parts) == 3


def test_of_two_that_run_the_larger_loses_parts() -> None:
    world = bounded(kept(3, 100))
    small, large = world.session(), world.session()
    little, much = world.call(small, "count", detach=True), world.call(large, "count", detach=True)
    world.yields(b"x" * 100, worker=1)
    for _ in range(4):
        world.yields(b"x" * 100, worker=2)
    assert world.attach(little).parts and world.attach(much).code == "CALL_GONE"
    assert len(world.attach(much, 2).parts) == 2


def test_a_call_that_ends_keeps_its_latest_parts() -> None:
    world = bounded(KEPT_CALL_BYTES + kept(1, 100))
    heard = world.call(world.session(), "count", detach=True)
    for _ in range(4):
        world.yields(b"x" * 100)
    world.returns(b"")
    assert world.attach(heard, 3).code == "ok"


def test_one_result_that_is_too_large_reaches_who_waits_for_it_and_is_gone() -> None:
    world = bounded(3000)
    heard = world.call(world.session(), detach=True)
    reading = world.attach(heard, window=None)
    world.returns(b"x" * 4000)
    assert (heard.code, reading.code) == ("ok", "ok")
    assert world.attach(heard, window=None).code == "CALL_GONE"


def test_one_part_that_is_too_large_reaches_who_has_room_and_is_gone() -> None:
    world = bounded(3000)
    heard = world.call(world.session(), "count", detach=True)
    quick, slow = world.attach(heard, window=9), world.attach(heard, window=0)
    world.yields(b"x" * 4000)
    assert len(quick.parts) == 1 and slow.code == "CALL_GONE"
    world.returns(b"")
    assert quick.code == "ok"
    assert isinstance(heard.final, Failure) and heard.final.code == "CALL_GONE"
    assert "none is kept" in heard.final.message


def test_the_texts_of_a_failure_count() -> None:
    world = bounded(20_000)
    session = world.session()
    first, second = world.call(session, detach=True), world.call(session, detach=True)
    world.raises(message="x" * 2500)
    world.raises(message="x" * 2500)
    codes = [world.attach(heard).code for heard in (first, second)]
    assert codes == ["CALL_GONE", "APP_ERROR"]


def test_a_view_is_copied() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    world.yields(memoryview(bytearray(b"xx part xx"))[3:7])  # type: ignore[arg-type]
    (part,) = [found.parts.get(0) for found in world.broker._book.keep.calls.values()]
    assert type(part) is bytes and world.attach(heard).parts == [b"part"]


def test_not_more_is_remembered_than_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "REMEMBERED_CALLS", 1)
    world = World(Limits(detached_keep_seconds=1.0))
    session = world.session()
    first, second = world.call(session, detach=True), world.call(session, detach=True)
    world.returns()
    world.returns()
    world.wait(2.0)
    assert "unknown to this daemon" in world.attach(first).final.message
    assert "no longer kept" in world.attach(second).final.message


def test_a_call_can_be_looked_at_from_its_arrival_until_it_is_gone() -> None:
    world = World(Limits(detached_keep_seconds=20.0))
    heard = world.call("new", "count", detach=True, by="ann")
    id = heard.call.id.hex()
    world.leave("ann")
    world.yields()
    view = world.broker.call_view(id)
    assert view is not None
    assert (view.state, view.detached, view.parts, view.first_part) == ("running", True, 1, 0)
    world.returns(b"")
    view = world.broker.call_view(id)
    assert view is not None and [view] == world.broker.detached_views()
    assert (view.state, view.code, view.ran, view.parts) == ("done", None, "yes", 1)
    assert (view.session, view.function, view.since) == (heard.session, "count", world.now)
    world.wait(21.0)
    assert world.broker.call_view(id) is None and world.broker.detached_views() == []


def test_of_the_calls_that_are_kept_the_newest_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "LISTED", 1)
    world = World()
    running = world.call(world.session(), detach=True)
    session = world.session()
    ended = [world.call(session, detach=True) for _ in range(3)]
    for _ in ended:
        world.returns()
    listed = [view.id for view in world.broker.detached_views()]
    assert listed == [running.call.id.hex(), ended[-1].call.id.hex()]


def test_how_it_failed_can_be_looked_at() -> None:
    world = World(holds={fx.LookUp})
    heard = world.call("new", detach=True)
    world.missing(Problem("APP_NOT_FOUND", "there is no app 'counter'"))
    view = world.broker.call_view(heard.call.id.hex())
    assert view is not None and (view.code, view.ran) == ("APP_NOT_FOUND", "no")


def test_a_call_that_is_not_detached_is_not_listed() -> None:
    world = World()
    heard = world.call(world.session())
    view = world.broker.call_view(heard.call.id.hex())
    assert view is not None and not view.detached and world.broker.detached_views() == []


def test_an_ordinary_call_costs_the_keep_nothing() -> None:
    world = World()
    heard = world.call(world.session(), "count", window=2)
    world.yields()
    world.returns(b"")
    keep = world.broker._book.keep
    assert heard.code == "ok" and not (keep.calls or keep.readers or keep.graves or keep.bytes)


def test_parts_and_ends_are_told_in_their_order() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    world.yields()
    world.yields()
    world.returns(b"")
    before = len(world.effects)
    world.attach(heard, 0)
    told = [type(effect.message) for _, effect in world.effects[before:] if isinstance(effect, fx.Send)]
    assert told[1:] == [Part, Part, Result]


def test_memory_that_is_lent_is_kept_as_such_and_a_view_of_a_message_is_copied() -> None:
    message = bytearray(b"body" + b"x" * 100)
    view = memoryview(message)
    kept = owned(Parcel(view[:4], view[4:14]))
    assert isinstance(kept, Parcel)
    assert (kept.body, kept.region) == (b"body", b"x" * 10)
    message[:] = bytes(len(message))
    assert (kept.body, kept.region) == (b"body", b"x" * 10)
    lent = Leaves()
    again = owned(Parcel(b"body", lent))
    assert isinstance(again, Parcel)
    assert again.region is lent


def test_a_value_whose_data_lie_apart_counts_as_a_whole() -> None:
    world = bounded(10_000)
    heard = world.call(world.session(), detach=True)
    world.returns(Parcel(b"body", bytes(5000)))  # type: ignore[arg-type]
    world.broker.check()
    assert 5004 < world.broker._book.keep.bytes < 10_000
    assert heard.final is not None


def test_what_is_too_large_by_itself_is_said_to_be() -> None:
    world = bounded(10_000)
    heard = world.call(world.session(), detach=True)
    world.returns(bytes(20_000))
    told = world.attach(heard).final.message
    assert "10000 bytes in all (detached_max_bytes), and it gave more than that by itself" in told
