"""A world of the rule book whose broker remembers, and somebody who asks it why."""

from __future__ import annotations

import re
from typing import Any

from tests.core.world import World
from warmd.daemon.core.policy import Limits
from warmd.daemon.diary import ToldBroker
from warmd.daemon.why import Why

AT = "app.py:12 in run"
UPTIME = 300.0


class Told(World):
    """A world whose broker remembers, and somebody who asks it why."""

    def __init__(self, limits: Limits | None = None, **options: Any) -> None:
        super().__init__(limits, **options)
        self.broker = ToldBroker(self.limits, self.now)
        self.broker.story.who = lambda client: f"{client.decode()} (pid 42)"
        self.looked: list[int] = []
        self.why = Why(self.broker, self._look, self.now - UPTIME)

    def _look(self, worker: int, done: Any) -> None:
        self.looked.append(worker)
        done(f"/usr/lib/python3.13/selectors.py:3 in select\n{AT}")

    def facts(self, id: Any) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        self.why.explain(id if isinstance(id, str) else id.call.id.hex(), self.now, found.append)
        assert "\n" not in found[0]["text"]
        return found[0]

    def line(self, id: Any) -> str:
        """The sentence, with the ids that differ from world to world left out."""
        return re.sub(r"\b[0-9a-f]{8}\b", "ID", self.facts(id)["text"])
