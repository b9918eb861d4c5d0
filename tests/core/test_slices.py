"""Readers of detached calls are told no more than a slice in one event, and the rest in turn."""

from __future__ import annotations

import pytest

from tests.core.fakes import Heard, Reading
from tests.core.world import World
from warmd.daemon.core import policy
from warmd.daemon.core.policy import Limits

SLICE = 2
LARGE = b"v" * 5000


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "TOLD_AT_ONCE_BYTES", SLICE * policy.TOLD_PART_BYTES)


def streamed(world: World, parts: int, by: str = "ann") -> Heard:
    """A detached call that is over."""
    heard = world.call(world.session(), "count", detach=True, by=by)
    for _ in range(parts):
        world.yields()
    world.returns(b"")
    return heard


def told(*readings: Reading) -> list[int]:
    return [len(reading.parts) for reading in readings]


def test_much_that_is_kept_is_told_in_slices_and_then_its_end() -> None:
    world = World()
    reading = world.attach(streamed(world, 5), window=9)
    for count in (2, 4, 5):
        assert told(reading) == [count]
        assert reading.open == (count < 5)
        world.wait_for_deadline()
    assert reading.code == "ok"


def test_a_slice_is_for_all_who_wait_each_in_turn() -> None:
    world = World()
    heard = streamed(world, 3)
    first = world.attach(heard, window=9)
    second, third = world.attach(heard, window=9), world.attach(heard, window=9, by="cid")
    assert told(first, second, third) == [2, 0, 0], "the others wait behind the first"
    world.wait_for_deadline()
    assert told(first, second, third) == [3, 0, 0] and first.code == "ok"
    world.wait_for_deadline()
    assert told(second, third) == [2, 0]
    world.wait_for_deadline()
    assert told(second, third) == [2, 2], "not the same again before the next"
    world.wait(1.0)
    assert second.code == third.code == "ok"


def test_what_is_new_reaches_who_has_all_before_it_at_once() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    live = world.attach(heard, window=99, by="cid")
    for _ in range(5):
        world.yields()
    late = world.attach(heard, window=99)
    world.yields()
    assert told(live, late) == [6, 2]
    world.returns(b"")
    assert live.code == "ok" and late.open
    world.wait(1.0)
    assert late.code == "ok"


def test_credit_is_served_in_turn_too() -> None:
    world = World()
    heard = streamed(world, 5)
    some = world.attach(heard, window=0)
    much = world.attach(heard, window=9, by="cid")
    world.read_on(some, 1)
    assert told(some, much) == [0, 2]
    world.wait(1.0)
    assert told(some, much) == [1, 5]
    world.read_on(some, 4)
    assert told(some) == [3], "nobody else waits"


def test_an_attachment_without_news_does_not_wait_in_the_queue() -> None:
    world = World()
    heard = streamed(world, 5)
    world.attach(heard, window=9)
    idle = world.attach(heard, window=0, by="cid")
    (waiting,) = world.broker._book.keep.unserved
    assert waiting.credit and idle.open


@pytest.mark.parametrize("how", ["leaves", "reads no more", "falls behind", "is over"])
def test_who_goes_while_it_waits_is_told_no_more(how: str) -> None:
    world = World(Limits(detached_keep_seconds=5.0))
    heard = streamed(world, 5)
    reading = world.attach(heard, window=9)
    if how == "leaves":
        world.leave("bob")
    elif how == "reads no more":
        world.read_no_more(reading)
    elif how == "falls behind":
        world.falls_behind("bob")
    else:
        world.drain(0.0)
    assert world.stopped == (how == "is over")
    if not world.stopped:
        world.wait(1.0)
    assert told(reading) == [2]
    if how == "falls behind":
        assert world.attach(heard, window=0).open
        world.catches_up("bob")
        world.wait(1.0)
        assert reading.code == "ok"


def test_who_has_caught_up_is_given_what_waited_a_slice_at_a_time() -> None:
    """All of it at once would be more than it may have unread."""
    world = World()
    session = world.session()
    world.falls_behind("ann")
    calls = [world.call(session, detach=True, by="cid") for _ in range(6)]
    readings = [world.attach(heard, window=None, by="ann") for heard in calls]
    for _ in calls:
        world.returns(LARGE)
    world.catches_up("ann")
    given = [reading.code for reading in readings]
    assert 0 < given.count("ok") < 6
    world.falls_behind("ann")
    world.wait(1.0)
    assert [reading.code for reading in readings] == given, "it is behind again"
    world.catches_up("ann")
    world.wait(1.0)
    assert [reading.code for reading in readings] == ["ok"] * 6


def test_a_rule_that_fails_costs_whose_turn_it_was_its_answer_and_the_others_nothing() -> None:
    world = World()
    heard = streamed(world, 5)
    first, second = world.attach(heard, window=9), world.attach(heard, window=9, by="cid")
    world.sabotage = "early"
    world.wait_for_deadline()
    assert (first.code, second.open) == ("INTERNAL", True)
    world.wait(1.0)
    assert second.code == "ok"


def test_many_parts_make_room_for_a_large_one_in_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmd.daemon.core.parts.BLOCK", 4)
    cost = policy.KEPT_PART_BYTES + len(b"part")
    world = World(Limits(detached_max_bytes=20 * cost))
    heard = world.call(world.session(), "count", detach=True)
    for _ in range(20):
        world.yields()
    costs = [(1, 1), (12, 13), (1, 14), (20, 23), (21, 25), (1, 25), (19, 25), (1, 26)]
    for times, first in costs:
        world.yields(b"x" * (times * cost - policy.KEPT_PART_BYTES))
        view = world.broker.call_view(heard.call.id.hex())
        assert view is not None and view.first_part == first


def test_a_large_view_is_kept_as_it_came_and_a_small_one_copied() -> None:
    world = World()
    world.call(world.session(), "count", detach=True)
    message = memoryview(bytearray(100_000))
    for size in (99_900, 50_000):
        world.yields(message[100 : 100 + size])  # type: ignore[arg-type]
    (kept,) = world.broker._book.keep.calls.values()
    assert [type(kept.parts.get(number)) for number in range(2)] == [memoryview, bytes]
