"""Plain Python values to bytes and back, types kept.

What travels: None, bool, integers of 64 bits, float, complex, str (also with NUL and lone
surrogates), bytes, list, tuple, set, frozenset, dict with any hashable keys of these types, numpy
arrays and scalars, torch tensors of the CPU, pyarrow tables and record batches, and a `File` as the
path that it is.  A subclass
(namedtuple, IntEnum, OrderedDict) travels as its base, bytearray and memoryview as bytes.  Never
pickle.

The format is msgpack.  What msgpack lacks is an ext type whose payload, up to 3, is the msgpack array
of the elements:

    1 tuple   2 set   3 frozenset   4 complex (two little-endian f64)
    5 array   6 numpy scalar (`protocol.buffers`)
    7 torch tensor (`protocol.tensors`)   8 pyarrow table or record batch (`protocol.arrow`)
    10 file (`protocol.files`)

Large data may lie apart from the body, in a region beside it (`protocol.parcels`); in their place is

    9 apart   u8 code of the ext type, u64 offset, u64 size, both little-endian; its description

where the code 0 stands for bytes, and 255 for a packed value: the whole body, when it is large itself.

Every call makes its own packer (0.2 us): `default` runs Python code in the middle of `pack()`, where
another thread, a signal handler or a finalizer may want to pack too, and a shared packer would mix
their bytes.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn

import msgpack

from warmd.protocol import arrow, buffers, files, tensors
from warmd.protocol.described import Described, copy_bytes, in_band, parted
from warmd.protocol.errors import quoted
from warmd.protocol.parcels import APART_BYTES, Body, Leaves, Mapped, Parcel, Value

TUPLE_CODE, SET_CODE, FROZENSET_CODE, COMPLEX_CODE = 1, 2, 3, 4
APART_CODE = 9
BYTES_APART, PACKED_APART = 0, 255

MAX_NESTED_TUPLES = 64
"""Tuples and sets within each other: each level costs Python frames on both sides.  Lists and dicts
nest to msgpack's own limit (511 or 1024, by its version)."""

_COMPLEX = struct.Struct("<dd")
_PLACE = struct.Struct("<BQQ")
_MOST_LOOKED_AT = 64
"""So many elements of the value itself are looked at for large bytes, which msgpack would copy."""
_BUFFER_BYTES = 1024
_NATIVE = frozenset({type(None), bool, int, float, str, bytes, list, dict})
_MAX_PATH_STEPS = 20


class Unpackable(TypeError):
    """A value that cannot travel; the text names the path to it, like `input["a"][3]`."""


class _TooDeep(ValueError):
    pass


def _know_nothing(_value: Any) -> Any:
    return NotImplemented


_fallback: Callable[[Any], Any] = _know_nothing


def fall_back_on(plain: Callable[[Any], Any]) -> None:
    """From now on, in this process, what cannot travel is shown to `plain`.

    It returns what is to travel in its place, or NotImplemented.
    """
    global _fallback
    _fallback = plain


def pack(value: Any, name: str = "value") -> bytes:
    """The bytes of a value.

    `name` stands for the value in error texts.  Raises Unpackable.
    """
    try:
        return _pack(0, value)
    except Exception:
        _refuse(value, name)


def pack_apart(value: Any, name: str = "value") -> Value:
    """The same, with what has `APART_BYTES` or more left where it is until it is sent."""
    leaves = Leaves()
    try:
        body = _pack(0, _with_bytes_apart(value), leaves)
    except Exception:
        _refuse(value, name)
    if len(body) >= APART_BYTES:
        body = msgpack.packb(_apart(leaves, _described_bytes(body, PACKED_APART)))
    return Parcel(body, leaves) if len(leaves) else body


def unpack(packed: Value) -> Any:
    """The value of a body, or of a body and its region: arrays and the like are then views of that.

    A region that may not be written to is copied before.  Raises ValueError for whatever is not a
    packed value, OSError and MemoryError for a region that cannot be mapped.
    """
    if not isinstance(packed, Parcel):
        return _unpacked(packed, None)
    region = packed.region
    assert not isinstance(region, Leaves), "what is to be sent is not unpacked"
    view = region.view() if isinstance(region, Mapped) else memoryview(region)
    return _unpacked(packed.body, memoryview(bytearray(view)) if view.readonly else view)


