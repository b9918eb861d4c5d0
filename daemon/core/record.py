"""The record of one detached call: what it gave so far, who reads it, and what keeping it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from warmd.daemon.core import policy
from warmd.daemon.core.parts import Parts
from warmd.protocol.messages import Body, CallId, ClientId, Failure, Result, SessionId
from warmd.protocol.parcels import Parcel, Value

PACKED_NONE = b"\xc0"
BYTES_OF_A_CHARACTER = 4
"""As many as Python takes at most."""


@dataclass(slots=True, eq=False)
class Reader:
    """One conversation in which a call's parts and its end are told."""

    client: ClientId
    id: CallId
    kept: Kept
    at: int
    """The number of the next part to be told, which may be yet to come."""
    credit: int | None
    """None: only the end is wanted."""


@dataclass(slots=True, eq=False)
class Kept:
    """A detached call, as far as it has come."""

    id: CallId
    function: str
    note: str = ""
    session: SessionId | None = None
    admitted: bool = False
    """Its session is known; None then means the shared pool."""
    parts: Parts = field(default_factory=Parts)
    bytes: int = 0
    final: Result | Failure | None = None
    ended: float = 0.0
    readers: list[Reader] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The number of the first part that is kept."""
        return self.parts.first

    @property
    def next(self) -> int:
        """How many parts it has given."""
        return self.parts.next

    @property
    def code(self) -> str | None:
        """The error that it ended with; None for none."""
        return self.final.code if isinstance(self.final, Failure) else None


class Grave(NamedTuple):
    """What is remembered of a call that is no longer kept."""

    code: str | None
    ended: float
    why: Literal["time", "room", "size"]

def final_bytes(final: Result | Failure, note: str = "") -> int:
    """What keeping a call that has ended costs, without its parts."""
    if isinstance(final, Result):
        return len(final.value) + _text_bytes(note) + policy.KEPT_CALL_BYTES
    return _text_bytes([final.message, final.details, note]) + policy.KEPT_CALL_BYTES


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value) * BYTES_OF_A_CHARACTER
    if isinstance(value, Mapping):
        return sum(_text_bytes([key, item]) for key, item in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_text_bytes, value))
    return 0


def owned(value: Value) -> Value:
    """The value for keeping: a copy, unless it is nearly all of the message that a view would keep.

    Memory that is lent stays lent.
    """
    if isinstance(value, Parcel):
        region = value.region
        return Parcel(_owned(value.body), _owned(region) if isinstance(region, memoryview) else region)
    return _owned(value)


def _owned(value: Body) -> Body:
    if isinstance(value, memoryview) and len(value.obj) - len(value) < len(value) // 256:  # type: ignore[arg-type]
        return value
    return bytes(value)
