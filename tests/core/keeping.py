"""What the simulated world holds of detached calls against what the rule book keeps of them."""

from __future__ import annotations

from typing import Any

from warmd.daemon.core.policy import KEPT_PART_BYTES
from warmd.daemon.core.record import final_bytes
from warmd.protocol.messages import CallId

LATE_SECONDS = 0.2


class Keeping:
    def check_what_is_kept(self: Any) -> None:
        """It is a piece of what was given, and the memory that it takes is known exactly."""
        keep = self.broker._book.keep
        for kept in keep.calls.values():
            given = self.calls[kept.id].given
            parts = [kept.parts.get(number) for number in range(kept.first, kept.next)]
            assert parts == given[kept.first : kept.next]
            size = sum(len(part) + KEPT_PART_BYTES for part in parts)
            size += final_bytes(kept.final, kept.note) if kept.final is not None else 0
            assert size == kept.bytes, "the memory that is kept is not known"
        for kept in keep.ended.values():
            assert self.now <= kept.ended + self.limits.detached_keep_seconds + LATE_SECONDS, "kept too long"

    def _conversation(self: Any, reading: Any) -> CallId:
        return next(id for (_, id), found in self.readings.items() if found is reading)
