"""Arrays as msgpack ext types, without numpy being a dependency.

The payload of an array or of a numpy scalar is

    u32 little-endian   length of the description
    description         msgpack array [dtype, shape, order]
    data                the elements, in that order

`dtype` is a string in numpy's notation (`"<f8"`, `"<M8[ns]"`, `"<U12"`), or for a structured dtype a
map {names, titles, formats, offsets, itemsize}, or for a subarray inside a structure [dtype, shape].
`order` is `"C"` or `"F"` and survives the trip; strides do not.

numpy is never imported to pack: a value can only be an array if somebody imported it already.
"""

from __future__ import annotations

import functools
import math
import struct
import sys
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgpack

from warmd.protocol.errors import quoted

ARRAY_CODE = 5
SCALAR_CODE = 6

_LENGTH = struct.Struct("<I")
_MAX_DESCRIPTION_BYTES = 1024 * 1024
_MAX_EXT_BYTES = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Array:
    """An array as received where numpy is not installed; packs into the same bytes again."""

    dtype: Any
    """numpy's notation, see the module's text."""
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    data: bytes
    scalar: bool = False
    """It was a numpy scalar, not a 0-d array."""


class Encoded(NamedTuple):
    """An ext type's code and payload."""

    code: int
    payload: bytes


def encode(value: object) -> Encoded | None:
    """The ext type for an array or numpy scalar; None for anything else.

    Raises TypeError for what would not come back the same: object dtypes, masked arrays, dtypes of
    other packages.
    """
    if isinstance(value, Array):
        code = SCALAR_CODE if value.scalar else ARRAY_CODE
        return Encoded(code, _joined(value.dtype, value.shape, value.order, value.data))
    numpy: Any = sys.modules.get("numpy")
    # `asarray` comes after the array types in numpy's own import, which may be under way.
    if not hasattr(numpy, "asarray") or not isinstance(value, (numpy.ndarray, numpy.generic)):
        return None
    masked: Any = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError("masked array (send .data and .mask, or .filled())")
    array = numpy.asarray(value)
    notation = _notation(array.dtype)
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    # A view of bytes: the buffer protocol itself refuses datetime64.
    data = array.ravel(order).view(numpy.uint8).data
    code = SCALAR_CODE if isinstance(value, numpy.generic) else ARRAY_CODE
    return Encoded(code, _joined(notation, array.shape, order, data))


def decode(code: int, payload: bytes) -> Any:
    """The array or scalar of a payload; an `Array` where numpy is not installed.

    An array owns its memory and is writable.  Raises ValueError or TypeError.
    """
    if len(payload) < _LENGTH.size:
        raise ValueError("an array's payload ends before its description")
    begin = _LENGTH.size
    end = begin + _LENGTH.unpack_from(payload)[0]
    if not begin < end <= min(len(payload), begin + _MAX_DESCRIPTION_BYTES):
        raise ValueError("an array's description has an impossible length")
    dtype, shape, order = _checked(msgpack.unpackb(payload[begin:end], max_ext_len=0))
    scalar = code == SCALAR_CODE
    try:
        import numpy
    except ImportError:
        return Array(dtype, shape, order, payload[end:], scalar)
    real = _dtype_of(dtype)
    if real.hasobject or math.prod(shape) * real.itemsize != len(payload) - end or not real.itemsize:
        raise ValueError(f"an array of {quoted(dtype, 80)} and shape {shape} does not fit its data")
    view: Any = numpy.ndarray(shape, real, memoryview(payload)[end:], order=order)
    return view[()].copy() if scalar else view.copy(order)


def _joined(dtype: Any, shape: tuple[int, ...], order: str, data: bytes | memoryview) -> bytes:
    if len(data) > _MAX_EXT_BYTES - _MAX_DESCRIPTION_BYTES:
        raise TypeError(f"array of {len(data)} bytes; at most 4 GiB travel in one array, split it")
    description = msgpack.packb([dtype, shape, order])
    if len(description) > _MAX_DESCRIPTION_BYTES:
        raise TypeError("array whose dtype takes over 1 MiB to describe")
    return b"".join((_LENGTH.pack(len(description)), description, data))


def _checked(description: Any) -> tuple[Any, tuple[int, ...], Literal["C", "F"]]:
    if type(description) is not list or len(description) != 3:
        raise ValueError("an array's description is not [dtype, shape, order]")
    dtype, shape, order = description
    if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"not a shape: {quoted(shape, 80)}")
    if order not in ("C", "F"):
        raise ValueError(f"not an order: {quoted(order, 80)}")
    return dtype, tuple(shape), order


@functools.lru_cache(maxsize=128)
def _notation(dtype: Any) -> Any:
    notation = _describe(dtype)
    # A dtype of another package (bfloat16) calls itself `V2`: it would come back as raw bytes.
    if dtype.hasobject or not dtype.itemsize or _dtype_of(notation) != dtype:
        raise TypeError(f"array of dtype {dtype}")
    return notation


def _describe(dtype: Any) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_describe(base), list(shape)]
    if dtype.names is None:
        return dtype.str
    members = [dtype.fields[name] for name in dtype.names]
    return {
        "names": list(dtype.names),
        "titles": [member[2] if len(member) > 2 else None for member in members],
        "formats": [_describe(member[0]) for member in members],
        "offsets": [member[1] for member in members],
        "itemsize": dtype.itemsize,
    }


def _dtype_of(notation: Any) -> Any:
    import numpy

    dtype: Any = numpy.dtype
    if type(notation) is str:
        return dtype(notation)
    if type(notation) is list and len(notation) == 2 and type(notation[1]) is list:
        return dtype((_dtype_of(notation[0]), tuple(notation[1])))
    if type(notation) is dict and notation.keys() == {"names", "titles", "formats", "offsets", "itemsize"}:
        return dtype({**notation, "formats": [_dtype_of(one) for one in notation["formats"]]})
    raise ValueError(f"not a dtype: {quoted(notation, 80)}")
