"""Plain Python values to bytes and back, types kept.

What travels: None, bool, integers of 64 bits, float, complex, str (also with NUL and lone
surrogates), bytes, list, tuple, set, frozenset, dict with any hashable keys of these types, numpy
arrays and scalars.  A subclass (namedtuple, IntEnum, OrderedDict) travels as its base, bytearray and
memoryview as bytes.  Never pickle.

The format is msgpack.  What msgpack lacks is an ext type whose payload, except for complex, arrays
and scalars (`protocol.buffers`), is the msgpack array of the elements:

    1 tuple   2 set   3 frozenset   4 complex (two little-endian f64)   5 array   6 numpy scalar

Every call makes its own packer (0.2 us): `default` runs Python code in the middle of `pack()`, where
another thread, a signal handler or a finalizer may want to pack too, and a shared packer would mix
their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn

import msgpack

from warmd.protocol import buffers
from warmd.protocol.errors import quoted
from warmd.protocol.messages import Body

TUPLE_CODE, SET_CODE, FROZENSET_CODE, COMPLEX_CODE = 1, 2, 3, 4

MAX_NESTED_TUPLES = 64
"""Tuples and sets within each other: each level costs Python frames on both sides.  Lists and dicts
nest to msgpack's own limit (511 or 1024, by its version)."""

_COMPLEX = struct.Struct("<dd")
_BUFFER_BYTES = 1024
_MAX_PATH_STEPS = 20


class Unpackable(TypeError):
    """A value that cannot travel; the text names the path to it, like `input["a"][3]`."""


class _TooDeep(ValueError):
    pass


def pack(value: Any, name: str = "value") -> bytes:
    """The bytes of a value.

    `name` stands for the value in error texts.  Raises Unpackable.
    """
    try:
        return _packers[0](value)
    except Exception:
        _refuse(value, name)


def unpack(body: Body) -> Any:
    """The value of these bytes.  Raises ValueError for whatever is not a packed value."""
    try:
        return _unpackers[0](body)
    except Exception as error:  # msgpack raises eight unrelated kinds
        raise ValueError(f"not a packed value: {type(error).__name__}: {error}") from error


def _pack(depth: int, value: Any) -> bytes:
    packer = msgpack.Packer(strict_types=True, default=_defaults[depth], buf_size=_BUFFER_BYTES)
    try:
        packed: bytes = packer.pack(value)
    except UnicodeEncodeError:
        # Asking for surrogatepass from the start would slow down every string.
        packed = msgpack.Packer(
            strict_types=True, default=_defaults[depth], unicode_errors="surrogatepass"
        ).pack(value)
    return packed


def _unpack(depth: int, body: Body) -> Any:
    return msgpack.unpackb(body, ext_hook=_hooks[depth], strict_map_key=False, unicode_errors="surrogatepass")


def _default(depth: int, value: Any) -> Any:
    """What msgpack should pack in place of a value of a type that it does not know."""
    known = _exact.get(type(value))
    if known is not None:
        return known(depth, value)
    encoded = buffers.encode(value)
    if encoded is not None:
        return msgpack.ExtType(*encoded)
    for base, plain in _bases.items():
        if isinstance(value, base):
            # msgpack asks only once: what is returned here must not need an ext type itself.
            return _exact[base](depth, plain(value)) if base in _exact else plain(value)
    raise TypeError(f"object of type {type(value).__qualname__}")


def _nested(code: int, depth: int, items: Iterable[Any]) -> msgpack.ExtType:
    if depth + 1 >= MAX_NESTED_TUPLES:
        raise _TooDeep(f"more than {MAX_NESTED_TUPLES} tuples or sets within each other")
    return msgpack.ExtType(code, _packers[depth + 1](list(items)))


def _complex(depth: int, value: complex) -> msgpack.ExtType:  # noqa: ARG001
    return msgpack.ExtType(COMPLEX_CODE, _COMPLEX.pack(value.real, value.imag))


def _from_ext(depth: int, code: int, payload: bytes) -> Any:
    if code in _makers:
        if depth + 1 >= MAX_NESTED_TUPLES:
            raise ValueError(f"more than {MAX_NESTED_TUPLES} tuples or sets within each other")
        items = _unpackers[depth + 1](payload)
        if type(items) is not list:
            raise ValueError(f"ext type {code} holds {type(items).__name__}, expected an array")
        return _makers[code](items)
    if code == COMPLEX_CODE:
        return complex(*_COMPLEX.unpack(payload))
    if code in (buffers.ARRAY_CODE, buffers.SCALAR_CODE):
        return buffers.decode(code, payload)
    raise ValueError(f"unknown ext type {code}")


_makers: dict[int, Callable[[list[Any]], Any]] = {TUPLE_CODE: tuple, SET_CODE: set, FROZENSET_CODE: frozenset}
_exact: dict[type, Callable[[int, Any], Any]] = {
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
_packers = [partial(_pack, depth) for depth in _depths]
_unpackers = [partial(_unpack, depth) for depth in _depths]


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
        _packers[0](value)
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
