"""Every listed type comes back as it was; everything else is refused with the path to it."""

from __future__ import annotations

import collections
import contextlib
import enum
import math
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import hypothesis.strategies as st
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from tests.protocol.arrays import ARRAYS, any_layout
from warmd.protocol import buffers
from warmd.protocol.values import MAX_NESTED_TUPLES, Unpackable, pack, unpack

TEXT = st.text(st.characters(codec=None, exclude_categories=()))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.complex_numbers()
    | TEXT
    | st.binary()
)
KEYS = st.recursive(
    LEAVES, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=3
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.frozensets(KEYS)
    ),
    max_leaves=20,
)


def canonical(value: Any) -> Any:
    """A form whose repr tells apart what `==` does not: types, NaN, -0.0, order of dicts."""
    if isinstance(value, dict):
        return dict, [(canonical(key), canonical(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [canonical(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(repr(canonical(item)) for item in value)
    return type(value), repr(value)


def assert_same_array(got: np.ndarray, sent: np.ndarray) -> None:
    assert type(got) is np.ndarray
    assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
    # Padding between the members of a structure does not travel.
    same = repr(got.tolist()) == repr(sent.tolist()) if sent.dtype.names else got.tobytes() == sent.tobytes()
    assert same
    assert got.flags.writeable
    assert got.flags.owndata
    assert got.flags.aligned
    if sent.flags.forc:
        assert got.flags.f_contiguous == sent.flags.f_contiguous
        assert got.flags.c_contiguous == sent.flags.c_contiguous


@given(VALUES)
def test_plain_values_come_back_exactly(value):
    assert repr(canonical(unpack(pack(value)))) == repr(canonical(value))


@pytest.mark.parametrize(
    "value",
    [
        -(2**63),
        2**64 - 1,
        math.inf,
        -math.inf,
        -0.0,
        "a\0b",
        "\U0001f600",
        "\ud800",
        b"\0\xff",
        (),
        set(),
        {},
    ],
)
def test_edges_come_back_exactly(value):
    assert repr(canonical(unpack(pack(value)))) == repr(canonical(value))


def test_nan_comes_back():
    assert math.isnan(unpack(pack(math.nan)))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_unpacks(kind):
    assert unpack(kind(pack({"a": [1]}))) == {"a": [1]}


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 3


class Mode(str, enum.Enum):  # noqa: UP042  (its str() is "Mode.FAST", the trap tested here)
    FAST = "fast"


class Loud(dict):  # type: ignore[type-arg]
    def items(self):
        raise AssertionError("packing must not run a subclass's code")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1, 2), (1, 2)),
        (Colour.RED, 3),
        (Mode.FAST, "fast"),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=1), {"a": 1}),
        (Loud(a=1), {"a": 1}),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (type("Sub", (float,), {})(1.5), 1.5),
        (type("Sub", (list,), {})([1]), [1]),
        (type("Sub", (bytes,), {})(b"x"), b"x"),
        (type("Sub", (set,), {})({1}), {1}),
        (type("Sub", (frozenset,), {})({1}), frozenset({1})),
        (type("Sub", (complex,), {})(1j), 1j),
        (type("Sub", (bytearray,), {})(b"x"), b"x"),
    ],
)
def test_subclasses_travel_as_their_base(value, plain):
    got = unpack(pack([value]))[0]
    assert (type(got), got) == (type(plain), plain)


@settings(max_examples=300)
@given(ARRAYS)
def test_arrays_come_back_exactly(array):
    assert_same_array(unpack(pack(array)), array)


@given(any_layout())
def test_arrays_of_any_layout_come_back(array):
    assert_same_array(unpack(pack({"deep": [array]}))["deep"][0], array)


@given(hnp.scalar_dtypes().flatmap(lambda dtype: hnp.arrays(dtype, 1)))
def test_scalars_keep_their_type(array):
    scalar = array[0]
    got = unpack(pack(scalar))
    assert type(got) is type(scalar)
    assert (got.dtype, got.tobytes()) == (scalar.dtype, scalar.tobytes())


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.0),
        np.array(True),
        np.zeros((0, 3), "i4"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10)[::-3],
        np.array(["NaT", "2026-01-02"], "M8[ns]"),
        np.array([(1, 2.5, "x")], dtype=[("a", "i2"), ("b", ">f8"), ("c", "U3")]),
        np.zeros(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.zeros(3, [("a", "i4"), ("b", "f8"), ("c", "u1")])[["a", "c"]],
        np.zeros(2, [("m", "f4", (2, 3)), ("in", [("x", "?")])]),
        np.arange(4, dtype=">u8"),
        np.broadcast_to(np.int16(7), (3, 4)),
        np.frombuffer(b"abcd", "u1"),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_chosen_arrays(array):
    assert_same_array(unpack(pack(array)), array)


def test_structured_scalars_and_scalar_keys():
    record = np.array([(1, 2.5)], dtype=[("a", "i2"), ("b", "f8")])[0]
    got = unpack(pack(record))
    assert (type(got), got.dtype, got.tolist()) == (np.void, record.dtype, record.tolist())
    assert unpack(pack({np.int64(3): 1})) == {3: 1}
    assert type(next(iter(unpack(pack({np.int64(3): 1}))))) is np.int64


class Foo:
    def __repr__(self):
        raise AssertionError("error texts must not run an object's repr")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2, 3, Foo()]}, 'input["a"][3]: object of type Foo'),
        (Foo(), "input: object of type Foo"),
        ((1, ({2: Foo()},)), "input[1][0][2]: object of type Foo"),
        ({"n": 2**64}, 'input["n"]: an integer of more than 64 bits; send it as text'),
        ({"n": -(2**63) - 1}, 'input["n"]: an integer of more than 64 bits; send it as text'),
        ({Foo(): 1}, "input, key ...: object of type Foo"),
        ({1, Foo()}, "input, element ...: object of type Foo"),
        ({"f": print}, 'input["f"]: object of type builtin_function_or_method'),
        ([np.array([None])], "input[0]: array of dtype object"),
        ([np.zeros(1, [("o", "O")])], "input[0]: array of dtype [('o', 'O')]"),
        ([np.ma.array([1])], "input[0]: masked array"),
        ([np.array(["x"], np.dtypes.StringDType())], "input[0]: array of dtype StringDType"),
    ],
)
def test_refusals_name_the_path(value, text):
    with pytest.raises(Unpackable) as caught:
        pack(value, "input")
    assert str(caught.value).startswith(text)


