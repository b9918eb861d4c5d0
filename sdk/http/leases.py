"""Uploaded files that calls were given: each stays until the last of these has ended.

Who has a file is written into its record, so that the next gateway knows it too.  An end is heard of from
the task, or, where another gateway began it, from the daemon: that is asked once such a file would expire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from warmd.http.filestore import Record
from warmd.http.moments import now
from warmd.protocol.errors import WarmdError


class Leases:
    """`live()` tells the ids of the detached calls that have not ended; it may raise WarmdError."""

    def __init__(self, live: Callable[[], Awaitable[set[str]]]) -> None:
        self._live = live
        self._given: dict[str, list[Record]] = {}

    def give(self, records: Iterable[Record], call: str) -> None:
        for record in records:
            record.calls.append(call)
            self._given.setdefault(call, []).append(record)

    def ended(self, call: str) -> None:
        """The call needs none of its files any more."""
        for record in self._given.pop(call, ()):
            if call in record.calls:
                record.calls.remove(call)

    async def renew(self, records: Iterable[Record]) -> list[Record]:
        """Those of the records that a call still has; they count as used now.

        Where the daemon cannot be asked, all that a call had: it may still run.
        """
        before = [(record, {*record.calls}) for record in records if record.calls]
        if not before:
            return []
        try:
            live = await self._live()
        except WarmdError:
            live = {call for _, calls in before for call in calls}
        for record, calls in before:
            # Not those that were added while the daemon was asked.
            record.calls[:] = [call for call in record.calls if call in live or call not in calls]
        kept = [record for record, _ in before if record.calls]
        for record in kept:
            record.used = now()
        return kept
