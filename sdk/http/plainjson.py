"""What apps give -> what JSON has.

    NaN, infinities             null, as JavaScript writes them
    tuple, set, frozenset       a list; a set's in no order
    complex                     {"real": 1.0, "imag": 2.0}
    numpy scalars               the number or text that they are; dates and durations as numpy writes them
    text with lone surrogates   U+FFFD in their place
    keys that are not text      the JSON of them: 1 -> "1", None -> "null", (1, 2) -> "[1,2]";
                                bytes are taken for UTF-8
    bytes, arrays, tables, File an object that tells where the file is (`warmd.http.outfiles`)

Anything else is refused, and so are two keys of one dict that become the same text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import orjson

from warmd.protocol.buffers import Array
from warmd.protocol.errors import quoted

ONLY_PLAIN = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
_SCALARS = {
    "|b1": "?", "|i1": "b", "|u1": "B", "<i2": "<h", "<u2": "<H", "<i4": "<i", "<u4": "<I", "<i8": "<q",
    "<u8": "<Q", "<f2": "<e", "<f4": "<f", "<f8": "<d",
}  # fmt: skip


def dumped(value: Any) -> bytes:
    """The JSON of what is plain already.  Raises TypeError for all else."""
    return orjson.dumps(value, option=ONLY_PLAIN)


def plain(value: Any, file_of: Callable[[Any], dict[str, Any] | None]) -> Any:
    """The value, made of nothing but what JSON has.

    `file_of(part)` keeps a part as a file and says what stands for it; None for what is no file.
    Raises TypeError, RecursionError, and what `file_of` raises.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float):
        return value
    if kind is str:
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if kind is dict:
        return _object(value, file_of)
    if kind in (list, tuple, set, frozenset):
        return [plain(item, file_of) for item in value]
    if kind is complex:
        return {"real": value.real, "imag": value.imag}
    if _is_scalar(value):
        return plain(_unwrapped(value), file_of)
    told = file_of(value)
    if told is None:
        raise TypeError(
            f"it holds a {kind.__module__}.{kind.__qualname__}; return text, numbers, lists, dicts, bytes, "
            "arrays, or a warmd.File"
        )
    return told


def _object(value: dict[Any, Any], file_of: Callable[[Any], dict[str, Any] | None]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for key, item in value.items():
        name = _name(key)
        if name in told:
            raise TypeError(f"two keys of a dict are the same as text: {quoted(name, 80)}")
        told[name] = plain(item, file_of)
    return told


def _name(key: Any) -> str:
    if isinstance(key, bytes):
        return key.decode("utf-8", "replace")
    told = plain(key, lambda _part: None)
    return told if isinstance(told, str) else dumped(told).decode()


def _is_scalar(value: Any) -> bool:
    if isinstance(value, Array):
        return value.scalar
    # Without importing numpy: its scalars have both, its arrays have a base or none of the hash.
    return type(value).__module__ == "numpy" and type(value).__hash__ is not None


def _unwrapped(value: Any) -> Any:
    """What a numpy scalar is in Python.  Raises TypeError where that is nothing."""
    if isinstance(value, Array):
        if value.dtype not in _SCALARS:
            raise TypeError(
                f"it holds a numpy scalar of {quoted(value.dtype, 60)}; install numpy where the gateway runs"
            )
        return struct.unpack(_SCALARS[value.dtype], value.data)[0]
    kind = value.dtype.kind
    if kind in "mM":
        return None if value != value else str(value)
    if kind in "fc":
        # Not item(), which leaves a long double as it is.
        return complex(value) if kind == "c" else float(value)
    return value.item()