def _unpacked(body: Body, region: memoryview | None) -> Any:
    try:
        return _unpack(0, body, region)
    except Exception as error:  # msgpack raises eight unrelated kinds
        stray = error
    try:
        _unpack(0, body, region)
    except Exception as error:
        raise ValueError(f"not a packed value: {type(error).__name__}: {error}") from error
    raise stray  # by a signal handler, which does not strike twice


def _pack(depth: int, value: Any, leaves: Leaves | None = None) -> bytes:
    default = _defaults[depth] if leaves is None else partial(_default, depth, leaves=leaves)
    packer = msgpack.Packer(strict_types=True, default=default, buf_size=_BUFFER_BYTES)
    try:
        packed: bytes = packer.pack(value)
    except UnicodeEncodeError:
        # Asking for surrogatepass from the start would slow down every string.
        packed = msgpack.Packer(strict_types=True, default=default, unicode_errors="surrogatepass").pack(
            value
        )
    return packed


def _unpack(depth: int, body: Body, region: memoryview | None = None) -> Any:
    hook = _hooks[depth] if region is None else partial(_from_ext, depth, region=region)
    return msgpack.unpackb(body, ext_hook=hook, strict_map_key=False, unicode_errors="surrogatepass")


def _default(depth: int, value: Any, leaves: Leaves | None = None) -> Any:
    """What msgpack should pack in place of a value of a type that it does not know."""
    known = _exact.get(type(value))
    if known is not None:
        return known(depth, value, leaves)
    if leaves is not None and getattr(value, "nbytes", 0) >= APART_BYTES:
        described = value if type(value) is Described else _described(value)
        if described is not None:
            return _apart(leaves, described)
    encoded = buffers.encode(value) or files.encode(value)
    if encoded is not None:
        return msgpack.ExtType(*encoded)
    for base, plain in _bases.items():
        if isinstance(value, base):
            # msgpack asks only once: what is returned here must not need an ext type itself.
            return _exact[base](depth, plain(value), leaves) if base in _exact else plain(value)
    encoded = in_band(tensors.describe(value) or arrow.describe(value))
    if encoded is not None:
        return msgpack.ExtType(*encoded)
    substitute = _fallback(value)
    if substitute is NotImplemented:
        raise TypeError(f"object of type {type(value).__qualname__}{arrow.remedy(value)}")
    # Again: msgpack does not ask about what is returned here.
    return substitute if type(substitute) in _NATIVE else _default(depth, substitute, leaves)


def _described(value: Any) -> Described | None:
    return buffers.describe(value) or tensors.describe(value) or arrow.describe(value)


def _with_bytes_apart(value: Any) -> Any:
    """The value with large bytes described; only those that are found at one look."""
    if type(value) not in (dict, list, tuple):
        return _described_if_large(value)
    items = value.values() if type(value) is dict else value
    if len(value) > _MOST_LOOKED_AT or not any(map(_is_large, items)):
        return value
    if type(value) is dict:
        return {key: _described_if_large(item) for key, item in value.items()}
    return type(value)(map(_described_if_large, value))


def _described_if_large(value: Any) -> Any:
    return _described_bytes(value, BYTES_APART) if _is_large(value) else value


def _is_large(value: Any) -> bool:
    return type(value) in (bytes, bytearray) and len(value) >= APART_BYTES


def _described_bytes(data: bytes, code: int) -> Described:
    return Described(code, b"", len(data), partial(copy_bytes, data))


def _apart(leaves: Leaves, described: Described) -> msgpack.ExtType:
    place = _PLACE.pack(described.code, leaves.add(described), described.nbytes)
    return msgpack.ExtType(APART_CODE, place + described.description)


def _nested(code: int, depth: int, items: Iterable[Any], leaves: Leaves | None) -> msgpack.ExtType:
    if depth + 1 >= MAX_NESTED_TUPLES:
        raise _TooDeep(f"more than {MAX_NESTED_TUPLES} tuples or sets within each other")
    return msgpack.ExtType(code, _pack(depth + 1, list(items), leaves))


def _complex(depth: int, value: complex, leaves: Leaves | None) -> msgpack.ExtType:  # noqa: ARG001
    return msgpack.ExtType(COMPLEX_CODE, _COMPLEX.pack(value.real, value.imag))


