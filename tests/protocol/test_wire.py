"""Every message crosses unchanged; whatever is no message is a WireError and nothing else."""

from __future__ import annotations

import contextlib
import tracemalloc
import typing
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.by_hint import PLAIN_VALUES, messages_of
from warmd.protocol import messages, work
from warmd.protocol.messages import Call, CallId, NewSession, Origin
from warmd.protocol.wire import (
    FROM_CLIENT,
    FROM_DAEMON,
    FROM_WORKER,
    MAX_HEADER_BYTES,
    TO_WORKER,
    Codec,
    WireError,
)

UNIONS: list[tuple[Codec, object]] = [
    (FROM_CLIENT, messages.FromClient),
    (FROM_DAEMON, messages.FromDaemon),
    (TO_WORKER, work.ToWorker),
    (FROM_WORKER, work.FromWorker),
]
CODECS = [codec for codec, _ in UNIONS]
KINDS = [(codec, cls) for codec, union in UNIONS for cls in typing.get_args(union)]
ID = CallId(bytes(range(16)))

every_kind = pytest.mark.parametrize(
    ("codec", "cls"), KINDS, ids=lambda value: getattr(value, "__name__", "")
)
every_codec = pytest.mark.parametrize(
    "codec", CODECS, ids=["from_client", "from_daemon", "to_worker", "from_worker"]
)


@every_kind
@settings(max_examples=20)
@given(data=st.data())
def test_a_message_crosses_unchanged(codec: Codec, cls: type, data: st.DataObject) -> None:
    message = data.draw(messages_of(cls))
    frames = codec.pack(message)
    assert codec.unpack([bytes(frame) for frame in frames]) == message
    assert len(frames) == 1 or len(frames[-1]), "an absent trailing frame is left out"


@every_kind
@settings(max_examples=20)
@given(data=st.data())
def test_a_field_of_any_other_value_is_an_error_or_fits_its_hint(
    codec: Codec, cls: type, data: st.DataObject
) -> None:
    """A header with one field replaced either is refused or unpacks to what packs again."""
    header = msgpack.unpackb(codec.pack(data.draw(messages_of(cls)))[0])
    at = data.draw(st.integers(0, len(header) - 1))
    header[at] = data.draw(PLAIN_VALUES)
    try:
        message = codec.unpack([msgpack.packb(header)])
    except WireError:
        return
    assert codec.unpack(codec.pack(message)) == message


def test_the_codecs_know_every_message_of_their_direction_once() -> None:
    for codec, union in UNIONS:
        assert set(codec._by_class) == set(typing.get_args(union))
        assert len(codec._layouts) == len(codec._by_class)


def test_kinds_keep_their_numbers() -> None:
    """Numbers are the protocol: a message may be added, none may be renumbered without a new PROTOCOL."""
    assert {kind: layout.cls.__name__ for kind, layout in FROM_CLIENT._layouts.items()} == {
        1: "Hello", 2: "Call", 3: "Request", 4: "Credit", 5: "Cancel", 6: "Attach", 7: "Pong",
        8: "HandBack",
    }  # fmt: skip
    assert {kind: layout.cls.__name__ for kind, layout in FROM_DAEMON._layouts.items()} == {
        1: "Welcome", 2: "Refused", 3: "Accepted", 4: "Part", 5: "Result", 6: "Failure", 7: "Goodbye",
        8: "Ping", 9: "HandBack", 10: "Parts",
    }  # fmt: skip
    assert messages.PROTOCOL == 6


def test_a_call_looks_as_documented() -> None:
    """Pinned byte for byte as values, for clients in other languages."""
    app = messages.AppRef("m:C", Origin("/p", "/w", "/w"))
    call = Call(ID, "new", app, "run", 2.5, 8, NewSession(60.0), False, "", "", None, b"in")
    frames = FROM_CLIENT.pack(call)
    assert msgpack.unpackb(frames[0]) == [
        2, ID, "new", ["m:C", ["/p", "/w", "/w"], None], "run", 2.5, 8, [60.0, None, {}, {}, None, False],
        False, "", "", None,
    ]  # fmt: skip
    assert frames[1:] == [b"in"]


