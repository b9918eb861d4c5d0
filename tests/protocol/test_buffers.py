"""An array in two halves: copied once from any layout, and looked at where its data lie."""

from __future__ import annotations

import mmap
import subprocess
import sys
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given

from tests.protocol.arrays import ARRAYS, any_layout
from warmd.protocol import buffers
from warmd.protocol.buffers import ARRAY_CODE, SCALAR_CODE, decode_view, describe, encode
from warmd.protocol.described import parted


def carried(array: Any) -> tuple[bytes, bytearray]:
    """The two halves of an array, the data in memory that was full of something else."""
    described = describe(array)
    assert described is not None and described.code == ARRAY_CODE
    room = bytearray(b"\xa5" * described.nbytes)
    described.copy_into(memoryview(room))
    return described.description, room


def assert_same(got: np.ndarray, sent: np.ndarray) -> None:
    assert type(got) is np.ndarray
    assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
    # Padding between the members of a structure does not travel.
    assert repr(got.tolist()) == repr(sent.tolist())
    if not sent.dtype.names:
        assert got.tobytes() == sent.tobytes()


@given(any_layout() | ARRAYS)
def test_the_halves_make_the_array_again(array):
    description, room = carried(array)
    got = decode_view(ARRAY_CODE, description, memoryview(room))
    assert_same(got, array)
    if array.flags.forc:
        assert (got.flags.f_contiguous, got.flags.c_contiguous) == (
            array.flags.f_contiguous,
            array.flags.c_contiguous,
        )


@given(ARRAYS)
def test_the_halves_are_those_of_a_message(array):
    encoded = encode(array)
    assert encoded is not None
    description, data = parted(encoded.payload)
    assert (description, bytes(data)) == tuple(map(bytes, carried(array)))


@pytest.mark.parametrize("dtype", ["f4", "M8[ns]", "U5", [("a", "i2"), ("b", ">f8", (2,))]], ids=str)
@pytest.mark.parametrize("layout", ["every second", "transposed", "repeated", "backwards"])
def test_chosen_layouts(dtype, layout):
    array = np.zeros((6, 4), dtype)
    array.view("u1").flat[::3] = 65 if dtype != "U5" else 0
    view = {
        "every second": array[::2, 1::2],
        "transposed": array.T,
        "repeated": np.broadcast_to(array[0], (3, 4)),
        "backwards": array[::-1],
    }[layout]
    description, room = carried(view)
    assert_same(decode_view(ARRAY_CODE, description, memoryview(room)), view)


def test_a_contiguous_structure_is_copied_as_bytes():
    """Its padding too: numpy would copy member by member, which takes several times as long."""
    array = np.frombuffer(bytes(range(1, 33)), np.dtype([("a", "i1"), ("b", "f8")], align=True))
    assert carried(array)[1] == array.tobytes()


def test_an_array_of_any_layout_is_copied_without_another_copy_of_it():
    array = np.ones((1000, 2000))[:, ::2]
    described = describe(array)
    room = memoryview(bytearray(described.nbytes))
    tracemalloc.start()
    try:
        described.copy_into(room)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < described.nbytes / 10


def test_a_view_is_in_the_memory_given_and_as_writable_as_that():
    description, room = carried(np.arange(3.0))
    view = decode_view(ARRAY_CODE, description, memoryview(room))
    view[0] = 7
    assert np.frombuffer(room)[0] == 7
    assert not decode_view(ARRAY_CODE, description, memoryview(room).toreadonly()).flags.writeable


def test_a_view_keeps_its_memory():
    description, room = carried(np.arange(3.0))
    memory = mmap.mmap(-1, 4096)
    memory[: len(room)] = bytes(room)
    view = decode_view(ARRAY_CODE, description, memoryview(memory)[: len(room)])
    with pytest.raises(BufferError):
        memory.close()
    assert view.tolist() == [0, 1, 2]
    del view
    memory.close()


def test_nothing_holds_the_room_after_the_copy():
    described = describe(np.ones((4, 4))[:, ::2])
    room = memoryview(bytearray(described.nbytes))
    described.copy_into(room)
    room.release()


def test_what_has_no_halves():
    assert [describe(value) for value in (1, "a", [1], np.float64(1), np.ndarray)] == [None] * 5


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.ma.array([1]), r"masked array \(send \.data and \.mask, or \.filled\(\)\)"),
        (np.array([None]), "array of dtype object"),
        (np.zeros(1, [("a", "u1"), ("o", "O")]), "array of dtype"),
        (np.zeros(0, [(f"{i:0500}", "u1") for i in range(2200)]), "over 1 MiB to describe"),
    ],
)
def test_what_cannot_travel_is_refused(array, text):
    with pytest.raises(TypeError, match=text):
        describe(array)


@pytest.mark.parametrize(
    ("description", "data"),
    [
        (b"", b""),
        (b"\xc1", b""),
        (msgpack.packb(["<f8", [2]]), bytes(16)),
        (msgpack.packb(["<f8", [2], "C"]), bytes(15)),
        (msgpack.packb(["<f8", [2], "A"]), bytes(16)),
        (msgpack.packb(["<f8", [True, 2], "C"]), bytes(16)),
        (msgpack.packb(["<f8", [2**64 - 1, 0], "C"]), b""),
        (msgpack.packb(["<f8", [2**62, 4], "C"]), b""),
        (msgpack.packb(["<f8", [1] * 70, "C"]), bytes(8)),
        (msgpack.packb(["|O", [1], "C"]), bytes(8)),
        (msgpack.packb([[["|O", [1]], [1]], [1], "C"]), bytes(8)),
        (msgpack.packb(["U0", [2**40], "C"]), b""),
        (msgpack.packb(["i4,(", [1], "C"]), bytes(4)),
        (msgpack.packb([[["f8", [1]], [2**40] * 9], [1], "C"]), bytes(4)),
    ],
)
@pytest.mark.parametrize("code", [ARRAY_CODE, SCALAR_CODE])
def test_hostile_halves_raise_value_error(code, description, data):
    with pytest.raises(ValueError, match=r"."):
        decode_view(code, description, memoryview(data))


def test_what_long_descriptions_say_is_not_remembered():
    buffers._read.cache_clear()
    for length in (2, 20):
        description, room = carried(np.zeros(1, [(f"{i:0100}", "u1") for i in range(length)]))
        for _ in range(2):
            decode_view(ARRAY_CODE, description, memoryview(room))
    assert buffers._read.cache_info().currsize <= 1


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
from warmd.protocol.buffers import ARRAY_CODE, SCALAR_CODE, decode_view, describe
description, data = map(bytes.fromhex, sys.argv[1:])
array = decode_view(ARRAY_CODE, memoryview(description), memoryview(data))
described = describe(array)
room = bytearray(described.nbytes)
described.copy_into(memoryview(room))
assert (described.code, described.description, room) == (ARRAY_CODE, description, data)
assert describe(decode_view(SCALAR_CODE, description, memoryview(data))) is None
"""


def test_the_halves_pass_through_a_process_without_numpy():
    description, room = carried(np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    words = [description.hex(), room.hex()]
    subprocess.run([sys.executable, "-c", WITHOUT_NUMPY, *words], check=True, timeout=30)
