"""Garbage for fuzzers: messages whose fields are of the right types, then damaged, and plain noise.

Each fuzzer prints its seed, so that one that failed can be repeated (FUZZ_SEED), and can be made
to search longer (FUZZ_EXAMPLES=50000).  A daemon takes each variable with WARMD_ for a setting.
"""

from __future__ import annotations

import os
import random
import struct
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import msgpack

from warmd.protocol.wire import Codec

SPECIMENS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**64 - 1, -(2**63)),
    *(0.0, -0.0, -1.5, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("", "x", "new", "../..", "a\0b", "\U0001f4a9", "x" * 30_000, "x" * 60_000),
    *(
        b"",
        b"x",
        b"\xff" * 16,
        b"\x80\x04." * 9,
        [],
        [[]],
        [None] * 1000,
        {},
        {"x": {"x": {"x": 1}}},
        {b"": 1},
    ),
    *(msgpack.ExtType(1, b"\xc1"), msgpack.ExtType(5, b"\xff" * 40), msgpack.Timestamp(0)),
)
DEEP = b"\x91" * 60_000
WIDE = b"\xdc\xff\xff" + b"\x90" * 65_000
HEADERS = (
    *(b"", b"\xc1", b"\x90", b"\xc0", b"\x91\x02", b"\x92\x02\xd9\x05ab", DEEP, WIDE, b"\x93\x02" + DEEP),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"),
    *(b"\x92\x01\xa2\xff\xfe", b"\x91\xc7\xff\x01", b"\x90" * 100_000, b"\x91\xcf" + b"\xff" * 8),
)
BODIES = (b"", b"\x90", DEEP, b"\xc1" * 99, b"\xdd\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x05")


def examples(count: int) -> int:
    """How many to try: `count`, unless the environment asks for more or less."""
    return int(os.environ.get("FUZZ_EXAMPLES", str(count)))


class Garbage:
    """Random messages of one direction of one protocol, from valid to none at all.

    `pools` gives values for fields by their name, so that garbage meets what is really there.
    """

    def __init__(
        self, codec: Codec[Any], pools: Mapping[str, Sequence[Any]], seed: int | None = None
    ) -> None:
        chosen = os.environ.get("FUZZ_SEED") if seed is None else seed
        self.seed = int(chosen) if chosen is not None else random.SystemRandom().getrandbits(32)
        print(f"FUZZ_SEED={self.seed}")  # pytest shows it when the test fails
        self.random = random.Random(self.seed)
        self._codec = codec
        self.pools = pools
        self._classes: list[type] = list(codec._by_class)

    def frames(self) -> list[bytes]:
        """One message or none, as frames."""
        damage: Callable[[], list[bytes]] = self.random.choice(
            [
                self._as_it_should,
                self._swapped,
                self._swapped,
                self._cut,
                self._flipped,
                self._noise,
                self._odd,
            ]
        )
        return damage()

    def valid(self, kind: type | None = None) -> Any:
        """A message that can be packed; of `kind`, or of any."""
        kind = kind or self.random.choice(self._classes)
        hints = typing.get_type_hints(kind)
        # A record has no place for what it is not, but here that is the purpose.
        return kind(**{field.name: self._value(field.name, hints[field.name]) for field in fields(kind)})

    def noise(self, most_bytes: int = 200) -> bytes:
        return self.random.randbytes(self.random.randrange(1, most_bytes))

    def packed(self) -> list[bytes]:
        """The frames of a valid message."""
        return [bytes(frame) for frame in self._codec.pack(self.valid())]

    def _as_it_should(self) -> list[bytes]:
        return self.packed()

    def _swapped(self) -> list[bytes]:
        """One or two fields hold what another message has there, or something else; or one is left out."""
        header, *bodies = self.packed()
        items: list[Any] = msgpack.unpackb(header)
        for _ in range(self.random.choice([1, 1, 2])):
            at = self.random.randrange(len(items))
            way = self.random.randrange(8)
            if way == 0:
                del items[at]
                items = items or [0]
            elif way == 1:
                other = self.random.randrange(len(items))
                items[at], items[other] = items[other], items[at]
            elif way == 2:
                items.insert(at, self._specimen())
            else:
                items[at] = self._specimen()
        return [msgpack.packb(items), *bodies]

    def _cut(self) -> list[bytes]:
        frames = self.packed()
        at = self.random.randrange(len(frames))
        frames[at] = frames[at][: self.random.randrange(len(frames[at]) + 1)]
        return frames

    def _flipped(self) -> list[bytes]:
        frames = [bytearray(frame) for frame in self.packed()]
        for _ in range(self.random.choice([1, 1, 3, 20])):
            frame = self.random.choice(frames)
            if frame:
                frame[self.random.randrange(len(frame))] ^= 1 << self.random.randrange(8)
        return [bytes(frame) for frame in frames]

    def _noise(self) -> list[bytes]:
        return [self.noise() for _ in range(self.random.choice([1, 1, 2, 4]))]

    def _odd(self) -> list[bytes]:
        """A header made to hurt, or too many frames."""
        if self.random.random() < 0.5:
            return [self.random.choice(HEADERS)]
        return [*self.packed(), *(self._body() for _ in range(self.random.choice([1, 2, 3, 50])))]

    def _body(self) -> bytes:
        return self.random.choice(BODIES)

    def _specimen(self) -> Any:
        value = self.random.choice(SPECIMENS)
        pool: Sequence[Any] = self.random.choice([[value], *self.pools.values()])
        return self.random.choice(pool)

    def _value(self, name: str, hint: Any) -> Any:
        if name in self.pools:
            return self.random.choice(self.pools[name])
        if isinstance(hint, typing.NewType):
            return self._value(name, hint.__supertype__)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if {bytes, memoryview} <= set(arguments):
            return self._body()
        if origin in (typing.Union, types.UnionType):
            return self._value(name, self.random.choice(arguments))
        if origin is typing.Literal:
            return self.random.choice(arguments)
        if origin in (list, tuple):
            return [self._value("", arguments[0]) for _ in range(self.random.choice([0, 1, 5]))]
        if origin is dict:
            kind = str if arguments[1] is Any else arguments[1]
            return {f"k{n}": self._value("", kind) for n in range(self.random.choice([0, 1, 3]))}
        if hasattr(hint, "_fields"):
            return [self._value(one, kind) for one, kind in typing.get_type_hints(hint).items()]
        kinds = [value for value in SPECIMENS if type(value) is hint and _small(value)]
        return self.random.choice(kinds) if kinds else None


def _small(value: object) -> bool:
    return not isinstance(value, (str, bytes)) or len(value) < 20_000


def on_a_stream(frames: Sequence[bytes], random: random.Random) -> bytes:
    """The frames as they lie on a byte stream, with lengths that are right or not."""
    lengths = [len(frame) for frame in frames[:3]] + [0] * (3 - len(frames))
    if random.random() < 0.3:
        at = random.randrange(3)
        lengths[at] = random.choice([0, lengths[at] + 1, max(0, lengths[at] - 1), 65536, 65537, 2**32 - 1])
    return struct.pack("<III", *lengths) + b"".join(frames[:3])