def _nest(kind: Any, depth: int) -> Any:
    value: Any = kind()
    for _ in range(depth - 1):
        value = kind([value])
    return value


@pytest.mark.parametrize(("kind", "depth"), [(list, 500), (tuple, MAX_NESTED_TUPLES - 1), (frozenset, 40)])
def test_deep_values_come_back(kind, depth):
    assert unpack(pack(_nest(kind, depth))) == _nest(kind, depth)


@pytest.mark.parametrize(
    ("kind", "depth"), [(list, 1500), (list, 5000), (tuple, MAX_NESTED_TUPLES + 1), (tuple, 900)]
)
def test_too_deep_values_are_refused(kind, depth):
    with pytest.raises(Unpackable, match=r"nested too deep|within each other"):
        pack(_nest(kind, depth))


def test_a_value_that_contains_itself_is_refused():
    value: list[Any] = [1]
    value.append(value)
    with pytest.raises(Unpackable, match="contains itself"):
        pack(value)


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_garbage_raises_only_value_error(data):
    with contextlib.suppress(ValueError):
        unpack(data)


@settings(max_examples=500)
@given(VALUES | ARRAYS, st.data())
def test_damaged_bytes_raise_only_value_error(value, data):
    packed = bytearray(pack(value))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        unpack(packed)


def _array(dtype: Any, shape: Any, order: Any = "C", data: bytes = b"") -> bytes:
    description = msgpack.packb([dtype, shape, order])
    payload = len(description).to_bytes(4, "little") + description + data
    return msgpack.packb(msgpack.ExtType(buffers.ARRAY_CODE, payload))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x90\x90",
        b"\x81\x90\x00",
        b"\x91" * 2000,
        msgpack.packb(msgpack.ExtType(77, b"x")),
        msgpack.packb(msgpack.ExtType(1, b"\x01")),
        msgpack.packb(msgpack.ExtType(2, b"\x91\x90")),
        msgpack.packb(msgpack.ExtType(4, b"123")),
        msgpack.packb(msgpack.ExtType(5, b"")),
        msgpack.packb(msgpack.ExtType(5, b"\xff\xff\xff\xff\x90")),
        _array("<f8", [2], data=b"12345678"),
        _array("<f8", [-1], data=b""),
        _array("<f8", [2**62, 4]),
        _array("|O", [1], data=b"12345678"),
        _array([["|O", [1]]], [1], data=b"12345678"),
        _array("U0", [2**40]),
        _array("no such", [0]),
        _array("<f8", [1], "K", b"12345678"),
        _array("<f8", [1] * 70, data=b"12345678"),
        _array(
            {"names": ["a"], "titles": [None], "formats": ["O"], "offsets": [0], "itemsize": 8},
            [1],
            data=b"12345678",
        ),
        _array(
            {"names": ["a"], "titles": [None], "formats": ["f8"], "offsets": [9], "itemsize": 8},
            [1],
            data=b"12345678",
        ),
    ],
)
def test_hostile_bytes_raise_value_error(body):
    with pytest.raises(ValueError, match="not a packed value"):
        unpack(body)


def test_hostile_nesting_of_tuples_raises_value_error():
    body = b"\x90"
    for _ in range(3000):
        body = msgpack.packb(msgpack.ExtType(1, b"\x91" + body))
    with pytest.raises(ValueError, match="within each other"):
        unpack(body)


def test_many_threads_may_pack_values_that_run_python_code():
    """The default hook gives up the interpreter in the middle of pack()."""
    values = [{"t": (index, (index,) * 50, {index}), "s": "\ud800" * index} for index in range(8)]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(300):
            if unpack(pack(values[index])) != values[index]:
                wrong.append(index)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(values))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
from warmd.protocol.values import pack, unpack
body = bytes.fromhex(sys.argv[1])
array, scalar = unpack(body)
assert (array.dtype, array.shape, array.order, len(array.data)) == ("<f8", (2, 3), "F", 48), array
assert scalar.scalar and scalar.shape == ()
assert pack([array, scalar]) == body
"""


def test_arrays_pass_through_a_process_without_numpy():
    body = pack([np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.float32(1)])
    subprocess.run([sys.executable, "-c", WITHOUT_NUMPY, body.hex()], check=True, timeout=30)


def test_packing_plain_values_never_imports_numpy():
    code = (
        "import sys\n"
        "from warmd.protocol.values import pack, unpack\n"
        "unpack(pack({'a': (1, {2}, 1j)}))\n"
        "try: pack(object())\n"
        "except TypeError: pass\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
