"""pyarrow tables and record batches as msgpack ext types, without pyarrow being a dependency.

Both are a description and data, laid out as `protocol.described` says:

    description         msgpack array [kind], the kind is "table" or "batch"
    data                an Arrow IPC stream of metadata version 5: a schema, dictionaries, batches

A batch is a stream with exactly one.  Chunks of a table that begin and end at different rows in
different columns arrive split at all of these rows.  Extension types are known where somebody has
registered them, elsewhere their storage comes.

A stream may be refused that other readers take: one that is compressed, big-endian, or adds to
dictionaries bit by bit would make a few bytes of it gigabytes of memory.

pyarrow is never imported to pack: a value can only be a table if somebody imported it already.
"""

from __future__ import annotations

import struct
import sys
from functools import partial
from typing import Any

import msgpack

from warmd.protocol.described import Described, Foreign, elements
from warmd.protocol.errors import quoted

ARROW_CODE = 8

_ALIGNMENT = 8
"""Each buffer in a stream has it, if the stream itself has."""
_NAMES = {"table": "pyarrow.Table", "batch": "pyarrow.RecordBatch"}
_REMEDIES = {
    ("polars", "DataFrame"): ".to_arrow()",
    ("polars", "LazyFrame"): ".collect().to_arrow()",
    ("polars", "Series"): ".to_frame().to_arrow()",
    ("pandas", "DataFrame"): "pyarrow.Table.from_pandas() of it",
    ("pandas", "Series"): "pyarrow.Table.from_pandas() of its .to_frame()",
    ("pyarrow", "ChunkedArray"): "it in a pyarrow.table()",
}
_FIRST_SAFE_MAJOR = 15
"""pyarrow before 14.0.1 runs code that it finds in data (CVE-2023-47248)."""


def describe(value: object) -> Described | None:
    """The halves of a table or record batch; None for anything else.

    Raises TypeError for one that Arrow's IPC format cannot hold, or that another device holds.
    """
    if isinstance(value, Foreign) and value.code == ARROW_CODE:
        return value.described()
    kind = _kind_of(value)
    if kind is None:
        return None
    import pyarrow

    if not getattr(value, "is_cpu", True):
        raise TypeError(f"{_NAMES[kind]} in the memory of another device (send a copy in the CPU's)")
    measure = pyarrow.MockOutputStream()
    try:
        _write(measure, value)
    except pyarrow.ArrowException as error:
        raise TypeError(f"{_NAMES[kind]} that Arrow's IPC format cannot hold: {error}") from error
    return Described(ARROW_CODE, msgpack.packb([kind]), measure.size(), partial(_copy, value))


def decode(description: bytes | memoryview, data: memoryview) -> Any:
    """The table or batch of these halves, in the memory of `data`, which it keeps alive.

    Where pyarrow is not installed it is a `Foreign`, a copy.  Raises ValueError or TypeError.
    """
    kind = _checked(description)
    try:
        import pyarrow.ipc
    except ImportError:
        return Foreign(ARROW_CODE, bytes(description), bytes(data), _NAMES[kind], "pyarrow")
    if int(pyarrow.__version__.partition(".")[0]) < _FIRST_SAFE_MAJOR:
        raise ValueError(f"pyarrow {pyarrow.__version__} may run code that is in data: upgrade it")
    try:
        # A memoryview of its own, so that the caller's can be released.
        buffer = pyarrow.py_buffer(memoryview(data))
        if buffer.address % _ALIGNMENT:
            buffer = pyarrow.py_buffer(bytes(data))
        return _read(pyarrow, kind, buffer)
    except Exception as error:  # pyarrow raises ten unrelated kinds
        raise ValueError(f"not a {_NAMES[kind]}: {type(error).__name__}: {error}") from error


def remedy(value: object) -> str:
    """What to send instead of a frame of another library, in brackets; empty where nobody knows."""
    known = _REMEDIES.get((str(type(value).__module__).partition(".")[0], type(value).__name__))
    return f" (send {known})" if known else ""


