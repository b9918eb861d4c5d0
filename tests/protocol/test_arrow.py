"""Tables and record batches come back as they were, as views; what is damaged is refused, not read."""

from __future__ import annotations

import contextlib
import decimal
import gc
import mmap
import struct
import subprocess
import sys
import types
from typing import Any

import hypothesis.strategies as st
import msgpack
import numpy as np
import pytest
from hypothesis import given, settings

from warmd.protocol.arrow import ARROW_CODE, decode, describe, remedy
from warmd.protocol.values import Unpackable, pack, unpack

pa: Any = pytest.importorskip("pyarrow")

TABLE = msgpack.packb(["table"])
BATCH = msgpack.packb(["batch"])

COLUMNS = {
    "number": pa.array([1, None, 3, 4], "int32"),
    "flag": pa.array([True, None, False, True]),
    "text": pa.array(["a", "grüße", None, ""]),
    "large": pa.array(["a", "b", None, ""], pa.large_string()),
    "view": pa.array(["a" * 20, "b", None, ""], pa.string_view()),
    "bytes": pa.array([b"\0", b"\xff", None, b""]),
    "fixed": pa.array([b"ab", None, b"cd", b"ef"], pa.binary(2)),
    "nothing": pa.nulls(4),
    "time": pa.array([0, None, 2, 3], pa.timestamp("ns", "Europe/Paris")),
    "decimal": pa.array([decimal.Decimal("1.50"), None, None, None], pa.decimal128(9, 2)),
    "list": pa.array([[1, 2], None, [], [3]]),
    "sized": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int8(), 2)),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": 2, "b": None}, {}]),
    "map": pa.array([[("k", 1)], None, [], []], pa.map_(pa.string(), pa.int64())),
    "words": pa.array(["x", "y", None, "x"]).dictionary_encode(),
    "runs": pa.array([1, 1, 2, 2]),
    "union": pa.UnionArray.from_dense(
        pa.array([0, 1, 0, 1], "int8"),
        pa.array([0, 0, 1, 1], "int32"),
        [pa.array([1, 2]), pa.array(["a", "b"])],
    ),
}
EVERYTHING = pa.table(COLUMNS).replace_schema_metadata({"made": "here"})


def carried(value: Any) -> tuple[bytes, bytearray]:
    described = describe(value)
    assert described is not None and described.code == ARROW_CODE
    room = bytearray(b"\xa5" * described.nbytes)
    described.copy_into(memoryview(room))
    return described.description, room


def assert_same(got: Any, sent: Any) -> None:
    assert type(got) is type(sent)
    assert got.schema.equals(sent.schema, check_metadata=True)
    assert got.num_rows == sent.num_rows
    assert got.equals(sent)


