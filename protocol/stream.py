"""Messages on a byte stream: how frames are marked off on a worker's Unix socket.

Each message is a prefix of three little-endian u32 (length of the header and of two body frames,
0 for an absent one) followed by those frames.  `Inbox` is sans-IO: the owner of the socket asks
it for a buffer, receives into that, and tells it how many bytes came.  A body that is larger than
the staging buffer is received straight into memory of its own, so it is never copied here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from warmd.protocol.messages import NOTHING, Body
from warmd.protocol.wire import MAX_HEADER_BYTES, WireError

PREFIX = struct.Struct("<III")
LEAST_STAGING_BYTES, STAGING_BYTES = 4 * 1024, 64 * 1024
MAX_FRAME_BYTES = 2**32 - 1


def marked_off(frames: Sequence[Body]) -> list[Body]:
    """The buffers to send, in order, for the frames of one message (at most three)."""
    lengths = [*map(len, frames), 0, 0][:3]
    prefix = PREFIX.pack(*lengths)
    if len(frames) == 1 or sum(lengths) < 4096:
        return [b"".join((prefix, *frames))]
    return [prefix + bytes(frames[0]), *(frame for frame in frames[1:] if len(frame))]


def descriptors_in(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """What came beside the bytes of one look at a Unix socket."""
    return [fd for _, _, data in ancillary for fd in memoryview(data)[: len(data) // 4 * 4].cast("i")]


class Inbox:
    """Collects bytes into messages.  `max_body_bytes` bounds the body frames of one message."""

    def __init__(self, max_body_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self._staging = bytearray(LEAST_STAGING_BYTES)
        self._view = memoryview(self._staging)
        self._begin = 0
        self._end = 0
        self._large: memoryview | None = None
        self._large_filled = 0
        self._lengths = (0, 0, 0)

    def buffer(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        if self._large is not None:
            return self._large[self._large_filled :]
        if self._end == len(self._staging):
            rest = self._view[self._begin : self._end].tobytes()
            if self._end < STAGING_BYTES:
                # As much comes at a time as fits.  Thousands of idle links have no need of more.
                self._staging = bytearray(STAGING_BYTES)
                self._view = memoryview(self._staging)
            self._view[: len(rest)] = rest
            self._begin, self._end = 0, len(rest)
        elif self._begin == self._end:
            self._begin = self._end = 0
        return self._view[self._end :]

    def received(self, count: int) -> list[list[Body]]:
        """The messages that `count` more bytes in `buffer()` complete.  Raises WireError."""
        if self._large is None:
            self._end += count
            return self._take_staged()
        self._large_filled += count
        if self._large_filled < len(self._large):
            return []
        body, self._large = self._large, None
        return [self._split(body, copy=False)]

    def feed(self, data: bytes) -> list[list[Body]]:
        """The same for bytes that were received elsewhere (together with descriptors)."""
        messages: list[list[Body]] = []
        while data:
            room = self.buffer()
            count = min(len(room), len(data))
            room[:count] = data[:count]
            data = data[count:]
            messages += self.received(count)
        return messages

    def _take_staged(self) -> list[list[Body]]:
        messages: list[list[Body]] = []
        while self._end - self._begin >= PREFIX.size:
            lengths = PREFIX.unpack_from(self._staging, self._begin)
            first = self._begin + PREFIX.size
            size = self._size(*lengths)
            self._lengths = lengths
            if first + size <= self._end:
                messages.append(self._split(self._view[first : first + size], copy=True))
                self._begin = first + size
            elif PREFIX.size + size > len(self._staging):
                self._begin_large(size, first)
                break
            else:
                break
        return messages

    def _begin_large(self, size: int, first: int) -> None:
        self._large = memoryview(bytearray(size))
        self._large_filled = self._end - first
        self._large[: self._large_filled] = self._view[first : self._end]
        self._begin = self._end = 0

    def _size(self, header: int, first: int, second: int) -> int:
        if not 0 < header <= MAX_HEADER_BYTES or first + second > self.max_body_bytes:
            raise WireError(f"a message of {header}, {first} and {second} bytes is over the limits")
        return header + first + second

    def _split(self, body: memoryview, copy: bool) -> list[Body]:
        frames: list[Body] = []
        at = 0
        for length in self._lengths:
            if length:
                part = body[at : at + length]
                frames.append(part.tobytes() if copy else part)
                at += length
            else:
                frames.append(NOTHING)
        while frames[-1] is NOTHING:
            frames.pop()
        return frames
