"""Calls that outlive their client: how they run, end, are read and repeated."""

from __future__ import annotations

import pytest

from tests.core.world import World, client
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core import policy
from warmd.daemon.core.policy import DETACHED_WINDOW, Limits
from warmd.protocol import work
from warmd.protocol.messages import Attach, Call, CallId, Failure, Result

# A client that leaves


def test_its_caller_is_answered_as_ever() -> None:
    world = World()
    session = world.session()
    heard = world.call(session, detach=True)
    world.returns(b"value")
    assert isinstance(heard.final, Result)
    assert (heard.final.value, heard.final.session, heard.final.parts) == (b"value", session, 0)


def test_a_new_session_is_told_to_the_caller() -> None:
    heard = World().call("new", detach=True)
    assert heard.accepted is not None and heard.accepted.session == heard.session


def test_it_runs_on_when_its_client_has_left_and_another_gets_the_result() -> None:
    world = World()
    heard = world.call(world.session(), detach=True, by="ann")
    world.leave("ann")
    world.returns(b"value")
    reading = world.attach(heard, window=None)
    assert isinstance(reading.final, Result) and reading.final.value == b"value"


def test_it_keeps_its_place_in_the_queue_when_its_client_has_left() -> None:
    world = World()
    session = world.session()
    world.call(session, by="bob")
    heard = world.call(session, detach=True, by="ann")
    last = world.call(session, by="bob")
    world.leave("ann")
    world.returns()
    assert heard.worker is not None
    world.returns()
    world.returns()
    assert last.code == "ok"


def test_in_the_pool_too() -> None:
    world = World()
    heard = world.call(None, detach=True, by="ann")
    world.leave("ann")
    world.returns(b"value")
    assert world.attach(heard, window=None).code == "ok"


def test_a_stream_does_not_wait_for_readers() -> None:
    world = World()
    world.call(world.session(), "count", detach=True)
    for _ in range(5 * DETACHED_WINDOW):
        world.yields()
    world.returns()


def test_a_failure_is_kept_like_a_result() -> None:
    world = World()
    heard = world.call(world.session(), detach=True, by="ann")
    world.leave("ann")
    world.raises()
    reading = world.attach(heard)
    assert isinstance(reading.final, Failure)
    assert (reading.final.code, reading.final.ran) == ("APP_ERROR", "yes")
    assert reading.final.details["traceback"] == "Traceback ..."


def test_a_death_is_kept_like_a_result() -> None:
    world = World()
    heard = world.call(world.session(), detach=True, by="ann")
    world.leave("ann")
    world.exits(signal="SIGSEGV")
    reading = world.attach(heard, window=None)
    assert isinstance(reading.final, Failure) and reading.final.details["signal"] == "SIGSEGV"


def test_its_deadline_holds_without_a_client() -> None:
    world = World()
    heard = world.call(world.session(), detach=True, by="ann", timeout_seconds=5.0)
    world.leave("ann")
    world.wait(7.0)
    assert world.attach(heard, window=None).code == "TIMEOUT"


def test_what_is_refused_is_not_kept() -> None:
    world = World()
    heard = world.call(world.session(), "_private", detach=True)
    assert heard.code == "FUNCTION_NOT_FOUND"
    assert world.attach(heard).code == "CALL_GONE"


def test_it_has_no_window_of_its_own() -> None:
    heard = World().call("new", detach=True, window=3)
    assert heard.code == "INVALID" and "attach" in heard.final.message


# Its end


def test_its_caller_may_cancel_it() -> None:
    world = World()
    heard = world.call(world.session(), detach=True)
    world.cancel(heard)
    world.obeys()
    assert heard.code == "CANCELLED"


@pytest.mark.parametrize("runs", [True, False])
def test_anybody_may_cancel_it_by_its_id(runs: bool) -> None:
    world = World()
    session = world.session()
    if not runs:
        world.call(session, by="bob")
    heard = world.call(session, detach=True, by="ann")
    world.leave("ann")
    world.stop_call(heard)
    if runs:
        world.obeys()
    reading = world.attach(heard, window=None)
    assert isinstance(reading.final, Failure)
    assert (reading.code, reading.final.ran) == ("CANCELLED", "maybe" if runs else "no")
    world.stop_call(heard)


