"""Calls by their id, for the asyncio client: as `detached`, awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmd import plan
from warmd.aiocalls import AsyncStream
from warmd.result import Info, Result, infos, outcome
from warmd.session import Infos

if TYPE_CHECKING:
    from warmd.aio import AsyncClient


class AsyncCalls:
    """Any call under way, and what is kept of detached ones, whoever began them; as `Calls`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, id: str) -> Info:
        """Where a call is, as `Calls.get`."""
        return Info(await self._client._request("calls.get", {"call": plan.call_id(id).hex()}))

    async def list(self) -> Infos:
        """The detached calls, under way or kept."""
        return infos(await self._client._request("calls.list", {}))

    def attach(self, id: str, offset: int = 0) -> AsyncStream:
        """The values that a detached call yields, from number `offset` on; as `Calls.attach`."""
        return AsyncStream(self._client, plan.attach(id, offset, plan.WINDOW))

    def watch(self, id: str) -> AsyncStream:
        """What the app tells of how far a call is; as `Calls.watch`."""
        request = plan.request("calls.watch", {"call": plan.call_id(id).hex()}, window=1)
        return AsyncStream(self._client, request, follow=True)

    async def result(self, id: str, timeout: float | str | None = None) -> Result:
        """Wait for the end of a detached call, at most `timeout`, as `AsyncSubmitted.result`."""
        seconds = plan.duration(timeout, "timeout")
        link, pending = await self._client._begin(plan.attach(id))
        try:
            await link.wait_for_end(pending, seconds)
        finally:
            link.drop(pending.id)
        return outcome(pending)

    async def cancel(self, id: str) -> bool:
        """Ask for the end of a call.  False if it has ended."""
        return bool(await self._client._request("calls.cancel", {"call": plan.call_id(id).hex()}))
