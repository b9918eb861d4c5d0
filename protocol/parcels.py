"""A packed value whose large data lie apart from it, wherever those are at the moment.

A body of msgpack is copied at each step of its way.  So arrays, tensors, tables and bytes from
`APART_BYTES` on are left out of it, and lie in one region beside it, each at an offset that its ext
type in the body names (`protocol.values`).  The region is, on its way,

    Leaves      where the sender has them: nothing is copied yet
    a frame     copied into one body frame, where there is no better way (TCP)
    a segment   copied once, into memory that sender and receiver share (`protocol.segments`); a
                loan passes through the daemon
    Borrowed    that memory, mapped by the receiver (`protocol.mappings`)

Who passes values on need not know: a `Parcel` has a length, as bytes have.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias, runtime_checkable

from warmd.protocol.described import Described, copy_bytes

Body: TypeAlias = bytes | bytearray | memoryview
"""Bytes of a packed value (`protocol.values`), or of a region."""

APART_BYTES = 256 * 1024
"""From here on a descriptor and a mapping cost less than the copies that they save (`benchmarks.sizes`)."""
ALIGNMENT_BYTES = 64


class Source(Protocol):
    """One large thing of a value: an array, a tensor, a table, bytes."""

    @property
    def nbytes(self) -> int: ...

    def copy_into(self, room: memoryview) -> None:
        """Write all of it into `room`, which is as large."""


@runtime_checkable
class Mapped(Sized, Protocol):
    """A region that has to be mapped before it is read."""

    def view(self) -> memoryview: ...


class Leaves:
    """The large data of a value, in the order of their offsets."""

    __slots__ = ("_size", "_sources")

    def __init__(self) -> None:
        self._sources: list[tuple[int, Source]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, source: Source) -> int:
        """Put it at the end; its offset."""
        offset = aligned(self._size)
        self._sources.append((offset, source))
        self._size = offset + source.nbytes
        return offset

    def copy_into(self, room: memoryview) -> None:
        """Fill a region of the size that `len` says."""
        for offset, source in self._sources:
            source.copy_into(room[offset : offset + source.nbytes])

    def copy(self) -> Leaves:
        """The same data in memory of their own."""
        data, copy = self.joined(), Leaves()
        copy.add(Described(0, b"", len(data), partial(copy_bytes, data)))
        return copy

    def joined(self) -> bytearray:
        """The region in memory of its own."""
        room = bytearray(self._size)
        self.copy_into(memoryview(room))
        return room


Region: TypeAlias = Body | Leaves | Mapped


@dataclass(slots=True, eq=False)
class Parcel:
    """A packed value and the region that its ext types point into."""

    body: Body
    region: Region

    def __len__(self) -> int:
        """Bytes, in all."""
        return len(self.body) + len(self.region)


Value: TypeAlias = Body | Parcel
"""A packed value, whole or with its large data apart."""


def copied(value: Value) -> Value:
    """The value as it is now, whatever becomes of what its large data lie in."""
    if isinstance(value, Parcel) and isinstance(value.region, Leaves):
        return Parcel(value.body, value.region.copy())
    return value


def aligned(offset: int) -> int:
    """The next place where anything may begin."""
    return -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
