"""What is known of the daemon, from what it tells and what is measured, and since when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple, TypeAlias

import orjson

from warmd.http import rows
from warmd.http.rows import Row
from warmd.http.usage import Used

MOST_GONE = 100
MOST_CALLS = 2000
Sees: TypeAlias = Callable[[str], bool]
"""Whether what belongs to a key is shown."""


class Ended(NamedTuple):
    """A call that has ended."""

    number: int
    owner: str
    json: bytes


@dataclass(slots=True)
class Known:
    """What the daemon has told since it was found."""

    daemon: dict[str, Any]
    owner_of_call: Callable[[str], str | None] = lambda _call: None
    """The key that began it, where this gateway knows."""
    change: int = 0
    """Counts what was told, and what was measured."""
    living: dict[str, Row] = field(default_factory=dict)
    gone: deque[Row] = field(default_factory=lambda: deque(maxlen=MOST_GONE))
    calls: deque[Ended] = field(default_factory=lambda: deque(maxlen=MOST_CALLS))
    numbers: int = 0
    ended: int = 0
    used: dict[str, Used] = field(default_factory=dict)
    used_changed: dict[str, int] = field(default_factory=dict)
    """By session, in which change its use became what it is."""
    daemon_changed: int = 0
    drained: int = 0
    """In which change it began to stop."""
    owners: dict[str, str] = field(default_factory=dict)

    def take(self, told: dict[str, Any]) -> None:
        """A value of the daemon's stream."""
        self.change += 1
        for info in told["sessions"]:
            row = rows.row(info, self.used.get(info["id"]), self.change)
            self.owners[row.id] = row.owner
            if row.is_over:
                self.living.pop(row.id, None)
                self.gone.append(row)
            else:
                self.living[row.id] = row
        for call in told["calls"]:
            owner = self.owners.get(call["session"]) or self.owner_of_call(call["id"]) or ""
            self.calls.append(Ended(self.numbers, owner, rows.call(call)))
            self.numbers += 1
        self.ended += told["ended"]
        if told["draining"] != self.daemon["draining"]:
            self.daemon["draining"] = told["draining"]
            self.daemon_changed = self.drained = self.change
        self._forget()

    def take_usage(self, used: dict[int, Used]) -> None:
        """What was measured, by pid."""
        self.change += 1
        for id, row in self.living.items():
            found = None if row.pid is None else used.get(row.pid)
            if found is not None and found != self.used.get(id):
                self.used[id], self.used_changed[id] = found, self.change
        of_daemon = used.get(self.daemon["pid"])
        if of_daemon is not None and of_daemon != (self.daemon["memory"], self.daemon.get("cpu")):
            self.daemon |= {"memory": of_daemon.memory, "cpu": of_daemon.cpu}
            self.daemon_changed = self.change

    def sessions(self, change: int, sees: Sees) -> list[orjson.Fragment]:
        """Those that have changed since then."""
        return [
            orjson.Fragment(row.json)
            for row in (*self.gone, *self.living.values())
            if row.changed > change and sees(row.owner)
        ]

    def calls_since(self, number: int, sees: Sees) -> list[orjson.Fragment]:
        """Those that have ended from that number on, as far as they are kept."""
        new = takewhile(lambda call: call.number >= number, reversed(self.calls))
        return [orjson.Fragment(call.json) for call in new if sees(call.owner)][::-1]

    def usage(self, change: int, sees: Sees) -> dict[str, tuple[int, float]]:
        """What sessions use, as far as that has changed since then: bytes of memory, cores."""
        return {
            id: (self.used[id].memory, self.used[id].cpu)
            for id, changed in self.used_changed.items()
            if changed > change and id in self.living and sees(self.living[id].owner)
        }

    def _forget(self) -> None:
        """What was about sessions that nobody is told of any more."""
        if len(self.owners) > 2 * (len(self.living) + MOST_GONE):
            kept = {*self.living, *(row.id for row in self.gone)}
            for table in (self.owners, self.used, self.used_changed):
                for id in [id for id in table if id not in kept]:
                    del table[id]