TABLES = {
    "everything": EVERYTHING,
    "some rows": EVERYTHING.slice(1, 2),
    "no rows": EVERYTHING.slice(0, 0),
    "no columns": pa.table({}),
    "no chunks": pa.schema([("a", "int8")]).empty_table(),
    "chunks": pa.table({"a": pa.chunked_array([[1], [2, 3]]), "b": pa.chunked_array([["x", "y"], ["z"]])}),
    "dictionaries": pa.table(
        {"a": pa.chunked_array([pa.array(word).dictionary_encode() for word in (["x"], ["y", "z"], ["x"])])}
    ),
    "names twice": pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_a_table_comes_back(table: Any) -> None:
    assert_same(unpack(pack({"deep": [table]}))["deep"][0], table)
    description, room = carried(table)
    assert_same(decode(description, memoryview(room)), table)


@pytest.mark.parametrize("rows", [slice(0, 4), slice(1, 3), slice(0, 0)])
def test_a_batch_comes_back(rows: slice) -> None:
    batch = EVERYTHING.to_batches()[0].slice(rows.start, rows.stop - rows.start)
    assert_same(unpack(pack(batch)), batch)


@given(
    st.lists(st.sampled_from(sorted(COLUMNS)), max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=4),
)
def test_tables_of_any_columns_and_chunks_come_back(names: list[str], chunks: list[tuple[int, int]]) -> None:
    schema = pa.schema([(f"{index}", COLUMNS[name].type) for index, name in enumerate(names)])
    parts = [[COLUMNS[name].slice(*rows) for name in names] for rows in chunks]
    table = pa.Table.from_batches([pa.RecordBatch.from_arrays(part, schema=schema) for part in parts], schema)
    assert_same(unpack(pack(table)), table)


def test_a_view_is_in_the_memory_given_and_keeps_it() -> None:
    description, room = carried(pa.table({"a": np.arange(1000.0)}))
    memory = mmap.mmap(-1, len(room))
    memory[:] = bytes(room)
    begin = np.frombuffer(memory, "u1").ctypes.data
    with memoryview(memory) as lent:
        before = pa.total_allocated_bytes()
        table = decode(description, lent)
        assert pa.total_allocated_bytes() == before
    address = table["a"].chunk(0).buffers()[1].address
    assert begin <= address < begin + len(room)
    with pytest.raises(BufferError):
        memory.close()
    assert table["a"][999].as_py() == 999
    del table
    gc.collect()
    memory.close()


def test_memory_that_is_not_aligned_is_not_used_as_it_is() -> None:
    description, room = carried(pa.table({"a": np.arange(1000.0)}))
    table = decode(description, memoryview(bytearray(b"\0" + room))[1:])
    assert table["a"].chunk(0).buffers()[1].address % 8 == 0
    assert table["a"][999].as_py() == 999


def test_nothing_holds_the_room_after_the_copy() -> None:
    described = describe(EVERYTHING)
    room = memoryview(bytearray(described.nbytes))
    described.copy_into(room)
    room.release()


def test_a_room_of_another_size_is_refused() -> None:
    described = describe(EVERYTHING)
    for nbytes in (described.nbytes - 1, described.nbytes + 1):
        with pytest.raises((ValueError, OSError)):
            described.copy_into(memoryview(bytearray(nbytes)))


def test_the_environment_does_not_change_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pack(EVERYTHING)
    monkeypatch.setenv("ARROW_PRE_0_15_IPC_FORMAT", "1")
    assert pack(EVERYTHING) == before


class Celsius(pa.ExtensionType):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__(pa.float64(), "tests.celsius")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"degrees"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Celsius:
        assert serialized == b"degrees"
        return cls()


def test_an_extension_type_comes_as_itself_where_it_is_known_and_else_as_its_storage() -> None:
    column = pa.ExtensionArray.from_storage(Celsius(), pa.array([20.5]))
    body = pack(pa.table({"t": column}))
    assert unpack(body).schema.field("t").type == pa.float64()
    pa.register_extension_type(Celsius())
    try:
        assert unpack(body).schema.field("t").type == Celsius()
    finally:
        pa.unregister_extension_type("tests.celsius")


def stream(table: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def growing_dictionary() -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    words = [pa.DictionaryArray.from_arrays([0], words) for words in (["x"], ["x", "y"])]
    schema = pa.schema([("a", words[0].type)])
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for column in words:
            writer.write_batch(pa.RecordBatch.from_arrays([column], schema=schema))
    return bytes(sink.getvalue())


def compressed_dictionary() -> bytes:
    """The batch is not: the schema and the batch of one stream, the dictionary of another."""
    words = pa.table({"a": pa.array(["x" * 1000]).dictionary_encode()})
    plain, compressed = (
        list(pa.ipc.MessageReader.open_stream(stream(words, compression=by))) for by in (None, "zstd")
    )
    messages = (plain[0], compressed[1], plain[2])
    return b"".join(bytes(message.serialize()) for message in messages)


SOUND = stream(EVERYTHING)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (stream(pa.table({"a": ["x" * 1000]}), compression="lz4"), "compressed"),
        (stream(pa.table({"a": ["x" * 1000]}), compression="zstd"), "compressed"),
        (compressed_dictionary(), "compressed"),
        (stream(EVERYTHING.select(["number"]), metadata_version=pa.ipc.MetadataVersion.V4), "version 5"),
        (growing_dictionary(), "a delta dictionary"),
        (SOUND + b"\0", "bytes after the end"),
        (SOUND[:-16], "not a pyarrow.Table"),
        (SOUND[: len(SOUND) // 2], "not a pyarrow.Table"),
        (b"", "not a pyarrow.Table"),
        (b"\xff" * 64, "not a pyarrow.Table"),
        (b"\xff\xff\xff\xff\0\0\0\0", "not a pyarrow.Table"),
    ],
)
def test_streams_that_are_refused(data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        decode(TABLE, memoryview(data))


def test_a_big_endian_stream_is_refused() -> None:
    """A message without a body: the flatbuffer's tables {version 5, schema, at 12}, {endianness 1}."""
    tables = struct.pack("<I5H2xihBxI3H2xihxx", 16, 10, 12, 4, 6, 8, 12, 4, 1, 12, 6, 6, 4, 8, 1)
    data = struct.pack("<iI", -1, 48) + tables.ljust(48, b"\0") + struct.pack("<ii", -1, 0)
    assert pa.ipc.read_message(data).type == "schema"
    with pytest.raises(ValueError, match="big-endian"):
        decode(TABLE, memoryview(data))


def test_a_batch_is_one_batch() -> None:
    two = stream(pa.table({"a": pa.chunked_array([[1], [2]])}))
    for data in (two, stream(pa.table({"a": pa.chunked_array([], "int8")}))):
        with pytest.raises(ValueError, match="batches"):
            decode(BATCH, memoryview(data))


def test_an_offset_that_points_outside_is_refused() -> None:
    """In the middle: both ends of the offsets are what they must be."""
    data = bytearray(stream(pa.table({"a": ["abcd", "efgh", "ijkl"]})))
    offsets = data.index(struct.pack("<4i", 0, 4, 8, 12))
    data[offsets + 8] = 0xFF
    with pytest.raises(ValueError, match=r"not a pyarrow\.Table"):
        decode(TABLE, memoryview(data))


@settings(max_examples=300)
@given(st.data())
def test_damaged_streams_raise_only_value_error(data: st.DataObject) -> None:
    damaged = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        decode(TABLE, memoryview(damaged)).nbytes  # noqa: B018


@pytest.mark.parametrize("description", [b"", b"\xc1", b"\x90", *map(msgpack.packb, (["x"], [1], [[]], {}))])
def test_hostile_descriptions_raise_value_error(description: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a"):
        decode(description, memoryview(SOUND))


def test_a_pyarrow_that_runs_code_in_data_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pa, "__version__", "14.0.0")
    with pytest.raises(ValueError, match=r"pyarrow 14\.0\.0 may run code that is in data: upgrade it"):
        decode(TABLE, memoryview(SOUND))


def test_pyarrow_that_is_being_imported_has_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", types.ModuleType("pyarrow"))
    assert describe(EVERYTHING) is None


def test_a_table_of_another_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = types.ModuleType("pyarrow")
    library.Table = type("Table", (), {"is_cpu": False})
    monkeypatch.setitem(sys.modules, "pyarrow", library)
    with pytest.raises(TypeError, match=r"pyarrow\.Table in the memory of another device"):
        describe(library.Table())


def test_what_the_format_cannot_hold_is_refused() -> None:
    kind = pa.int8()
    for _ in range(70):
        kind = pa.list_(kind)
    with pytest.raises(TypeError, match=r"pyarrow\.Table that Arrow's IPC format cannot hold: .*depth"):
        describe(pa.table({"a": pa.array([[]], kind)}))


def test_refusals_name_the_remedy() -> None:
    frame = type("DataFrame", (), {"__module__": "polars.dataframe.frame"})()
    for value, text in (
        (frame, "object of type DataFrame (send .to_arrow())"),
        (pa.chunked_array([[1]]), "object of type ChunkedArray (send it in a pyarrow.table())"),
    ):
        with pytest.raises(Unpackable) as caught:
            pack([value], "input")
        assert str(caught.value) == f"input[0]: {text}"
    assert remedy(1) == ""


WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None
from warmd.protocol.described import Foreign
from warmd.protocol.values import pack, unpack
body = bytes.fromhex(sys.argv[1])
table, batch = unpack(body)
assert type(table) is type(batch) is Foreign
assert repr(table) == f"<pyarrow.Table, {len(table.data)} bytes: install pyarrow here to use it>"
assert pack([table, batch]) == body
"""


def test_tables_pass_through_a_process_without_pyarrow() -> None:
    body = pack([EVERYTHING, EVERYTHING.to_batches()[0]])
    subprocess.run([sys.executable, "-c", WITHOUT_PYARROW, body.hex()], check=True, timeout=30)
