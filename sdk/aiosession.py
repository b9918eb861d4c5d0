"""Sessions of the asyncio client: as `session`, awaited."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from warmd import plan
from warmd.protocol.errors import DaemonError, Invalid, NoSession
from warmd.protocol.messages import Call
from warmd.result import Info, Result, infos
from warmd.session import Infos, Running

if TYPE_CHECKING:
    from warmd.aio import AsyncClient
    from warmd.aiocalls import AsyncStream, AsyncSubmitted


class AsyncSession:
    """A session, made by `AsyncClient.session`; opened by `await` or `async with`."""

    def __init__(self, client: AsyncClient, id: str | None, opening: Call | None, owned: bool) -> None:
        self._client = client
        self._id = id
        self._opening = opening
        self._owned = owned

    @property
    def id(self) -> str:
        """Raises Invalid before the session is open."""
        if self._id is None:
            raise Invalid("the session is not open yet: `async with client.session(...) as s`, or await it")
        return self._id

    def __repr__(self) -> str:
        return f"<AsyncSession {self._id or 'not open'}>"

    async def call(
        self, function: str | None = None, input: Any = None, *, timeout: float | str | None = None
    ) -> Result:
        """Call a function, by default `run`.  Raises as `Client.run`."""
        return await self._client._call(plan.call_to(self.id, function, input, timeout))

    async def run(self, input: Any = None, *, timeout: float | str | None = None) -> Result:
        """Call `run`."""
        return await self.call(None, input, timeout=timeout)

    def stream(
        self, function: str | None = None, input: Any = None, *, timeout: float | str | None = None
    ) -> AsyncStream:
        """Call a generator function; `async for` over what it yields."""
        return self._client._stream(plan.call_to(self.id, function, input, timeout, plan.WINDOW))

    async def submit(
        self,
        function: str | None = None,
        input: Any = None,
        *,
        timeout: float | str | None = None,
        detach: bool = False,
    ) -> AsyncSubmitted:
        """Start a call and return at once; with `detach` it outlives this client, as in `Client.submit`."""
        return await self._client._submit(plan.call_to(self.id, function, input, timeout, detach=detach))

    async def info(self) -> Info:
        """What is known about the session, also after its end."""
        return await self._client.sessions.get(self.id)

    async def keepalive(self) -> Info:
        """Start its idle time anew."""
        return await self._client.sessions.keepalive(self.id)

    async def hold(self, ttl: float | str) -> Info:
        """Keep it from expiring by idling for so long from now; the daemon's `max_hold` is the most."""
        return await self._client.sessions.hold(self.id, ttl)

    async def release(self) -> Info:
        """End a hold: only its idle time counts again."""
        return await self._client.sessions.release(self.id)

    async def park(self) -> Info:
        """Move what it has on GPUs to host memory; as `Sessions.park`."""
        return await self._client.sessions.park(self.id)

    async def unpark(self) -> Info:
        """Bring that back, also before a call does; as `Sessions.unpark`."""
        return await self._client.sessions.unpark(self.id)

    async def end(self, running: Running = "cancel") -> Info:
        """End it; returns when its processes are gone.  No error if it has ended already."""
        return await self._client.sessions.end(self.id, running=running)

    async def _open(self) -> Self:
        if self._id is None and self._opening is not None:
            opening, self._opening = self._opening, None
            self._id = str((await self._client._call(opening)).session_id)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned:
            with contextlib.suppress(NoSession, DaemonError):
                await self.end()


class AsyncSessions:
    """The daemon's sessions: `client.sessions`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def get(self, id: str) -> Info:
        """What is known about one, also after its end.  Raises SessionNotFound."""
        return Info(await self._client._request("sessions.get", {"session": plan.session_id(id)}))

    async def list(self, *, all: bool = False) -> Infos:
        """The living sessions; with `all` also the remembered dead ones."""
        return infos(await self._client._request("sessions.list", {"all": bool(all)}))

    async def keepalive(self, id: str) -> Info:
        """Start the idle time of one anew.  Raises NoSession."""
        return Info(await self._client._request("sessions.keepalive", {"session": plan.session_id(id)}))

    async def hold(self, id: str, ttl: float | str) -> Info:
        """Keep one from expiring by idling for so long from now.  Raises NoSession, Invalid."""
        return Info(await self._client._request(*plan.hold(id, ttl)))

    async def release(self, id: str) -> Info:
        """End the hold of one.  Raises NoSession."""
        return Info(await self._client._request(*plan.release(id)))

    async def park(self, id: str) -> Info:
        """Move what one has on GPUs to host memory; as `Sessions.park`."""
        return Info(await self._client._request(*plan.move("sessions.park", id)))

    async def unpark(self, id: str) -> Info:
        """Bring that back, also before a call does; as `Sessions.unpark`."""
        return Info(await self._client._request(*plan.move("sessions.unpark", id)))

    @overload
    async def end(self, id: str, *, running: Running = "cancel") -> Info: ...
    @overload
    async def end(self, *, app: str, running: Running = "cancel") -> Infos: ...
    @overload
    async def end(self, *, all: Literal[True], running: Running = "cancel") -> Infos: ...
    async def end(
        self, id: str | None = None, *, app: str | None = None, all: bool = False, running: Running = "cancel"
    ) -> Info | Infos:
        """End one session, those of an app, or all; as `Sessions.end`."""
        told = await self._client._request(*plan.ending(id, app, all, running))
        return Info(told) if id is not None else infos(told)
