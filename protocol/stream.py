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
STAGING_BYTES = 64 * 1024
MAX_FRAME_BYTES = 2**32 - 1


def marked_off(frames: Sequence[Body]) -> list[Body]:
    """The buffers to send, in order, for the frames of one message (at most three)."""
    lengths = [len(frame) for frame in frames] + [0] * (3 - len(frames))
    prefix = PREFIX.pack(*lengths)
    if len(frames) == 1 or sum(lengths) < 4096:
        return [prefix + b"".join(frames)]
    return [prefix + bytes(frames[0]), *(frame for frame in frames[1:] if len(frame))]


class Inbox:
    """Collects bytes into messages.  `max_body_bytes` bounds the body frames of one message."""

    def __init__(self, max_body_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self._staging = bytearray(STAGING_BYTES)
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
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._end == STAGING_BYTES:
            rest = self._view[self._begin : self._end].tobytes()
            self._view[: len(rest)] = rest
            self._begin, self._end = 0, len(rest)
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
            lengths = self._checked(PREFIX.unpack_from(self._staging, self._begin))
            first = self._begin + PREFIX.size
            size = sum(lengths)
            if first + size <= self._end:
                self._lengths = lengths
                messages.append(self._split(self._view[first : first + size], copy=True))
                self._begin = first + size
            elif PREFIX.size + size > STAGING_BYTES:
                self._begin_large(lengths, first)
                break
            else:
                break
        return messages

    def _begin_large(self, lengths: tuple[int, int, int], first: int) -> None:
        self._lengths = lengths
        self._large = memoryview(bytearray(sum(lengths)))
        self._large_filled = self._end - first
        self._large[: self._large_filled] = self._view[first : self._end]
        self._begin = self._end = 0

    def _checked(self, lengths: tuple[int, int, int]) -> tuple[int, int, int]:
        header, *bodies = lengths
        if not 0 < header <= MAX_HEADER_BYTES or sum(bodies) > self.max_body_bytes:
            raise WireError(f"a message of {lengths} bytes is over the limits")
        return lengths

    def _split(self, body: memoryview, copy: bool) -> list[Body]:
        frames: list[Body] = []
        at = 0
        for length in self._lengths:
            part = body[at : at + length]
            frames.append((bytes(part) if copy else part) if length else NOTHING)
            at += length
        while frames[-1] is NOTHING:
            frames.pop()
        return frames
