"""Messages to frames and back.

A message is one header frame and up to four body frames.  The header is a msgpack array
`[kind, field, field, ...]` of at most 64 KiB; the kinds are numbered below and the fields come in
the order in which `messages` and `work` declare them.  Body frames are opaque here: they are
packed values (`protocol.values`) that only the two ends of a call unpack.

Unpacking trusts nobody: sizes are bounded before msgpack sees a byte, and each field is checked
against its declared type, so that what the rule book receives is what its annotations say.  That
check is what most of the time would go into.  But for a plain field (a number, a text) its type
decides, so a message whose fields have the same types as one that passed need not be looked at
again: such *shapes* are remembered, and only the other fields (records, lists, maps) checked.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar, cast

import msgpack

from warmd.protocol import gpus, messages, work
from warmd.protocol.errors import quoted
from warmd.protocol.messages import NOTHING, Body

MAX_HEADER_BYTES = 64 * 1024

M = TypeVar("M")
Check: TypeAlias = Callable[[Any], Any]


class WireError(ValueError):
    """Frames that are no message: garbage, another protocol, or over a limit."""


class Codec(Generic[M]):
    """Packs and unpacks one direction of one protocol."""

    def __init__(self, kinds: Mapping[int, type[M]]) -> None:
        self._layouts = {kind: _Layout(kind, cls) for kind, cls in kinds.items()}
        self._by_class = {layout.cls: layout for layout in self._layouts.values()}
        # One packer for all: pack() holds the interpreter from its first byte to its last.
        self._pack = msgpack.Packer().pack

    def pack(self, message: M) -> list[Body]:
        """The message's frames, header first; absent trailing body frames are left out.

        Raises WireError when the header is over its limit or holds what msgpack cannot say.
        """
        layout = self._by_class[type(message)]
        try:
            header = self._pack(layout.header_of(message))
        except (TypeError, ValueError, OverflowError) as error:
            raise WireError(f"{layout.cls.__name__} has a field that cannot be packed: {error}") from error
        if len(header) > MAX_HEADER_BYTES:
            raise WireError(
                f"the header of {layout.cls.__name__} has {len(header)} bytes, the limit is "
                f"{MAX_HEADER_BYTES}: shorten its names, labels or environment"
            )
        return layout.append_bodies(header, message)

    def unpack(self, frames: Sequence[Body]) -> M:
        """The message of these frames.  Raises WireError."""
        if not frames or len(frames[0]) > MAX_HEADER_BYTES:
            raise WireError("no header, or a header over its limit of 64 KiB")
        try:
            header = msgpack.unpackb(frames[0], max_ext_len=0)
        except Exception as error:  # msgpack raises eight unrelated kinds
            # Not its repr, which can hold all the bytes.
            raise WireError(f"the header is not msgpack: {type(error).__name__}: {error!s:.100}") from error
        if type(header) is not list or not header or type(header[0]) is not int:
            raise WireError("the header is not an array that begins with a kind")
        layout = self._layouts.get(header[0])
        if layout is None:
            raise WireError(f"unknown kind of message: {header[0]}")
        return layout.build(header, frames)


class _Layout(Generic[M]):
    """How one message class lies in its frames; worked out once, at import."""

    def __init__(self, kind: int, cls: type[M]) -> None:
        self.cls = cls
        self.kind = kind
        self.body_names: tuple[str, ...] = getattr(cls, "FRAMES", ())
        hints = typing.get_type_hints(cls)
        names = [f.name for f in fields(cls) if f.name not in self.body_names]  # type: ignore[arg-type]
        self._checked = Checked(cls.__name__, {name: hints[name] for name in names})
        self._fields = attrgetter(*names)
        self._single = len(names) == 1
        self._bodies = attrgetter(*self.body_names) if self.body_names else None
        declared = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        first = declared.index(self.body_names[0]) if self.body_names else len(names)
        self._before = first if first < len(names) else None
        """How many header fields the class declares before its first body, where more come after it."""

    def header_of(self, message: M) -> tuple[Any, ...]:
        if self._single:
            return (self.kind, self._fields(message))
        return (self.kind, *self._fields(message))

    def append_bodies(self, header: bytes, message: M) -> list[Body]:
        frames: list[Body] = [header]
        if self._bodies is None:
            return frames
        if len(self.body_names) == 1:
            frames.append(cast("Body", self._bodies(message)))
        else:
            frames.extend(self._bodies(message))
        while frames[-1] is NOTHING or not len(frames[-1]):
            frames.pop()
        return frames

    def build(self, header: list[Any], frames: Sequence[Body]) -> M:
        if len(frames) - 1 > len(self.body_names):
            raise WireError(f"{self.cls.__name__} has more than {len(self.body_names)} body frames")
        del header[0]
        make: Callable[..., M] = self.cls
        try:
            values = self._checked(header)
            if self._before is None:
                return make(*values, *frames[1:])
            values.insert(self._before, frames[1] if len(frames) > 1 else NOTHING)
            return make(*values, *frames[2:])
        except (TypeError, ValueError) as error:
            raise WireError(str(error)) from None


class Checked:
    """The values of a message or record, in order, each as its hint says.

    Called with a list, which it changes and returns.  Raises TypeError or ValueError.
    """

    def __init__(self, label: str, hints: Mapping[str, Any]) -> None:
        self._label = label
        self._checks = [(name, check_for(hint)) for name, hint in hints.items()]
        self._deep = [
            (at, check_for(present(hint))) for at, hint in enumerate(hints.values()) if not is_plain(hint)
        ]
        self._shapes: set[tuple[type, ...]] = set()

    def __call__(self, values: list[Any]) -> list[Any]:
        shape = tuple(map(type, values))
        if shape not in self._shapes:
            self._look_at(values)
            self._shapes.add(shape)
            return values
        for at, check in self._deep:
            if values[at] is not None:
                values[at] = check(values[at])
        return values

    def _look_at(self, values: list[Any]) -> None:
        if len(values) != len(self._checks):
            raise ValueError(f"{self._label} has {len(values)} fields, expected {len(self._checks)}")
        for at, (name, check) in enumerate(self._checks):
            try:
                values[at] = check(values[at])
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self._label}.{name}: {error}") from None


def present(hint: Any) -> Any:
    """The hint of an optional value that is not None."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    (inner,) = [part for part in typing.get_args(hint) if part is not types.NoneType]
    return inner