def test_a_caller_that_abandons_it_only_hears_no_more() -> None:
    world = World()
    heard = world.call(world.session(), detach=True)
    world.cancel(heard, "abandon")
    assert heard.code == "CANCELLED" and "goes on" in heard.final.message
    world.returns()
    assert world.attach(heard, window=None).code == "ok"


def test_a_reader_that_leaves_ends_nothing() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    reading = world.attach(heard)
    world.read_no_more(reading)
    assert reading.code == "CANCELLED" and "goes on" in reading.final.message
    world.attach(heard, by="bob")
    world.leave("bob")
    world.yields()
    world.returns()
    assert heard.code == "ok"


def test_a_drain_tells_its_readers() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    reading, slow = world.attach(heard), world.attach(heard, window=0)
    world.yields()
    world.drain(5.0)
    assert reading.open
    world.wait(7.0)
    assert world.stopped
    assert (reading.code, heard.code, slow.code) == ("CANCELLED", "CANCELLED", "CALL_GONE")
    assert "the daemon was stopped" in slow.final.message
    world.assert_over()


# Reading


def test_readers_read_on_from_where_they_want() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True, by="ann")
    for text in (b"0", b"1", b"2"):
        world.yields(text)
    world.leave("ann")
    early, late = world.attach(heard, 1), world.attach(heard, 3)
    world.yields(b"3")
    world.returns(b"")
    assert (early.parts, late.parts) == ([b"1", b"2", b"3"], [b"3"])
    assert world.attach(heard, 2).parts == [b"2", b"3"]
    assert world.attach(heard, 4).code == "ok"


def test_a_reader_is_told_the_session() -> None:
    world = World(holds={fx.LookUp})
    heard = world.call("new", detach=True)
    reading = world.attach(heard)
    assert reading.accepted is None
    world.found()
    assert reading.accepted is not None and reading.accepted.session == heard.session
    assert world.attach(heard).accepted is not None


def test_a_reader_has_its_own_credit() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    slow, quick = world.attach(heard, window=1), world.attach(heard, window=9)
    for _ in range(3):
        world.yields()
    world.returns(b"")
    assert (len(slow.parts), len(quick.parts)) == (1, 3) and slow.open and quick.code == "ok"
    world.read_on(slow, 1)
    assert len(slow.parts) == 2 and slow.open
    world.read_on(slow, 1)
    assert slow.code == "ok"


def test_without_a_window_the_last_value_is_the_result() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    reading = world.attach(heard, window=None)
    world.yields(b"first")
    world.yields(b"last")
    world.returns(b"")
    for final in (heard.final, reading.final):
        assert isinstance(final, Result) and (final.value, final.parts) == (b"last", 0)


def test_a_generator_that_yields_nothing_has_none_as_its_result() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    world.returns(b"")
    assert isinstance(heard.final, Result) and heard.final.value == b"\xc0"


@pytest.mark.parametrize(
    ("offset", "window", "says"), [(-1, 1, "0 to 2"), (1, None, "window"), (0, -1, "-1")]
)
def test_an_odd_attachment_is_refused(offset: int, window: int | None, says: str) -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    world.yields()
    world.yields()
    reading = world.attach(heard, offset, window)
    assert reading.code == "INVALID" and says in reading.final.message


def test_a_reader_may_wait_for_a_part_that_is_yet_to_come() -> None:
    world = World()
    heard = world.call(world.session(), "count", detach=True)
    reading, beyond = world.attach(heard, 2), world.attach(heard, 4)
    for text in (b"0", b"1", b"2"):
        world.yields(text)
    world.returns(b"")
    assert (reading.parts, reading.code) == ([b"2"], "ok")
    for found in (beyond, world.attach(heard, 4)):
        assert found.code == "INVALID" and "0 to 3" in found.final.message


def test_a_failure_is_told_to_who_waits_beyond_it() -> None:
    world = World()
    reading = world.attach(world.call(world.session(), "count", detach=True), 4)
    world.raises()
    assert reading.code == "APP_ERROR"


def test_a_call_that_is_not_detached_has_one_reader() -> None:
    world = World()
    heard = world.call(world.session())
    reading = world.attach(heard)
    assert reading.code == "INVALID" and "detach" in reading.final.message


def test_readers_are_bounded() -> None:
    world = World()
    heard = world.call(world.session(), detach=True)
    for _ in range(policy.MAX_READERS - 1):
        world.attach(heard)
    assert world.attach(heard).code == "QUEUE_FULL"


