"""Values whose large data lie apart from their body."""

from __future__ import annotations

import os
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.protocol import values
from warmd.protocol.parcels import ALIGNMENT_BYTES, APART_BYTES, Leaves, Parcel
from warmd.protocol.values import Unpackable, pack, pack_apart, unpack

LARGE = os.urandom(APART_BYTES)
ARRAY = np.arange(APART_BYTES // 4, dtype="<f4")


def sent(value: Any) -> Parcel:
    """The value as a parcel whose region has travelled in a frame."""
    parcel = pack_apart(value)
    assert isinstance(parcel, Parcel)
    assert isinstance(parcel.region, Leaves)
    return Parcel(parcel.body, parcel.region.joined())


@pytest.mark.parametrize("value", [None, 1, "text", b"x" * 1000, {"a": [1, 2]}, np.zeros(10)])
def test_small_values_are_bodies_as_ever(value: Any) -> None:
    assert pack_apart(value) == pack(value)


def test_arrays_lie_apart_wherever_they_are_and_come_back_as_views_that_can_be_written_to() -> None:
    fortran = np.asfortranarray(np.ones((256, 512)))
    value = {"a": ARRAY, "deep": [({"b": ARRAY[::-1]},)], "small": np.zeros(3), "f": fortran}
    parcel = sent(value)
    assert len(parcel.body) < 1000
    assert len(parcel) == len(parcel.body) + len(parcel.region)
    back = unpack(parcel)
    assert np.array_equal(back["a"], ARRAY)
    assert np.array_equal(back["deep"][0][0]["b"], ARRAY[::-1])
    assert back["f"].flags.f_contiguous
    assert back["f"].shape == (256, 512)
    back["a"][0] = 7
    assert memoryview(parcel.region).cast("B")[:4] == np.float32(7).tobytes()  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [LARGE, {"k": LARGE, "n": 1}, [LARGE, b"", LARGE + b"x"], (LARGE, 1)])
def test_large_bytes_that_are_found_at_one_look_lie_apart(value: Any) -> None:
    parcel = sent(value)
    assert len(parcel.body) < 100
    assert unpack(parcel) == value
    assert type(unpack(parcel)) is type(value)


@pytest.mark.parametrize(
    "value", ["x" * APART_BYTES, list(range(APART_BYTES)), [[[LARGE]]], dict.fromkeys(range(65), LARGE)]
)
def test_a_body_that_is_large_itself_lies_apart_as_a_whole(value: Any) -> None:
    parcel = sent(value)
    assert len(parcel.body) < 100
    assert unpack(parcel) == value


def test_nothing_is_copied_before_it_is_sent() -> None:
    array = ARRAY.copy()
    parcel = pack_apart(array)
    array[0] = 42
    assert isinstance(parcel, Parcel)
    assert isinstance(parcel.region, Leaves)
    assert unpack(Parcel(parcel.body, parcel.region.joined()))[0] == 42


def test_data_begin_at_aligned_offsets() -> None:
    leaves = pack_apart([np.zeros(APART_BYTES + 1, "u1"), ARRAY]).region  # type: ignore[union-attr]
    assert isinstance(leaves, Leaves)
    assert [offset % ALIGNMENT_BYTES for offset, _ in leaves._sources] == [0, 0]
    assert len(leaves) == 2 * APART_BYTES + ALIGNMENT_BYTES


def test_a_region_that_may_not_be_written_to_is_copied() -> None:
    parcel = sent(ARRAY)
    back = unpack(Parcel(parcel.body, bytes(parcel.region)))  # type: ignore[arg-type]
    back[0] = 1
    assert back[0] == 1


def test_what_cannot_travel_is_named_as_ever() -> None:
    with pytest.raises(Unpackable, match=r'value\["b"\]'):
        pack_apart({"a": LARGE, "b": object()})


def apart(code: int, offset: int, size: int, description: bytes = b"") -> bytes:
    place = values._PLACE.pack(code, offset, size)
    body: bytes = msgpack.packb(msgpack.ExtType(values.APART_CODE, place + description))
    return body


@pytest.mark.parametrize(
    "body",
    [
        apart(values.BYTES_APART, 0, 11),
        apart(values.BYTES_APART, 11, 1),
        apart(values.BYTES_APART, 2**63, 2**63),
        apart(values.PACKED_APART, 0, 0),
        apart(5, 0, 8, b"\x00"),
        apart(99, 0, 8),
        msgpack.packb(msgpack.ExtType(values.APART_CODE, b"\x00")),
    ],
)
def test_a_place_that_is_none_is_no_value(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed value"):
        unpack(Parcel(body, bytearray(10)))


def test_a_body_that_contains_itself_is_no_value() -> None:
    region = bytearray(apart(values.PACKED_APART, 0, 19))
    with pytest.raises(ValueError, match="not a packed value"):
        unpack(Parcel(apart(values.PACKED_APART, 0, len(region)), region))


def test_a_place_without_a_region_is_no_value() -> None:
    with pytest.raises(ValueError, match="not here"):
        unpack(apart(values.BYTES_APART, 0, 1))


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_body_and_region_give_a_value_or_an_error(body: bytes, region: bytes) -> None:
    try:
        unpack(Parcel(body, region))
    except ValueError:
        return