def is_plain(hint: Any) -> bool:
    """Whether the type of a value alone says that it fits."""
    if isinstance(hint, typing.NewType):
        return is_plain(hint.__supertype__)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(map(is_plain, typing.get_args(hint)))
    return hint in (bool, int, float, str, bytes, types.NoneType)


def check_for(hint: Any) -> Check:
    """A function that returns its argument as `hint` says, or raises TypeError or ValueError."""
    if isinstance(hint, typing.NewType):
        return check_for(hint.__supertype__)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _optional(check_for(present(hint)))
    if origin is typing.Literal:
        return _one_of(typing.get_args(hint))
    if origin in (list, tuple):
        return _sequence(origin, check_for(typing.get_args(hint)[0]))
    if origin is dict:
        return _mapping(hint)
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return _record(hint)
    return _plain(hint)


def _plain(kind: type) -> Check:
    # A peer in another language may write 3.0 as 3; a bool is never a number.
    accepted = (int, float) if kind is float else (kind,)

    def check(value: Any) -> Any:
        if type(value) not in accepted:
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    return check


def _optional(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)


def _one_of(choices: tuple[Any, ...]) -> Check:
    def check(value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"expected one of {choices}, got {quoted(value, 40)}")
        return value

    return check


def _sequence(kind: type, item: Check) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not list:
            raise TypeError(f"expected an array, got {type(value).__name__}")
        return kind(map(item, value))

    return check


def _mapping(hint: Any) -> Check:
    key, value_hint = typing.get_args(hint)
    check_key = _plain(key)
    check_value: Check = (lambda value: value) if value_hint is Any else check_for(value_hint)

    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise TypeError(f"expected a map, got {type(value).__name__}")
        return {check_key(k): check_value(v) for k, v in value.items()}

    return check


def _record(kind: Any) -> Check:
    checked = Checked(kind.__name__, typing.get_type_hints(kind))
    make = partial(tuple.__new__, kind)  # `_make` would count the fields again

    def check(value: Any) -> Any:
        if type(value) is not list:
            raise TypeError(f"expected an array for {kind.__name__}, got {type(value).__name__}")
        return make(checked(value))

    return check


FROM_CLIENT: Codec[messages.FromClient] = Codec(
    {
        1: messages.Hello,
        2: messages.Call,
        3: messages.Request,
        4: messages.Credit,
        5: messages.Cancel,
        6: messages.Attach,
        7: messages.Pong,
        8: messages.HandBack,
    }
)
FROM_DAEMON: Codec[messages.FromDaemon] = Codec(
    {
        1: messages.Welcome,
        2: messages.Refused,
        3: messages.Accepted,
        4: messages.Part,
        5: messages.Result,
        6: messages.Failure,
        7: messages.Goodbye,
        8: messages.Ping,
        9: messages.HandBack,
        10: messages.Parts,
    }
)
TO_WORKER: Codec[work.ToWorker] = Codec(
    {
        1: work.Begin,
        2: work.Invoke,
        3: work.MoreCredit,
        4: work.AskCancel,
        5: work.Finish,
        6: work.Prepare,
        7: work.Fork,
        8: messages.HandBack,
        9: work.Describe,
        10: gpus.Park,
        11: gpus.Unpark,
    }
)
FROM_WORKER: Codec[work.FromWorker] = Codec(
    {
        1: work.Arrived,
        2: work.Ready,
        3: work.StartFailed,
        4: work.Yielded,
        5: work.Returned,
        6: work.Raised,
        7: work.Interrupted,
        8: work.Progressed,
        9: work.Prepared,
        10: work.Forked,
        11: work.ForkFailed,
        12: work.Outdated,
        13: messages.HandBack,
        14: work.Lend,
        15: work.Described,
        16: work.Declined,
        17: work.Reloaded,
        18: work.NoFunction,
        19: gpus.Offloaded,
        20: gpus.Checkpointable,
        21: gpus.KeepsMemory,
        22: gpus.ParkFailed,
        23: gpus.Unparked,
    }
)