def test_an_attachment_that_is_said_twice_is_one() -> None:
    world = World()
    heard = world.call(world.session(), detach=True)
    reading = world.attach(heard)
    ((_, id),) = world.readings
    assert world.tell(ev.AttachArrived(client("bob"), Attach(id, heard.call.id, 0, 4))) == []
    world.returns()
    assert reading.code == "ok"


def test_an_attachment_cannot_take_the_id_of_a_call() -> None:
    world = World()
    heard = world.call(world.session(), detach=True)
    taken = world.call(world.session(), by="bob")
    (effect,) = world.broker.handle(
        ev.AttachArrived(client("cat"), Attach(taken.call.id, heard.call.id, 0, 4)), world.now
    )
    assert isinstance(effect, fx.Send) and effect.message.code == "INVALID"


# Repetitions


def test_a_repetition_runs_no_second_time() -> None:
    world = World()
    heard = world.call(world.session(), detach=True, by="ann")
    assert world.tell(ev.CallArrived(client("ann"), heard.call, "f" * 32)) == []
    world.leave("ann")
    reading = world.attach(heard, by="bob", again=True)
    world.returns(b"value")
    late = world.attach(heard, by="cat", again=True)
    for final in (reading.final, late.final):
        assert isinstance(final, Result) and final.value == b"value"
    invoked = [e for e in world.ordered(fx.Tell) if isinstance(e.message, work.Invoke)]
    assert len(invoked) == 1


def test_a_repetition_is_accepted_too() -> None:
    world = World()
    heard = world.call("new", detach=True, by="ann")
    world.leave("ann")
    reading = world.attach(heard, by="ann", again=True)
    assert reading.accepted is not None and reading.accepted.session == heard.session


def test_a_repetition_may_cancel_the_call() -> None:
    world = World()
    heard = world.call(world.session(), detach=True, by="ann")
    world.leave("ann")
    reading = world.attach(heard, by="bob", again=True)
    world.tell(ev.CancelArrived(client("bob"), heard.call.id, "cancel"))
    world.obeys()
    assert reading.code == "CANCELLED"


def test_a_repetition_after_what_was_kept_is_gone_runs_no_second_time_either() -> None:
    world = World(Limits(detached_keep_seconds=20.0))
    heard = world.call(world.session(), detach=True)
    world.returns()
    world.wait(21.0)
    assert world.attach(heard, again=True).code == "CALL_GONE"


def test_its_id_is_good_for_no_call_of_another_kind() -> None:
    world = World()
    session = world.session()
    heard = world.call(session, detach=True)
    world.returns(b"value")
    again = world.call(session, id=heard.call.id)
    assert again.code == "INVALID" and again.worker is None
    assert world.attach(heard, window=None).code == "ok"


@pytest.mark.parametrize("detach", [False, True])
def test_the_id_of_an_attachment_is_good_for_no_call(detach: bool) -> None:
    world = World()
    session = world.session()
    heard = world.call(session, detach=True)
    reading = world.attach(heard, by="bob", window=None)
    (id,) = [id for (who, id), known in world.readings.items() if known is reading]
    called = Call(id, session, None, "run", detach=detach)
    assert world.tell(ev.CallArrived(client("bob"), called, "f" * 32)) == []
    world.returns(b"value")
    assert reading.code == "ok"


def test_a_repetition_is_one_reader_more() -> None:
    world = World()
    heard = world.call(world.session(), detach=True)
    for _ in range(policy.MAX_READERS - 1):
        world.attach(heard)
    assert world.attach(heard, by="cat", again=True).code == "QUEUE_FULL"


def test_the_id_of_a_call_that_never_was() -> None:
    world = World()
    never = Call(CallId(b"x" * 16), None, None, "run")
    (effect,) = world.broker.handle(ev.AttachArrived(client("bob"), Attach(never.id, never.id, 0, 1)), 5.0)
    assert isinstance(effect, fx.Send) and effect.message.code == "CALL_GONE"


def test_a_reader_with_too_large_a_window_is_told_the_limit() -> None:
    world = World(Limits(max_stream_window=100))
    call = world.call(world.session(), detach=True)
    refused = world.attach(call, window=101)
    assert refused.code == "INVALID"
    assert "101" in refused.final.message and "max_stream_window" in refused.final.message