def test_a_frame_between_others_may_be_absent() -> None:
    call = Call(ID, None, None, "run", input=b"", setup=b"", pickled=b"class")
    frames = FROM_CLIENT.pack(call)
    assert [len(frame) for frame in frames[1:]] == [0, 0, 5]
    assert FROM_CLIENT.unpack(frames) == call


def test_bodies_are_neither_copied_nor_read() -> None:
    body = bytearray(b"\xc1" * 1_000_000)  # 0xc1 is never valid msgpack
    result = messages.Result(ID, None, value=memoryview(body))
    frames = FROM_DAEMON.pack(result)
    assert frames[1] is result.value
    assert FROM_DAEMON.unpack(frames).value is result.value


@pytest.mark.parametrize("number", [3, 3.0])
def test_a_float_may_be_written_as_an_integer(number: float) -> None:
    header = msgpack.packb([2, ID, None, None, "run", number, None, None, False, "", "", None])
    assert FROM_CLIENT.unpack([header]).timeout_seconds == 3.0


@pytest.mark.parametrize("number", [True, "3", None, [3], 3.0])
def test_an_integer_may_be_nothing_else(number: object) -> None:
    with pytest.raises(WireError, match=r"Credit\.parts: expected int"):
        FROM_CLIENT.unpack([msgpack.packb([4, ID, number])])


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"\x92\x01", "not msgpack"),
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),
        (b"\x90" * 2, "not msgpack"),
        (bytes(60_000), "not msgpack"),
        (b"\xd9\xff" + b"\xff" * 255, "not msgpack"),
        (b"\x91" * 2000 + b"\xc0", "not msgpack"),
        (b"\x91\xa1\xff", "not msgpack"),
        (b"\x92\x01\xd6\x00abcd", "not msgpack"),
        (b"\x92\x01\x81\x01\x02", "not msgpack"),
        (b"\x80", "not an array"),
        (b"\x90", "not an array"),
        (b"\x91\xa1x", "not an array"),
        (b"\x91\xc3", "not an array"),
        (b"\x91\x63", "unknown kind"),
        (b"\x91\x01", "fields, expected"),
        (b"\x9f\x01" + b"\x00" * 14, "fields, expected"),
    ],
)
@every_codec
def test_garbage_is_a_wire_error(codec: Codec, header: bytes, says: str) -> None:
    with pytest.raises(WireError, match=says) as caught:
        codec.unpack([header])
    assert len(str(caught.value)) < 300


@every_codec
@given(frames=st.lists(st.binary(max_size=100), max_size=5))
def test_any_frames_are_a_message_or_a_wire_error(codec: Codec, frames: list[bytes]) -> None:
    with contextlib.suppress(WireError):
        codec.unpack(frames)


@every_codec
@given(data=st.data())
def test_damaged_messages_are_messages_or_wire_errors(codec: Codec, data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(list(codec._by_class)))
    frames = [bytearray(frame) for frame in codec.pack(data.draw(messages_of(cls)))]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(frames[0]) - 1))
        frames[0][at] = data.draw(st.integers(0, 255))
    del frames[0][data.draw(st.integers(1, len(frames[0]))) :]
    with contextlib.suppress(WireError):
        codec.unpack(frames)


