"""A value made of much data, in two halves: a small description, and the data.

Whoever carries the data apart from the message asks for the halves (`describe` of `buffers`,
`tensors` and `arrow`), makes room, and has the data copied into it: once, and from any layout.
Within a message the halves lie behind each other, as the payload of an ext type:

    u32 little-endian   length of the description
    description         msgpack, its content is the kind's own
    data                to the end of the payload
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from warmd.protocol.errors import quoted

MAX_DESCRIPTION_BYTES = 1024 * 1024

_LENGTH = struct.Struct("<I")
_MAX_EXT_BYTES = 2**32 - 1


class Described(NamedTuple):
    """The halves of a value: the one as bytes, the other still where it is."""

    code: int
    """The ext type."""
    description: bytes
    nbytes: int
    """How many bytes of data there are, exactly."""
    copy_into: Callable[[memoryview], None]
    """Writes the data into a writable memoryview of `nbytes` bytes."""


class Encoded(NamedTuple):
    """An ext type's code and payload."""

    code: int
    payload: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Foreign:
    """A value as received where its library is not installed; packs into the same bytes again."""

    code: int
    description: bytes
    data: bytes
    what: str
    """Its type and shape, for people."""
    library: str

    def __repr__(self) -> str:
        return f"<{self.what}, {len(self.data)} bytes: install {self.library} here to use it>"

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def described(self) -> Described:
        return Described(self.code, self.description, len(self.data), partial(copy_bytes, self.data))


def copy_bytes(data: bytes | bytearray, room: memoryview) -> None:
    """The `copy_into` of bytes."""
    room[:] = data


def joined(description: bytes, data: bytes | memoryview) -> bytes:
    """The payload made of two halves.  Raises TypeError for more than 4 GiB."""
    _check_size(len(data))
    return b"".join((_LENGTH.pack(len(description)), description, data))


def in_band(described: Described | None) -> Encoded | None:
    """The ext type of a described value, the data copied once.  Raises TypeError for more than 4 GiB."""
    if described is None:
        return None
    _check_size(described.nbytes)
    head = _LENGTH.pack(len(described.description)) + described.description
    if not described.nbytes:
        return Encoded(described.code, head)
    # A BytesIO hands out the very memory that was written into; a bytearray would be copied.
    payload = io.BytesIO(head)
    payload.seek(len(head) + described.nbytes - 1)
    payload.write(b"\0")
    with payload.getbuffer() as whole, whole[len(head) :] as room:
        described.copy_into(room)
    return Encoded(described.code, payload.getvalue())


def _check_size(nbytes: int) -> None:
    if nbytes > _MAX_EXT_BYTES - MAX_DESCRIPTION_BYTES:
        raise TypeError(f"{nbytes} bytes of data in one value; at most 4 GiB travel, split it")


def elements(description: bytes | memoryview, count: int, unicode_errors: str = "strict") -> list[Any]:
    """What a description says, an array of so many elements.  Raises ValueError."""
    import msgpack  # messages are imported without it

    try:
        found = msgpack.unpackb(description, max_ext_len=0, unicode_errors=unicode_errors)
    except Exception as error:  # msgpack raises eight unrelated kinds
        raise ValueError(f"not a description: {type(error).__name__}: {error}") from error
    if type(found) is not list or len(found) != count:
        raise ValueError(f"not a description of {count} elements: {quoted(found, 80)}")
    return found


def parted(payload: bytes) -> tuple[bytes, memoryview]:
    """The two halves of a payload, the data in its memory.  Raises ValueError."""
    if len(payload) < _LENGTH.size:
        raise ValueError("the payload ends before its description")
    begin = _LENGTH.size
    end = begin + _LENGTH.unpack_from(payload)[0]
    if not begin < end <= min(len(payload), begin + MAX_DESCRIPTION_BYTES):
        raise ValueError("the description has an impossible length")
    return payload[begin:end], memoryview(payload)[end:]
