"""The POST to a run's webhook, at the run's end."""

from __future__ import annotations

from warmd.http.metrics import Metrics
from warmd.http.task import Task


class Webhooks:
    """Deliveries under way."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def ended(self, task: Task) -> None:
        """Tell whoever wanted to hear of this task's end."""

    async def close(self) -> None:
        """Give up what is under way."""