def _kind_of(value: object) -> str | None:
    pyarrow = sys.modules.get("pyarrow")
    for kind, name in _NAMES.items():
        found = getattr(pyarrow, name.removeprefix("pyarrow."), None)
        if isinstance(found, type) and isinstance(value, found):
            return kind
    return None


def _write(sink: Any, value: Any) -> None:
    import pyarrow.ipc

    # Said outright: what pyarrow does by itself depends on the environment.
    options = pyarrow.ipc.IpcWriteOptions(allow_64bit=True)
    with pyarrow.ipc.new_stream(sink, value.schema, options=options) as writer:
        writer.write(value)


def _copy(value: Any, room: memoryview) -> None:
    import pyarrow

    with pyarrow.FixedSizeBufferWriter(pyarrow.py_buffer(room)) as sink:
        _write(sink, value)
        if sink.tell() != len(room):
            raise ValueError(f"a table took {sink.tell()} bytes after it was measured as {len(room)}")


def _checked(description: bytes | memoryview) -> str:
    (kind,) = elements(description, 1)
    if type(kind) is not str or kind not in _NAMES:
        raise ValueError(f"not a kind of Arrow data: {quoted(kind, 80)}")
    return kind


def _read(pyarrow: Any, kind: str, buffer: Any) -> Any:
    batches = _look_through(pyarrow, buffer)
    if kind == "batch" and batches != 1:
        raise ValueError(f"a stream of {batches} batches")
    reader = pyarrow.ipc.open_stream(buffer)
    found = reader.read_all() if kind == "table" else reader.read_next_batch()
    # In full: an offset that points outside would be followed by whoever uses the table.
    found.validate(full=True)
    return found


def _look_through(pyarrow: Any, buffer: Any) -> int:
    """How many batches the stream has.  Raises ValueError for one that is refused."""
    source = pyarrow.BufferReader(buffer)
    batches = 0
    for message in pyarrow.ipc.MessageReader.open_stream(source):
        batches += message.type == "record batch"
        _look_at(memoryview(message.metadata))
    if source.tell() != buffer.size:
        raise ValueError("bytes after the end of the stream")
    return batches


_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_VERSION_5 = 4


def _look_at(message: memoryview) -> None:
    """Raises ValueError for what this message's header has and no stream of ours.

    The header is a flatbuffer, which pyarrow has verified.  The numbers are the slots that
    Message.fbs and Schema.fbs of Arrow give to the fields.
    """
    root = _at(message, "<I", 0)
    header = _table(message, root, 2)
    kind = _scalar(message, root, 1, "<B")
    if _scalar(message, root, 0, "<h") != _VERSION_5:
        raise ValueError("not of metadata version 5")
    if kind == _SCHEMA and _scalar(message, header, 0, "<h"):
        raise ValueError("big-endian")
    if kind == _DICTIONARY and _scalar(message, header, 2, "<B"):
        raise ValueError("a delta dictionary")
    batch = _table(message, header, 1) if kind == _DICTIONARY else header
    if kind in (_DICTIONARY, _BATCH) and _field(message, batch, 3):
        raise ValueError("compressed")


def _field(message: memoryview, table: int, slot: int) -> int:
    """Where a table has the field; 0 where it was left out and has its default."""
    vtable = table - _at(message, "<i", table)
    entry = 4 + 2 * slot
    offset = _at(message, "<H", vtable + entry) if entry < _at(message, "<H", vtable) else 0
    return table + offset if offset else 0


def _scalar(message: memoryview, table: int, slot: int, form: str) -> int:
    where = _field(message, table, slot)
    return _at(message, form, where) if where else 0


def _table(message: memoryview, table: int, slot: int) -> int:
    where = _field(message, table, slot)
    if not where:
        raise ValueError("a header without content")
    return where + _at(message, "<I", where)


def _at(message: memoryview, form: str, where: int) -> int:
    number: int = struct.unpack_from(form, message, where)[0]
    return number
