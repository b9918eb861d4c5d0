"""Calls that are under way, for the asyncio client: as `calls`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from warmd import plan
from warmd.aiolink import AsyncLink
from warmd.calls import Parts, ended
from warmd.link import done
from warmd.protocol.errors import CallGone
from warmd.protocol.messages import Attach, Call, Request
from warmd.protocol.pending import Pending
from warmd.result import Info, Result, outcome, raise_problem, unpacked

if TYPE_CHECKING:
    from warmd.aio import AsyncClient


class AsyncStream(Parts, AsyncIterator[Any]):
    """The values that a generator function yields, as they come; as `Stream`.

    An `async for` that is left early ends the generator when the stream is forgotten; `aclose()` and
    `async with` do so at once.
    """

    def __init__(self, client: AsyncClient, message: Call | Request | Attach, follow: bool = False) -> None:
        super().__init__()
        self._client = client
        self._pending = Pending(message, begun=0.0, due=None)
        self._link: AsyncLink | None = None
        self._patience = plan.ANSWER_SECONDS if isinstance(message, Request) and not follow else None

    async def __anext__(self) -> Any:
        if self._link is None and not self._over:
            self._link, self._pending = await self._client._begin(self._pending.message, self._patience)
        more, value = self._value(
            None if self._over or self._link is None else await self._link.take(self._pending)
        )
        if more:
            return value
        raise StopAsyncIteration

    async def batch(self) -> list[Any]:
        """The yielded values that have come, at least one; none at the end.  For who hands them on.

        Not the result of a function that is no generator.  Raises as `__anext__`.
        """
        if self._link is None and not self._over:
            self._link, self._pending = await self._client._begin(self._pending.message, self._patience)
        if self._over or self._link is None:
            return []
        part = await self._link.take(self._pending)
        values = []
        while part is not None:
            values.append(unpacked(self._pending, part.value))
            part = self._link.take_now(self._pending)
        if not values:
            self._over = True
            raise_problem(self._pending)
        return values

    async def aclose(self) -> None:
        """End the generator, if it still runs.  Never waits."""
        self._over = True
        if self._link is not None and not done(self._pending):
            self._link.drop(self._pending.id, "abandon")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        link = getattr(self, "_link", None)
        if link is not None and not done(self._pending):
            link.abandon_later(self._pending.id)


class AsyncLogs(AsyncStream):
    """What a session's processes print; as `Logs`."""

    def finish(self) -> None:
        """Follow no further: what is written by now still comes, and then the end."""
        if self._link is None:
            self._over = True
        elif not done(self._pending):
            self._link.cancel(self._pending, "finish")


class AsyncSubmitted:
    """A call that was started and not waited for."""

    def __init__(self, client: AsyncClient, link: AsyncLink, pending: Pending) -> None:
        self._client = client
        self._link = link
        self._pending = pending

    @property
    def call_id(self) -> str:
        return self._pending.id.hex()

    @property
    def session_id(self) -> str | None:
        """The session's id; None for the shared pool, or if the call was refused."""
        return self._pending.session or plan.session_of(self._pending.message)

    async def result(self, timeout: float | str | None = None) -> Result:
        """Wait for the end, at most `timeout`.  Raises the call's error, or TimeoutError when it
        goes on: then it can be asked again.  A cancelled task does not cancel the call."""
        await self._link.wait_for_end(self._pending, plan.duration(timeout, "timeout"))
        return outcome(self._pending)

    async def progress(self) -> AsyncIterator[Any]:
        """How far the call is, whenever the app tells, until it ends; as `Submitted.progress`."""
        try:
            async for value in self._client.calls.watch(self.call_id):
                yield value
        except CallGone:
            return

    def done(self) -> bool:
        """Whether the call has ended."""
        return done(self._pending)

    def cancel(self) -> bool:
        """Ask for the end of the call; `result()` then raises CallCancelled.  False if it has ended."""
        if self.done():
            return False
        self._link.cancel(self._pending)
        return True

    async def status(self) -> Info:
        """Where the call is: state (queued, starting, running, cancelling, done), position, progress."""
        if not self.done():
            try:
                return await self._client.calls.get(self.call_id)
            except CallGone:
                if not self.done():
                    raise
        return ended(self._pending)
