"""What Prometheus is told: the gateway's own counts, and the daemon's at the time of asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from starlette.types import Scope

if TYPE_CHECKING:
    from warmd.aio import AsyncClient


class Metrics:
    """Counts of one gateway."""

    CONTENT_TYPE: ClassVar = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """A request was answered."""

    async def exposition(self) -> bytes:
        """All of it in Prometheus's text format."""
        return b""
