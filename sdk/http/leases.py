"""Uploaded files that calls were given: each stays until the last of these has ended.

Who has a file is written down beside it, so that all gateways know it.  An end is heard of from the task,
or, where another gateway began it, from the daemon: that is asked once such a file would expire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from warmd.http.filestore import Record, Store
from warmd.protocol.errors import WarmdError


class Leases:
    """`live()` tells the ids of the detached calls that have not ended; it may raise WarmdError."""

    def __init__(self, store: Store, live: Callable[[], Awaitable[set[str]]]) -> None:
        self._store = store
        self._live = live
        self._given: dict[str, list[str]] = {}

    async def give(self, records: Iterable[Record], call: str) -> None:
        """Raises OSError."""
        ids = self._given[call] = [record.id for record in records]
        await asyncio.to_thread(self._each, self._store.lend, ids, call)

    async def ended(self, call: str) -> None:
        """The call needs none of its files any more.  Raises OSError."""
        ids = self._given.pop(call, None)
        if ids:
            await asyncio.to_thread(self._each, self._store.give_back, ids, call)

    def _each(self, change: Callable[[str, str], None], ids: Sequence[str], call: str) -> None:
        for id in ids:
            with contextlib.suppress(FileNotFoundError):  # it was deleted
                change(id, call)

    async def renew(self, ids: Iterable[str]) -> set[str]:
        """Those of the files that a call still has; they count as used now.  Raises OSError.

        Where the daemon cannot be asked, all that a call had: it may still run.
        """
        calls = await asyncio.to_thread(lambda: {id: some for id in ids if (some := self._store.calls(id))})
        if not calls:
            return set()
        try:
            live = await self._live()
        except WarmdError:
            live = {call for some in calls.values() for call in some}
        return await self._store.in_thread(self._renewed, calls, live)

    def _renewed(self, calls: Mapping[str, Sequence[str]], live: set[str]) -> set[str]:
        kept = set()
        for id, some in calls.items():
            # Not those that were added while the daemon was asked.
            for call in some:
                if call not in live:
                    self._store.give_back(id, call)
            if not live.isdisjoint(some):
                with contextlib.suppress(FileNotFoundError):  # it was deleted
                    self._store.touch(id)
                    kept.add(id)
        return kept
