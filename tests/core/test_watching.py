"""Hearing how far a call is: the latest when there is room for it, and the end when it ends."""

from __future__ import annotations

import pytest

from tests.core.world import World, client
from warmd.daemon.core import events as ev
from warmd.daemon.core.policy import MAX_READERS, MAX_WATCHED, Limits
from warmd.protocol import work


def progressing(world: World, value: bytes, worker: int = 1) -> None:
    world.says(work.Progressed(world.running(worker).ordinal, value), worker)


@pytest.fixture
def world() -> World:
    return World(Limits(max_stream_window=5))


def test_a_reader_hears_the_latest_and_then_the_end(world: World) -> None:
    call = world.call()
    watching = world.watch(call, window=2)
    assert watching.parts == []
    progressing(world, b"one")
    progressing(world, b"two")
    progressing(world, b"three")
    assert watching.parts == [b"one", b"two"]
    progressing(world, b"four")
    world.read_on(watching, 1)
    assert watching.parts == [b"one", b"two", b"four"]
    world.read_on(watching, 1)
    assert len(watching.parts) == 3, "nothing is told twice"
    world.returns()
    assert watching.code == "ok"
    assert watching.final.session == call.session


def test_who_comes_late_hears_at_once_how_far_it_is(world: World) -> None:
    call = world.call()
    progressing(world, b"half")
    assert world.watch(call).parts == [b"half"]


def test_a_call_can_be_watched_before_it_runs(world: World) -> None:
    first = world.call()
    waiting = world.call(first.session)
    watching = world.watch(waiting)
    progressing(world, b"of the first")
    assert watching.parts == []
    world.returns()
    progressing(world, b"of the second")
    assert watching.parts == [b"of the second"]


@pytest.mark.parametrize("how", ["raises", "exits"])
def test_it_ends_well_however_the_call_ends(world: World, how: str) -> None:
    watching = world.watch(world.call())
    getattr(world, how)()
    assert watching.code == "ok"


def test_of_a_call_that_has_ended_there_is_nothing_to_hear(world: World) -> None:
    kept = world.call(detach=True)
    world.returns()
    assert world.watch(kept).code == "ok"
    gone = world.call()
    world.returns(worker=2)
    assert world.watch(gone).code == "CALL_GONE"


def test_a_reader_that_leaves_leaves_the_call_alone(world: World) -> None:
    call = world.call()
    watching = world.watch(call)
    world.read_no_more(watching)
    assert watching.code == "CANCELLED"
    progressing(world, b"unheard")
    assert call.open


def test_one_of_several_that_a_client_watches_may_end(world: World) -> None:
    first, second = world.call(), world.call()
    watchings = [world.watch(first), world.watch(second)]
    world.returns(worker=1)
    progressing(world, b"half", worker=2)
    assert [watching.code for watching in watchings] == ["ok", ""]
    assert watchings[1].parts == [b"half"]


def test_clients_that_go_or_do_not_read(world: World) -> None:
    call = world.call()
    gone, slow = world.watch(call, by="bob"), world.watch(call, by="cat")
    world.leave("bob")
    world.falls_behind("cat")
    progressing(world, b"one")
    assert gone.parts == slow.parts == []
    world.catches_up("cat")
    assert slow.parts == [b"one"]


@pytest.mark.parametrize("window", [None, -1, 6])
def test_a_window_out_of_bounds(world: World, window: int | None) -> None:
    watching = world.watch(world.call(), window)
    assert watching.code == "INVALID"
    assert f"window is {window}: give the number of values to be told now, 0 to 5" in watching.final.message


def test_an_id_that_is_in_use(world: World) -> None:
    call = world.call()
    watching = world.watch(call)
    (id,) = (id for (_, id), found in world.readings.items() if found is watching)
    effects = world.broker.handle(ev.WatchArrived(client("bob"), id, call.call.id, 1), world.now)
    assert effects[0].message.code == "INVALID"
    effects = world.broker.handle(ev.WatchArrived(client("bob"), call.call.id, call.call.id, 1), world.now)
    assert effects[0].message.code == "INVALID"


def test_no_more_than_so_many() -> None:
    world = World(Limits(max_queue=MAX_WATCHED + 2))
    first = world.call()
    for number in range(MAX_READERS):
        assert world.watch(first, by=f"reader {number}").open
    assert world.watch(first).code == "QUEUE_FULL"
    others = [world.call(first.session) for _ in range(MAX_WATCHED + 1)]
    codes = [world.watch(call, by="ann").code for call in others]
    assert codes == [""] * MAX_WATCHED + ["QUEUE_FULL"]


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_fault_of_the_rule_is_told_to_its_reader_alone(world: World, when: str) -> None:
    call = world.call()
    world.sabotage = when  # type: ignore[assignment]
    assert world.watch(call).code in ("INTERNAL", "CANCELLED")
    world.returns()
    assert call.code == "ok"
