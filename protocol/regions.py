"""Messages whose value is a parcel: taken apart for the wire, and put together behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from warmd.protocol.messages import NOTHING, Body, Call, HandBack, Lent, Part, Result
from warmd.protocol.parcels import Leaves, Mapped, Parcel, Region, copied
from warmd.protocol.work import Invoke, Returned, Yielded

M = TypeVar("M")

VALUE_OF: dict[type, str] = {
    Call: "input", Invoke: "input", Part: "value", Result: "value", Yielded: "value", Returned: "value"
}  # fmt: skip
"""The field of a message that may hold a parcel."""


def parted(message: M, lend: Callable[[Region], Lent | None]) -> M:
    """The message as it travels.  `lend` says where the region can be had; None: it goes along as a frame."""
    name = VALUE_OF.get(type(message))
    parcel = None if name is None else getattr(message, name)
    if name is None or type(parcel) is not Parcel:
        return message
    lent = lend(parcel.region)
    region = as_frame(parcel.region) if lent is None else NOTHING
    changed: dict[str, Any] = {name: parcel.body, "lent": lent, "region": region}
    return replace(message, **changed)  # type: ignore[type-var]


def whole(message: M, borrow: Callable[[Lent], Region]) -> M:
    """The message as its receiver has it."""
    name = VALUE_OF.get(type(message))
    if name is None:
        return message
    told: Any = message
    if told.lent is None and not len(told.region):
        return message
    region = told.region if told.lent is None else borrow(told.lent)
    changed: dict[str, Any] = {name: Parcel(getattr(told, name), region), "lent": None, "region": NOTHING}
    return replace(told, **changed)  # type: ignore[no-any-return]


def settled(message: M) -> M:
    """The message with a copy of its large data: what is done to them before it is sent is not seen."""
    name = VALUE_OF.get(type(message))
    return message if name is None else replace(message, **{name: copied(getattr(message, name))})  # type: ignore[type-var]


def hand_back(done_with: deque[tuple[int, bool]]) -> HandBack:
    """What tells of all of them, which it takes out: the numbers, and whether they are only left."""
    message = HandBack([], [])
    while done_with:
        number, left = done_with.popleft()
        (message.left if left else message.numbers).append(number)
    return message


def lent_bytes(message: object) -> int:
    """How much of a message, as it travels, lies in lent memory."""
    lent = getattr(message, "lent", None)
    return lent.size if lent is not None else 0


def as_frame(region: Region) -> Body:
    """The bytes of a region, for one body frame."""
    if isinstance(region, Leaves):
        return region.joined()
    return region.view() if isinstance(region, Mapped) else region
