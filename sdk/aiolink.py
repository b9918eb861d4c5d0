"""Many tasks on one connection, in one event loop: what `link` is to threads."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from warmd.link import LAST_LOOK_SECONDS, Ready, done, readable
from warmd.protocol.errors import DaemonLost
from warmd.protocol.messages import Attach, Call, CallId, Part, Request
from warmd.protocol.pending import Pending
from warmd.protocol.segments import KEPT_SECONDS
from warmd.transport import Transport, weakly


class AsyncLink:
    """A connection shared by the tasks of an event loop.  All but `wait` and `take` return at once."""

    def __init__(self, transport: Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self.exchange = transport.exchange
        self.loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._trimmer: asyncio.TimerHandle | None = None
        self._closed = False
        transport.on_return = weakly(self._return_later)
        loop.add_reader(transport.descriptor, self._readable)
        loop.add_reader(transport.monitor_descriptor, self._monitor_readable)
        # What came during the handshake made its edge already.
        self._pump()

    @property
    def usable(self) -> bool:
        """Whether a new call can be begun here, as far as is known."""
        return self.transport.lost is None and not self.transport.inherited

    def begin(self, message: Call | Request | Attach, patience: float | None) -> Pending:
        """Send a call or request."""
        if self.transport.lends:
            self._pump()  # memory that was handed back can be filled again
        pending = self.exchange.begin(message, time.monotonic(), patience)
        self._pump()
        return pending

    async def run(self, message: Call | Request, patience: float | None) -> Pending:
        """Send a call and wait for its end.  If the task is cancelled, so is the call."""
        pending = self.begin(message, patience)
        try:
            await self.wait(pending, done)
        except BaseException:
            self.drop(message.id)
            raise
        return pending

    async def wait(self, pending: Pending, ready: Ready) -> None:
        """Wait until `ready(pending)`."""
        if ready(pending):
            return
        if not self.usable:
            raise DaemonLost("this call belongs to another process or connection", ran="maybe")
        while not ready(pending):
            future = self.loop.create_future()

            def changed(future: asyncio.Future[None] = future) -> None:
                if not future.done():
                    future.set_result(None)

            pending.watchers.append(changed)
            try:
                await future
            finally:
                pending.watchers.remove(changed)

    async def wait_for_end(self, pending: Pending, seconds: float | None) -> None:
        """Wait until the call has ended.  Raises TimeoutError when it goes on for longer than that."""
        if seconds is None:
            await self.wait(pending, done)
            return
        try:
            async with asyncio.timeout(seconds):
                await self.wait(pending, done)
        except TimeoutError:
            raise TimeoutError(f"the call has not ended within {seconds:g} s; it goes on") from None

    async def take(self, pending: Pending) -> Part | None:
        """Wait for the next part of a stream; None at its end."""
        await self.wait(pending, readable)
        return self.take_now(pending)

    def take_now(self, pending: Pending) -> Part | None:
        """The next part of a stream that has come; None where none has."""
        part = self.exchange.take(pending)
        if self.exchange.outbox:
            self._pump()
        return part

    def cancel(self, pending: Pending, how: Literal["cancel", "finish"] = "cancel") -> None:
        """Ask for the end of a call, which is still answered."""
        self.exchange.cancel(pending, how)
        self._pump()

    def drop(self, call: CallId, how: Literal["cancel", "abandon"] = "cancel") -> None:
        """Cancel a call that nobody waits for any more."""
        if self.usable:
            self.exchange.drop(call, how)
            self._pump()

    def abandon_later(self, call: CallId) -> None:
        """`drop` for finalizers, which run in the middle of everything and in any thread."""
        if self.usable and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.drop, call, "abandon")

    def _return_later(self) -> None:
        if self.usable and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._pump)

    def close(self) -> None:
        """End what is under way with DAEMON_LOST and release the descriptors."""
        if self._closed or self.transport.inherited:
            return
        self._closed = True
        for timer in (self._timer, self._trimmer):
            if timer is not None:
                timer.cancel()
        if not self.loop.is_closed():
            self.loop.remove_reader(self.transport.descriptor)
            self.loop.remove_reader(self.transport.monitor_descriptor)
        self.transport.close()

    def _readable(self) -> None:
        self._pump()

    def _monitor_readable(self) -> None:
        self.transport.look_at_monitor()
        if self.transport.lost is not None:
            self.close()

    def _pump(self) -> None:
        """Send, receive, and see to the timer.  Sending can swallow the edge, so always all three."""
        if self.transport.lost is None:
            self.transport.pump()
        if self.transport.lost is not None:
            self.close()
        else:
            self._set_timer(0.0)
            lane = self.transport.lane
            if self._trimmer is None and lane is not None and lane.keeps_memory:
                self._trimmer = self.loop.call_later(KEPT_SECONDS, self._trim)

    def _trim(self) -> None:
        self._trimmer = None
        now = time.monotonic()
        due = None if self.transport.lane is None else self.transport.lane.trim(now)
        if due is not None:
            self._trimmer = self.loop.call_later(max(due - now, LAST_LOOK_SECONDS), self._trim)

    def _set_timer(self, at_least: float) -> None:
        due = self.exchange.deadline()
        if self._timer is not None:
            if due is not None and self._timer.when() <= due + at_least:
                return  # early is harmless, and most calls end before their time
            self._timer.cancel()
            self._timer = None
        if due is not None:
            # The loop's clock is not promised to be time.monotonic().
            delay = max(due - time.monotonic(), at_least)
            self._timer = self.loop.call_later(delay, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        if self.transport.pump() or self.transport.lost is not None:
            self._set_timer(LAST_LOOK_SECONDS)
        else:
            self.exchange.time_passed(time.monotonic())
            self._pump()
