"""Arrays and numpy scalars as msgpack ext types, without numpy being a dependency.

Both are a description and data, laid out as `protocol.described` says:

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
import sys
from dataclasses import dataclass
from typing import Any, Literal

import msgpack

from warmd.protocol.described import (
    MAX_DESCRIPTION_BYTES,
    Described,
    Encoded,
    copy_bytes,
    elements,
    joined,
    parted,
)
from warmd.protocol.errors import quoted

ARRAY_CODE = 5
SCALAR_CODE = 6

_MAX_REMEMBERED_BYTES = 256


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

    @property
    def nbytes(self) -> int:
        return len(self.data)


def encode(value: object) -> Encoded | None:
    """The ext type for an array or numpy scalar; None for anything else.

    Raises TypeError for what would not come back the same: object dtypes, masked arrays, dtypes of
    other packages.
    """
    if isinstance(value, Array):
        code = SCALAR_CODE if value.scalar else ARRAY_CODE
        return Encoded(code, joined(_packed(value.dtype, value.shape, value.order), value.data))
    numpy = _numpy_of(value)
    if numpy is None:
        return None
    array = numpy.asarray(value)
    order = _order_of(array)
    code = SCALAR_CODE if isinstance(value, numpy.generic) else ARRAY_CODE
    return Encoded(code, joined(_description(array.dtype, array.shape, order), _flat(array, order).data))


def describe(value: object) -> Described | None:
    """The halves of an array; None for anything else, numpy scalars too.  Raises TypeError as `encode`."""
    if isinstance(value, Array):
        if value.scalar:
            return None
        description = _packed(value.dtype, value.shape, value.order)
        return Described(ARRAY_CODE, description, len(value.data), functools.partial(copy_bytes, value.data))
    numpy = _numpy_of(value)
    if numpy is None or isinstance(value, numpy.generic):
        return None
    array = numpy.asarray(value)
    order = _order_of(array)
    description = _description(array.dtype, array.shape, order)
    return Described(ARRAY_CODE, description, array.nbytes, functools.partial(_copy, array, order))


def decode(code: int, payload: bytes) -> Any:
    """The array or scalar of a payload; an `Array` where numpy is not installed.

    An array owns its memory and is writable.  Raises ValueError or TypeError.
    """
    array = _made(code, *parted(payload))
    return array.copy("A") if code == ARRAY_CODE and not isinstance(array, Array) else array


def decode_view(code: int, description: bytes | memoryview, data: memoryview) -> Any:
    """The array of these halves, in the memory of `data`, which it keeps alive.

    It is writable if `data` is.  A scalar is a copy, and so is the `Array` where numpy is not
    installed.  Raises ValueError or TypeError.
    """
    try:
        import numpy
    except ImportError:
        return _made(code, description, data)
    # An array right on a memoryview lets go of it: an mmap could be closed under the array.
    return _made(code, description, numpy.frombuffer(data, "u1"))


_OF_A_PARSER = (ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, RuntimeError, MemoryError)
"""What numpy raises for a dtype that is none; not what a signal handler may, such as TimeoutError."""


def _made(code: int, description: bytes | memoryview, data: Any) -> Any:
    # Only short ones are remembered: what an answer holds must not stay for long.
    read = _read if len(description) <= _MAX_REMEMBERED_BYTES else _read.__wrapped__
    dtype, shape, order = read(bytes(description))
    scalar = code == SCALAR_CODE
    try:
        import numpy
    except ImportError:
        return Array(dtype, shape, order, bytes(data), scalar)
    try:
        real = _dtype_of(dtype)
        fits = math.prod(shape) * real.itemsize == len(data) and real.itemsize and not real.hasobject
        view: Any = numpy.ndarray(shape, real, data, order=order) if fits else None
    except _OF_A_PARSER as error:
        raise ValueError(f"not an array: {type(error).__name__}: {error}") from error
    if view is None:
        raise ValueError(f"an array of {quoted(dtype, 80)} and shape {shape} does not fit its data")
    return view[()].copy() if scalar else view


def _numpy_of(value: object) -> Any:
    """numpy if the value is an array or scalar, else None.  Raises TypeError for masked arrays."""
    numpy: Any = sys.modules.get("numpy")
    # `asarray` comes after the array types in numpy's own import, which may be under way.
    if not hasattr(numpy, "asarray") or not isinstance(value, (numpy.ndarray, numpy.generic)):
        return None
    masked: Any = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise TypeError("masked array (send .data and .mask, or .filled())")
    return numpy


def _order_of(array: Any) -> Literal["C", "F"]:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _flat(array: Any, order: Literal["C", "F"]) -> Any:
    """The array as one row of bytes, in its own memory where it is contiguous."""
    # A view of bytes: the buffer protocol itself refuses datetime64.
    return array.ravel(order).view("u1")


def _copy(array: Any, order: Literal["C", "F"], room: memoryview) -> None:
    import numpy

    if array.flags.forc:
        # As bytes, since numpy copies structures member by member.
        numpy.copyto(numpy.ndarray(array.nbytes, "u1", room), _flat(array, order))
    else:
        numpy.copyto(numpy.ndarray(array.shape, array.dtype, room, order=order), array)


def _packed(dtype: Any, shape: tuple[int, ...], order: str) -> bytes:
    description: bytes = msgpack.packb([dtype, shape, order])
    if len(description) > MAX_DESCRIPTION_BYTES:
        raise TypeError("array whose dtype takes over 1 MiB to describe")
    return description


@functools.lru_cache(maxsize=128)
def _read(description: bytes) -> tuple[Any, tuple[int, ...], Literal["C", "F"]]:
    dtype, shape, order = elements(description, 3)
    if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"not a shape: {quoted(shape, 80)}")
    if order not in ("C", "F"):
        raise ValueError(f"not an order: {quoted(order, 80)}")
    return dtype, tuple(shape), order


@functools.lru_cache(maxsize=128)
def _description(dtype: Any, shape: tuple[int, ...], order: str) -> bytes:
    return _packed(_notation(dtype), shape, order)


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