@every_kind
@settings(max_examples=20)
@given(data=st.data())
def test_too_many_body_frames_are_refused(codec: Codec, cls: type, data: st.DataObject) -> None:
    frames = codec.pack(data.draw(messages_of(cls)))[:1]
    with pytest.raises(WireError, match="body frames"):
        codec.unpack([*frames, *[b"x"] * (len(getattr(cls, "FRAMES", ())) + 1)])


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ([5, ID, "cancel"], [5, ID, "explode"]),
        ([3, ID, "x", {}, None], [3, ID, "x", {b"key": 1}, None]),
        ([2, ID, None, ["m:C", ["p", "c", "x"], None], "", None, None, None, False, "", "", None],
         [2, ID, None, ["m:C", ["p", "c", 3], None], "", None, None, None, False, "", "", None]),
        ([2, ID, None, ["m:C", ["p", "c", "x"], None], "", None, None, None, False, "", "", None],
         [2, ID, None, ["m:C", ["p", "c"], None], "", None, None, None, False, "", "", None]),
        ([2, ID, "new", None, "", None, None, [1.0, None, {}, {}, None, False], False, "", "", None],
         [2, ID, "new", None, "", None, None, [1.0, None, {}, {"A": 1}, None, False], False, "", "", None]),
        ([2, ID, "new", None, "", None, None, [1.0, None, {}, {}, None, False], False, "", "", None],
         [2, ID, "new", None, "", None, None, [True, None, {}, {}, None, False], False, "", "", None]),
    ],
)  # fmt: skip
def test_a_message_that_passed_vouches_for_no_other(good: list[object], bad: list[object]) -> None:
    """Shapes that passed are remembered: what a shape does not tell is looked at each time."""
    for _ in range(2):
        assert FROM_CLIENT.unpack([msgpack.packb(good)])
        with pytest.raises(WireError):
            FROM_CLIENT.unpack([msgpack.packb(bad)])


def test_what_is_remembered_of_hostile_messages_is_bounded() -> None:
    values = [None, 1, 1.0, True, "x", b"x", [], {}]
    layout = FROM_CLIENT._by_class[messages.Credit]
    for first in values:
        for second in values:
            with contextlib.suppress(WireError):
                FROM_CLIENT.unpack([msgpack.packb([4, first, second])])
    assert len(layout._checked._shapes) == 1


def test_a_header_over_its_limit_is_not_unpacked() -> None:
    with pytest.raises(WireError, match="64 KiB"):
        FROM_CLIENT.unpack([msgpack.packb([3, ID, "x" * MAX_HEADER_BYTES, {}, None])])


def test_a_header_over_its_limit_is_not_packed() -> None:
    request = messages.Request(ID, "x")
    room = MAX_HEADER_BYTES - len(FROM_CLIENT.pack(replace(request, verb="x" * 40_000))[0]) + 40_000
    assert FROM_CLIENT.pack(replace(request, verb="x" * room))
    with pytest.raises(WireError, match=r"Request has 65537 bytes, the limit is 65536: shorten"):
        FROM_CLIENT.pack(replace(request, verb="x" * (room + 1)))


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**63) - 1, object(), "\ud800", {1, 2}],
    ids=["too large", "too small", "object", "surrogate", "set"],
)
def test_what_msgpack_cannot_say_is_a_wire_error(value: object) -> None:
    with pytest.raises(WireError, match="cannot be packed"):
        FROM_CLIENT.pack(messages.Request(ID, "x", {"key": value}))


def test_nesting_without_end_is_a_wire_error() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(WireError, match="cannot be packed"):
        FROM_CLIENT.pack(messages.Request(ID, "x", {"key": endless}))


def test_a_failed_pack_leaves_nothing_in_the_shared_packer() -> None:
    good = messages.Request(ID, "x")
    before = FROM_CLIENT.pack(good)
    with pytest.raises(WireError):
        FROM_CLIENT.pack(messages.Request(ID, "x", {"key": object()}))
    assert FROM_CLIENT.pack(good) == before


@pytest.mark.parametrize("filling", [b"\x90", b"\x80", b"\xc0", b"\x01", b"\xa0"], ids=lambda b: b.hex())
def test_a_small_header_cannot_become_much_memory(filling: bytes) -> None:
    """Trap 11: arrays of empty arrays grow seventyfold; the header's limit is what bounds that."""
    count = MAX_HEADER_BYTES - 40
    begin = b"\x95\x03\xc4\x10" + ID + b"\xa1x\x81\xa1k\xdd" + count.to_bytes(4, "big")
    header = begin + filling * count + b"\xc0"
    assert len(header) <= MAX_HEADER_BYTES
    tracemalloc.start()
    try:
        request = FROM_CLIENT.unpack([header])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(request.arguments["k"]) == count
    assert peak < 8 * 2**20


def test_the_text_of_an_error_does_not_repeat_a_hostile_value() -> None:
    header = msgpack.packb([5, ID, "x" * 10_000])
    with pytest.raises(WireError) as caught:
        FROM_CLIENT.unpack([header])
    assert len(str(caught.value)) < 300
