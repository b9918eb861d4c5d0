"""The parts that a call has given, by their numbers; the oldest go first, hundreds of thousands at a time.

They lie in blocks, each with what keeping it costs, so that a block can go without a look at its parts.
"""

from __future__ import annotations

from warmd.daemon.core import policy
from warmd.protocol.parcels import Value

BLOCK = 512


class Parts:
    """Numbers `first` to `next` - 1 are here."""

    __slots__ = ("_blocks", "_sizes", "bytes", "first", "next")

    def __init__(self) -> None:
        self.first = 0
        self.next = 0
        self.bytes = 0
        """What keeping them costs."""
        self._blocks: list[list[Value | None]] = []
        self._sizes: list[int] = []

    def __len__(self) -> int:
        return self.next - self.first

    def get(self, number: int) -> Value | None:
        """None for one that is not here."""
        if not self.first <= number < self.next:
            return None
        return self._blocks[number // BLOCK - self.first // BLOCK][number % BLOCK]

    def add(self, value: Value) -> int:
        """One more at the end; what keeping it costs."""
        if self.next % BLOCK == 0:
            self._blocks.append([])
            self._sizes.append(0)
        size = part_bytes(value)
        self._blocks[-1].append(value)
        self._sizes[-1] += size
        self.bytes += size
        self.next += 1
        return size

    def drop(self, excess: int) -> int:
        """The oldest go until `excess` bytes are free or there are none; what came free."""
        before = self.bytes
        while self.first < self.next and before - self.bytes < excess:
            block, size = self._blocks[0], self._sizes[0]
            if len(block) == BLOCK and before - self.bytes + size <= excess:
                self.first += BLOCK - self.first % BLOCK
            else:
                size = part_bytes(block[self.first % BLOCK] or b"")
                block[self.first % BLOCK] = None
                self.first += 1
            self.bytes -= size
            self._sizes[0] -= size
            if self.first % BLOCK == 0:
                del self._blocks[0], self._sizes[0]
        return before - self.bytes


def part_bytes(value: Value) -> int:
    """What keeping a part costs."""
    return len(value) + policy.KEPT_PART_BYTES
