"""Frames on a byte stream: whole however they are cut, bounded whatever they claim."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.by_hint import messages_of
from warmd.protocol import work
from warmd.protocol.stream import PREFIX, STAGING_BYTES, Inbox, marked_off
from warmd.protocol.wire import FROM_WORKER, MAX_HEADER_BYTES, WireError

LIMIT = 2**20
# Around the sizes where the code takes another path: joined sends, the staging buffer, a header's limit.
SIZES = st.one_of(
    st.integers(0, 40),
    st.integers(4080, 4100),
    st.integers(STAGING_BYTES - 20, STAGING_BYTES + 20),
    st.integers(0, 200_000),
)
HEADER_SIZES = st.one_of(st.integers(1, 60), st.integers(MAX_HEADER_BYTES - 20, MAX_HEADER_BYTES))


@st.composite
def frames_of_a_message(draw: st.DrawFn) -> list[bytes]:
    """A header and up to two bodies, each filled with a byte of its own."""
    bodies = draw(st.lists(SIZES, max_size=2))
    while bodies and not bodies[-1]:
        bodies.pop()
    sizes = [draw(HEADER_SIZES), *bodies]
    return [bytes([65 + at]) * size for at, size in enumerate(sizes)]


def bytes_of(messages: list[list[bytes]]) -> bytes:
    return b"".join(bytes(buffer) for frames in messages for buffer in marked_off(frames))


def receive(inbox: Inbox, data: bytes, count: int) -> list[list[bytes]]:
    """What `recv_into` does: at most `count` bytes, and no more than the inbox asks for."""
    room = inbox.buffer()
    taken = min(count, len(room), len(data))
    room[:taken] = data[:taken]
    return [[bytes(frame) for frame in frames] for frames in inbox.received(taken)]


@given(st.lists(frames_of_a_message(), max_size=4), st.data())
def test_messages_arrive_whole_in_chunks_of_any_size(sent: list[list[bytes]], data: st.DataObject) -> None:
    inbox, stream, got = Inbox(LIMIT), bytes_of(sent), []
    sizes = data.draw(
        st.lists(st.one_of(st.integers(1, 30), st.integers(1, 300_000)), min_size=1, max_size=8)
    )
    at, turn = 0, 0
    while at < len(stream):
        # After the drawn sizes come large ones, so that the number of steps stays bounded.
        count = min(sizes[turn] if turn < len(sizes) else 300_000, len(inbox.buffer()), len(stream) - at)
        got += receive(inbox, stream[at : at + count], count)
        at, turn = at + count, turn + 1
    assert got == sent


@given(st.lists(frames_of_a_message(), max_size=3), st.integers(0, 200_000))
def test_bytes_fed_from_elsewhere_join_those_received(sent: list[list[bytes]], cut: int) -> None:
    inbox, stream = Inbox(LIMIT), bytes_of(sent)
    got = inbox.feed(stream[:cut]) + inbox.feed(stream[cut:])
    assert [[bytes(frame) for frame in frames] for frames in got] == sent


def test_one_byte_at_a_time() -> None:
    sent = [[b"h"], [b"head", b"", b"second"], [b"H" * 300, b"body"]]
    inbox = Inbox(LIMIT)
    stream = bytes_of(sent)
    got = [frames for at in range(len(stream)) for frames in receive(inbox, stream[at : at + 1], 1)]
    assert got == sent


@given(st.data())
def test_a_message_of_the_protocol_crosses(data: st.DataObject) -> None:
    message = data.draw(messages_of(work.Yielded))
    (frames,) = Inbox(LIMIT).feed(bytes_of([FROM_WORKER.pack(message)]))
    assert FROM_WORKER.unpack(frames) == message


def test_small_messages_go_out_as_one_buffer_and_large_bodies_uncopied() -> None:
    assert len(marked_off([b"header", b"x" * 4000])) == 1
    body = b"x" * 100_000
    assert marked_off([b"header", body])[1] is body


def test_the_prefix_is_as_documented() -> None:
    assert marked_off([b"ab", b"cde"])[0] == bytes.fromhex("02000000 03000000 00000000") + b"abcde"


def test_a_large_body_is_received_into_memory_of_its_own() -> None:
    """Once its size is known, nothing of it goes through the staging buffer or is copied again."""
    inbox, body = Inbox(LIMIT), b"b" * 500_000
    stream = bytes_of([[b"header", body]])
    assert receive(inbox, stream[:100], 100) == []
    assert len(inbox.buffer()) == len(stream) - 100
    room = inbox.buffer()
    room[:] = stream[100:]
    ((_, received),) = inbox.received(len(room))
    assert received == body
    room[-1:] = b"!"
    assert bytes(received[-1:]) == b"!", "the body lies where it was received"


def test_what_was_received_survives_the_next_message() -> None:
    """Small bodies are copied out of the staging buffer, which is used again."""
    inbox = Inbox(LIMIT)
    ((_, first),) = inbox.feed(bytes_of([[b"h", b"first"]]))
    inbox.feed(bytes_of([[b"h", b"other"]]))
    assert first == b"first"


@pytest.mark.parametrize(
    "lengths",
    [
        (0, 0, 0),
        (0, 5, 0),
        (MAX_HEADER_BYTES + 1, 0, 0),
        (2**32 - 1, 0, 0),
        (1, LIMIT + 1, 0),
        (1, LIMIT, 1),
        (1, 2**32 - 1, 2**32 - 1),
    ],
)
def test_lengths_over_the_limits_are_refused_before_any_memory_is_taken(
    lengths: tuple[int, int, int],
) -> None:
    inbox = Inbox(LIMIT)
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="over the limits"):
            inbox.feed(PREFIX.pack(*lengths))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000


@pytest.mark.parametrize(
    "lengths", [(MAX_HEADER_BYTES, LIMIT, 0), (1, LIMIT // 2, LIMIT // 2), (1, 0, LIMIT)]
)
def test_lengths_at_the_limits_are_taken(lengths: tuple[int, int, int]) -> None:
    frames = [b"x" * length for length in lengths]
    (got,) = Inbox(LIMIT).feed(bytes_of([frames]))
    assert [len(frame) for frame in got] == list(lengths if lengths[2] else lengths[:2])


@given(st.binary(max_size=200))
def test_garbage_is_a_message_a_wait_or_a_wire_error(garbage: bytes) -> None:
    inbox = Inbox(LIMIT)
    try:
        messages = inbox.feed(garbage)
    except WireError:
        return
    assert sum(len(frame) for frames in messages for frame in frames) <= len(garbage)
    assert len(inbox.buffer()) > 0


def test_memory_is_bounded_by_one_message_of_the_largest_size() -> None:
    """Many unfinished large claims in a row hold one body, not all of them."""
    inbox = Inbox(LIMIT)
    stream = bytes_of([[b"h", b"x" * LIMIT]])
    tracemalloc.start()
    try:
        for _ in range(8):
            for at in range(0, len(stream), 100_000):
                inbox.feed(stream[at : at + 100_000])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * LIMIT
