"""The asyncio client: `Client`'s face, awaited.  The options are described there."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Self

from warmd import plan
from warmd.aiocalls import AsyncLogs, AsyncStream, AsyncSubmitted
from warmd.aiodetached import AsyncCalls
from warmd.aiolink import AsyncLink
from warmd.aiosession import AsyncSession, AsyncSessions
from warmd.connect import Connector
from warmd.link import admitted, done
from warmd.protocol.errors import Invalid
from warmd.protocol.messages import Attach, Call, Request
from warmd.protocol.pending import Pending
from warmd.protocol.regions import settled
from warmd.reference import description as description_of
from warmd.result import Info, Result, answer, description, infos, outcome, raise_problem


class AsyncClient:
    """Talks to a daemon; safe from many tasks of one event loop.

    `address`, `autostart`, `key` and errors as in `Client`.  A cancelled task cancels its call.
    """

    def __init__(
        self, address: str | None = None, autostart: bool | None = None, *, key: str | None = None
    ) -> None:
        self._connector = Connector(address, autostart, key)
        self._link: AsyncLink | None = None
        self._connecting: asyncio.Task[AsyncLink] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._closed = False

    @property
    def address(self) -> str:
        """Where the daemon is: `unix:///path/warmd.sock` or `tcp://HOST:PORT`."""
        return self._connector.address

    @property
    def sessions(self) -> AsyncSessions:
        """The daemon's sessions: get, list, keepalive, hold, release, park, unpark, end."""
        return AsyncSessions(self)

    @property
    def calls(self) -> AsyncCalls:
        """Calls by their id: get, cancel; of detached ones also list, attach, result."""
        return AsyncCalls(self)

    async def run(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> Result:
        """Call a function and wait for its result."""
        return await self._call(plan.call(plan.options(options, named)))

    def stream(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> AsyncStream:
        """Call a generator function; `async for` over what it yields.  It starts at the first step."""
        return self._stream(plan.call(plan.options(options, named), window=plan.WINDOW))

    async def submit(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> AsyncSubmitted:
        """Start a call; returns when the daemon has admitted or refused it, so that the session's
        id is known.  `result()` waits for its end.  With `detach=True` as `Client.submit`, which raises
        why the call was refused."""
        return await self._submit(plan.submission(plan.options(options, named)))

    def _stream(self, message: Call) -> AsyncStream:
        # It may be long until the first step, and its input is to be that of now.
        return AsyncStream(self, settled(message))

    async def _submit(self, message: Call) -> AsyncSubmitted:
        link, pending = await self._begin(message)
        try:
            if plan.session_of(message) is None or message.detach:
                await link.wait(pending, admitted)
            if message.detach and not pending.accepted:
                raise_problem(pending)
        except BaseException:
            link.drop(message.id)
            raise
        return AsyncSubmitted(self, link, pending)

    def session(
        self,
        app: Any = None,
        *,
        id: str | None = None,
        session_timeout: float | str | None = None,
        max_lifetime: float | str | None = None,
        setup: Any = None,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: float | str | None = None,
    ) -> AsyncSession:
        """A session, as in `Client.session`: `async with client.session(...) as s`, or
        `s = await client.session(...)`, which leaves it open."""
        given = plan.opening_options(
            app,
            id,
            session_timeout=session_timeout,
            max_lifetime=max_lifetime,
            setup=setup,
            name=name,
            env=env,
            labels=labels,
            timeout=timeout,
        )
        if id is not None:
            return AsyncSession(self, plan.session_id(id), None, owned=False)
        return AsyncSession(self, None, plan.opening(given), owned=name is None)

    async def warm(
        self,
        app: Any,
        *,
        spares: int = 1,
        session_timeout: float | str | None = plan.SPARE_SECONDS,
        setup: Any = None,
        env: Mapping[str, str] | None = None,
        timeout: float | str | None = None,
    ) -> list[Result]:
        """Have sessions of `app` ready before anybody asks, as `Client.warm`."""
        given = {"session_timeout": session_timeout, "setup": setup, "env": env, "timeout": timeout}
        begun = [await self._begin(call) for call in plan.warming(app, spares, **given)]
        try:
            for ready in (admitted, done):
                for link, pending in begun:
                    await link.wait(pending, ready)
                    raise_problem(pending)
        except BaseException:
            for link, pending in begun:
                link.drop(pending.id)
            raise
        return [outcome(pending) for _, pending in begun]

    async def apps(self) -> list[Info]:
        """The apps that the daemon knows: name, target, folder, source."""
        return infos(await self._request("apps.list", {}))

    async def describe(self, app: object) -> dict[str, Any]:
        """What an app's functions take and give; as `Client.describe`."""
        asked = description_of(app)
        return description(await self._request("apps.describe", asked, plan.DESCRIBING_SECONDS))

    async def status(self) -> Info:
        """The daemon itself: version, pid, address, uptime, counts."""
        return Info(await self._request("status", {}))

    async def why(self, id: str) -> Info:
        """What is the matter with a session or a call; as `Client.why`."""
        return Info(await self._request("why", {"id": id}))

    async def stop(self, drain: float | str | None = None) -> Info:
        """Tell the daemon to stop, as `Client.stop`: returns at once."""
        return Info(await self._request("stop", {"drain_seconds": plan.duration(drain, "drain")}))

    async def reload_keys(self) -> Info:
        """Have the daemon take notice of changed keys; how many connections over TCP that has ended."""
        return Info(await self._request("keys.reload", {}))

    def watch(self) -> AsyncStream:
        """What changes in the daemon, as it changes; as `Client.watch`."""
        return AsyncStream(self, plan.request("watch", {}, window=1), follow=True)

    def logs(self, session: str, *, tail: int | None = None, follow: bool = False) -> AsyncLogs:
        """What a session's processes print, in pieces of bytes; as `Client.logs`."""
        return AsyncLogs(self, plan.request(*plan.logs(session, tail, follow), window=plan.WINDOW), follow)

    async def aclose(self) -> None:
        """Give up the connection; what is under way ends with DaemonLost here, sessions live on."""
        self._closed = True
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        link, self._link = self._link, None
        if link is not None:
            link.close()

    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        link = getattr(self, "_link", None)
        if link is not None and not link.loop.is_closed():
            # The loop holds what it watches.
            link.loop.call_soon_threadsafe(link.close)

    async def _call(self, message: Call) -> Result:
        return outcome(await self._run(message, message.timeout_seconds))

    async def _request(
        self, verb: str, arguments: dict[str, Any], patience: float | None = plan.ANSWER_SECONDS
    ) -> Any:
        return answer(await self._run(plan.request(verb, arguments), patience))

    async def _run(self, message: Call | Request, patience: float | None) -> Pending:
        pending = await (await self._connected()).run(message, patience)
        if pending.unsent:
            pending = await (await self._connected()).run(message, patience)
        return pending

    async def _begin(
        self, message: Call | Request | Attach, patience: float | None = None
    ) -> tuple[AsyncLink, Pending]:
        if isinstance(message, Call):
            patience = message.timeout_seconds
        link = await self._connected()
        pending = link.begin(message, patience)
        if pending.unsent:
            link = await self._connected()
            pending = link.begin(message, patience)
        return link, pending

    async def _connected(self) -> AsyncLink:
        loop = asyncio.get_running_loop()
        if self._link is not None and self._link.usable and self._loop is loop:
            return self._link
        if self._closed:
            raise Invalid("this client is closed; make a new one")
        self._move_to(loop)
        if self._connecting is None:
            self._connecting = loop.create_task(self._connect(loop))
            self._connecting.add_done_callback(_seen)
        try:
            # Shielded: the other tasks that wait for it were not cancelled.
            return await asyncio.shield(self._connecting)
        finally:
            if self._connecting is not None and self._connecting.done():
                self._connecting = None

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        forked = self._pid != os.getpid()
        if self._loop is not None and self._loop is not loop and not self._loop.is_closed() and not forked:
            raise Invalid("this client is used by another event loop; make one for each")
        if self._loop is not loop or forked:
            self._connecting = None
        if self._link is not None:
            self._link.close()
            self._link = None
        self._loop, self._pid = loop, os.getpid()

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> AsyncLink:
        transport = await asyncio.to_thread(self._connector.connect)
        self._link = AsyncLink(transport, loop)
        return self._link

    async def _drive(self, steps: Generator[Any, Any, Any]) -> Any:
        """Perform the steps of a procedure that both clients share: calls, and functions to await."""
        try:
            step = next(steps)
            while True:
                try:
                    told = await (self._call(step) if isinstance(step, Call) else self._step(step))
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(told)
        except StopIteration as stop:
            return stop.value

    async def _step(self, step: Request | Callable[[], object]) -> Any:
        if isinstance(step, Request):
            return answer(await self._run(step, plan.ANSWER_SECONDS))
        told = step()
        return await told if inspect.isawaitable(told) else told

    @staticmethod
    def _new_lock() -> asyncio.Lock:
        return asyncio.Lock()


def _seen(task: asyncio.Task[AsyncLink]) -> None:
    """All who waited may have been cancelled; asyncio would complain of an error nobody saw."""
    if not task.cancelled():
        task.exception()