def _from_ext(depth: int, code: int, payload: bytes, region: memoryview | None = None) -> Any:
    if code in _makers:
        if depth + 1 >= MAX_NESTED_TUPLES:
            raise ValueError(f"more than {MAX_NESTED_TUPLES} tuples or sets within each other")
        items = _unpack(depth + 1, payload, region)
        if type(items) is not list:
            raise ValueError(f"ext type {code} holds {type(items).__name__}, expected an array")
        return _makers[code](items)
    if code == COMPLEX_CODE:
        return complex(*_COMPLEX.unpack(payload))
    if code in (buffers.ARRAY_CODE, buffers.SCALAR_CODE):
        return buffers.decode(code, payload)
    if code in _of_halves:
        return _of_halves[code](*parted(payload))
    if code == files.FILE_CODE:
        return files.decode(payload)
    if code == APART_CODE and region is not None:
        return _from_region(depth, payload, region)
    raise ValueError(f"unknown ext type {code}" if code != APART_CODE else "its data lie apart: not here")


def _from_region(depth: int, payload: bytes, region: memoryview) -> Any:
    kind, offset, size = _PLACE.unpack_from(payload)
    description, data = payload[_PLACE.size :], region[offset : offset + size]
    if len(data) != size:
        raise ValueError(f"{size} bytes at {offset} are not within a region of {len(region)}")
    if kind == BYTES_APART:
        return bytes(data)
    if kind in _of_halves:
        return _of_halves[kind](description, data)
    if kind != PACKED_APART:
        return buffers.decode_view(kind, description, data)
    if depth + 1 >= MAX_NESTED_TUPLES:
        raise ValueError("packed values within each other")
    return _unpack(depth + 1, data, region)


_makers: dict[int, Callable[[list[Any]], Any]] = {TUPLE_CODE: tuple, SET_CODE: set, FROZENSET_CODE: frozenset}
_of_halves: dict[int, Callable[[bytes, memoryview], Any]] = {
    tensors.TENSOR_CODE: tensors.decode,
    arrow.ARROW_CODE: arrow.decode,
}
_exact: dict[type, Callable[[int, Any, Leaves | None], Any]] = {
    tuple: partial(_nested, TUPLE_CODE),
    set: partial(_nested, SET_CODE),
    frozenset: partial(_nested, FROZENSET_CODE),
    complex: _complex,
}
# The base's own methods: str() of a str Enum, or iter() of a dict's subclass, may say anything.
_bases: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes(memoryview(value)),
    bytearray: lambda value: bytes(memoryview(value)),
    dict: lambda value: dict(dict.items(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    complex: complex.__complex__,
}
_depths = range(MAX_NESTED_TUPLES)
_defaults = [partial(_default, depth) for depth in _depths]
_hooks = [partial(_from_ext, depth) for depth in _depths]


def _refuse(value: Any, path: str) -> NoReturn:
    """Finds the first thing in `value` that does not pack alone, and raises Unpackable about it.

    Looks only a few levels deep: each level packs again what is below it.
    """
    for _ in range(_MAX_PATH_STEPS):
        step = next((one for one in _inside(value, path) if _problem(one[1])), None)
        if step is None:
            break
        path, value = step
    raise Unpackable(f"{path}: {_problem(value) or 'could not be packed at the first attempt'}")


def _inside(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    with contextlib.suppress(Exception):  # then it is itself what cannot travel
        substitute = _fallback(value)
        value = value if substitute is NotImplemented else substitute
    if isinstance(value, dict):
        yield from ((f"{path}, key {_shown(key)}", key) for key in dict.keys(value))
        yield from ((f"{path}[{_shown(key)}]", item) for key, item in dict.items(value))
    elif isinstance(value, (list, tuple)):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((f"{path}, element {_shown(item)}", item) for item in value)


def _shown(key: object) -> str:
    if type(key) is str:
        return f'"{key[:60]}"'
    # The repr of anything else is somebody's code, which may fail or be endless.
    return quoted(key, 60) if type(key) in (int, float, bool, bytes, type(None)) else "..."


def _problem(value: Any) -> str:
    """Why a value does not pack; empty if it does."""
    try:
        _pack(0, value)
    except OverflowError:
        return "an integer of more than 64 bits; send it as text"
    except RecursionError:
        return "nested too deep, or contains itself"
    except _TooDeep as error:
        return str(error)
    except ValueError as error:
        return "nested too deep, or contains itself" if "recursion" in str(error) else str(error)
    except Exception as error:
        return str(error) or type(error).__name__
    return ""
