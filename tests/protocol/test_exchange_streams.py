"""Streams and large data in the client's half of a conversation."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.conversing import SESSION, Carrier, Wire, call, numbers
from warmd.protocol.described import Described, copy_bytes
from warmd.protocol.messages import (
    WINDOW_BYTES,
    Attach,
    CallId,
    Credit,
    Failure,
    FromDaemon,
    HandBack,
    Lent,
    Part,
    Parts,
    Result,
)
from warmd.protocol.parcels import Leaves, Parcel
from warmd.protocol.wire import MAX_HEADER_BYTES, WireError


def test_credit_goes_back_when_half_the_window_was_taken() -> None:
    wire = Wire()
    pending = wire.stream(window=4)
    for number in range(4):
        wire.say(Part(pending.id, number, b"v"))
    assert wire.sent() == []
    wire.exchange.take(pending)
    assert wire.sent() == []
    wire.exchange.take(pending)
    assert wire.sent() == [Credit(pending.id, 2)]


def test_credit_goes_back_when_half_of_the_bytes_were_taken() -> None:
    wire = Wire()
    pending = wire.stream(window=100)
    for number in range(3):
        wire.say(Part(pending.id, number, bytes(WINDOW_BYTES // 4)))
    wire.exchange.take(pending)
    assert wire.sent() == []
    wire.exchange.take(pending)
    assert wire.sent() == [Credit(pending.id, 2)]
    wire.exchange.take(pending)
    assert wire.sent() == []


def test_parts_that_came_together_are_taken_one_by_one() -> None:
    wire = Wire()
    pending = wire.stream(window=100)
    changes: list[int] = []
    pending.watchers.append(lambda: changes.append(len(pending.parts)))
    wire.say(Parts(pending.id, 0, [1, 0, 2], b"abb"))
    wire.say(Part(pending.id, 3, b"c"))
    assert changes[-1] == 4
    taken = [wire.exchange.take(pending) for _ in range(4)]
    assert [(part.number, bytes(part.value)) for part in taken if part] == [
        (0, b"a"), (1, b""), (2, b"bb"), (3, b"c"),
    ]  # fmt: skip
    wire.say(Parts(pending.id, 5, [1], b"x"))
    assert pending.problem is not None
    assert "part 5 came instead of 4" in pending.problem.message


@pytest.mark.parametrize("sizes", [[1, 1], [4], [-1, 4]])
def test_sizes_that_are_not_those_of_the_values_end_the_connection(sizes: list[int]) -> None:
    wire = Wire()
    pending = wire.stream()
    with pytest.raises(WireError):
        wire.say(Parts(pending.id, 0, sizes, b"abc"))


def test_memory_that_was_read_is_handed_back_and_ours_comes_back() -> None:
    wire = Wire()
    carrier = Carrier()
    wire.exchange.carrier = carrier
    pending = wire.call(input=Parcel(b"body", Leaves()))
    wire.say(HandBack([7], [8]))
    assert (carrier.back, carrier.left) == ([7], [8])
    wire.say(Result(pending.id, SESSION, value=b"body", lent=Lent(3, 10)))
    assert pending.result is not None
    assert isinstance(pending.result.value, Parcel)
    assert pending.result.value.region is carrier.borrowed[3]
    wire.exchange.hand_back(HandBack([3]))
    assert wire.sent() == [HandBack([3])]
    wire.exchange.connection_lost("it is gone", 0.0)
    wire.exchange.hand_back(HandBack([4]))
    assert wire.sent() == []


def test_memory_is_lent_for_a_call_and_taken_back_when_that_cannot_be_said() -> None:
    wire = Wire()
    carrier = Carrier()
    wire.exchange.carrier = carrier
    wire.exchange.begin(call(input=Parcel(b"body", Leaves())), 0.0, None)
    (sent,) = wire.sent()
    assert (sent.input, sent.lent) == (b"body", Lent(1, 0))
    refused = wire.call(input=Parcel(b"body", Leaves()), function="f" * MAX_HEADER_BYTES)
    assert refused.problem is not None
    assert refused.problem.code == "INVALID"
    assert carrier.back == [2]


def test_without_a_lane_large_data_go_along_and_a_lent_result_is_nonsense() -> None:
    wire = Wire()
    leaves = Leaves()
    leaves.add(Described(0, b"", 4, partial(copy_bytes, b"data")))
    wire.exchange.begin(call(input=Parcel(b"body", leaves)), 0.0, None)
    (sent,) = wire.sent()
    assert (sent.input, sent.lent, sent.region) == (b"body", None, b"data")
    with pytest.raises(WireError, match="no lane"):
        wire.say(Result(sent.id, SESSION, lent=Lent(1, 1)))


def test_no_credit_is_given_to_a_stream_that_has_ended() -> None:
    wire = Wire()
    pending = wire.stream(window=2)
    wire.say(Part(pending.id, 0))
    wire.say(Part(pending.id, 1))
    wire.say(Result(pending.id, SESSION, parts=2))
    assert numbers(wire, pending) == [0, 1]
    assert wire.sent() == []


def test_parts_before_a_failure_can_still_be_taken() -> None:
    wire = Wire()
    pending = wire.stream()
    wire.say(Part(pending.id, 0))
    wire.say(Failure(pending.id, SESSION, "APP_ERROR", "boom", "yes"))
    assert pending.done
    assert numbers(wire, pending) == [0]


@pytest.mark.parametrize("ending", [Part(CallId(b""), 2), None])
def test_a_broken_stream_never_looks_like_its_end(ending: Part | None) -> None:
    wire = Wire()
    pending = wire.stream()
    wire.say(Part(pending.id, 0))
    wire.say(Result(pending.id, SESSION, parts=2) if ending is None else Part(pending.id, 2))
    assert pending.result is None
    assert pending.problem is not None
    assert (pending.problem.code, pending.problem.ran) == ("DAEMON_LOST", "maybe")
    assert "broken" in pending.problem.message


def test_an_attachment_begins_at_its_offset_and_must_be_whole_from_there() -> None:
    for parts in (7, 8):
        wire, attach = Wire(), Attach(CallId(b"a" * 16), CallId(b"c" * 16), 5, 4)
        pending = wire.exchange.begin(attach, 0.0, None)
        assert wire.sent() == [attach] and pending.call == attach.call
        for number in (4, 5, 6):
            wire.say(Part(attach.id, number, b"x"))
        wire.say(Result(attach.id, SESSION, parts))
        assert numbers(wire, pending) == [5, 6] and (pending.result is not None) == (parts == 7)


# Ctrl-C can strike between the hand-over of a message and the note that it was handed over; then
# it is handed over again.
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    repeats=st.lists(st.booleans(), max_size=60),
    window=st.integers(1, 5),
)
def test_streams_are_whole_in_any_interleaving_and_with_any_message_handed_over_twice(
    counts: list[int], repeats: list[bool], window: int
) -> None:
    wire = Wire()
    streams = [wire.stream(window=window) for _ in counts]
    credit = dict.fromkeys((one.id for one in streams), window)
    said = dict.fromkeys(credit, 0)
    taken: dict[CallId, list[int]] = {one: [] for one in credit}
    twice = iter(repeats)

    def say(message: FromDaemon) -> None:
        wire.say(message)
        if next(twice, False):
            wire.say(message)

    while not all(one.done and not one.parts for one in streams):
        for count, stream in zip(counts, streams, strict=True):
            if stream.done:
                pass
            elif said[stream.id] == count:
                say(Result(stream.id, SESSION, parts=count))
            elif credit[stream.id]:
                say(Part(stream.id, said[stream.id]))
                said[stream.id] += 1
                credit[stream.id] -= 1
            taken[stream.id] += numbers(wire, stream)
        for message in wire.sent():
            assert isinstance(message, Credit)
            credit[message.id] += message.parts
            assert credit[message.id] <= window
    assert [taken[one.id] for one in streams] == [list(range(count)) for count in counts]
    assert all(one.result is not None for one in streams)


