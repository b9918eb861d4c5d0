"""Calls that are under way: streams, and calls whose end is awaited later."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from warmd import plan
from warmd.link import Link, admitted, done
from warmd.protocol.errors import CallGone
from warmd.protocol.messages import Part
from warmd.protocol.pending import Pending
from warmd.result import Info, Result, Timing, outcome, raise_problem, timing, unpacked

if TYPE_CHECKING:
    from warmd.client import Client


class Parts:
    """What both kinds of stream know about the values that have come."""

    _pending: Pending

    def __init__(self) -> None:
        self._over = False

    @property
    def session_id(self) -> str | None:
        """The session's id, as soon as it is known; None for the shared pool."""
        return self._pending.session or plan.session_of(self._pending.message)

    @property
    def call_id(self) -> str:
        return self._pending.call.hex()

    @property
    def timing(self) -> Timing | None:
        """Where the time went; None before the end."""
        return timing(self._pending) if done(self._pending) else None

    def _value(self, part: Part | None) -> tuple[bool, Any]:
        """Whether there is one more value, and which.  Raises the error that the call ended with."""
        if part is not None:
            return True, unpacked(self._pending, part.value)
        if self._over:
            return False, None
        self._over = True
        raise_problem(self._pending)
        result = self._pending.result
        # A function that is no generator has one value, its result.
        if result is None or not len(result.value):
            return False, None
        return True, unpacked(self._pending, result.value)


class Stream(Parts, Iterator[Any]):
    """The values that a generator function yields, as they come.

    The function waits when the reader is slow.  `close()`, leaving a `with` block or a loop, and
    forgetting the stream all end the generator, and not the session.
    """

    def __init__(self, link: Link, pending: Pending) -> None:
        super().__init__()
        self._link = link
        self._pending = pending

    def __next__(self) -> Any:
        more, value = self._value(None if self._over else self._link.take(self._pending))
        if more:
            return value
        raise StopIteration

    def close(self) -> None:
        """End the generator, if it still runs.  Never waits."""
        self._over = True
        if not done(self._pending):
            self._link.drop(self._pending.id, "abandon")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Not made to its end when the client's options were refused.
        pending = getattr(self, "_pending", None)
        if pending is not None and not done(pending):
            self._link.abandon_later(pending.id)


class Logs(Stream):
    """What a session's processes print, in pieces of bytes."""

    def finish(self) -> None:
        """Follow no further: what is written by now still comes, and then the end."""
        if not done(self._pending):
            self._link.cancel(self._pending, "finish")


class Submitted:
    """A call that was started and not waited for."""

    def __init__(self, client: Client, link: Link, pending: Pending) -> None:
        self._client = client
        self._link = link
        self._pending = pending

    @property
    def call_id(self) -> str:
        return self._pending.id.hex()

    @property
    def session_id(self) -> str | None:
        """The session's id; waits until the daemon has admitted the call.  None for the shared pool.

        Raises the call's error if it was refused.
        """
        named = plan.session_of(self._pending.message)
        if named is not None:
            return named
        self._link.wait(self._pending, admitted)
        if self._pending.session is None:
            raise_problem(self._pending)
        return self._pending.session

    def result(self, timeout: float | str | None = None) -> Result:
        """Wait for the end, at most `timeout`.  Raises the call's error, or TimeoutError when it
        goes on: then it can be asked again."""
        seconds = plan.duration(timeout, "timeout")
        until = None if seconds is None else time.monotonic() + seconds
        if not self._link.wait(self._pending, done, until):
            raise TimeoutError(f"the call has not ended within {seconds:g} s; it goes on")
        return outcome(self._pending)

    def progress(self) -> Iterator[Any]:
        """How far the call is, whenever the app tells by `warmd.context.progress` (or a bar of tqdm), until
        it ends; the latest value where this reader is slower.  Then `result()` has its end."""
        with contextlib.suppress(CallGone):  # it has ended
            yield from self._client.calls.watch(self.call_id)

    def done(self) -> bool:
        """Whether the call has ended.  Never waits."""
        return done(self._pending) or self._link.peek(self._pending, done)

    def cancel(self) -> bool:
        """Ask for the end of the call; `result()` then raises CallCancelled.  False if it has ended."""
        if self.done():
            return False
        self._link.cancel(self._pending)
        return True

    def status(self) -> Info:
        """Where the call is: state (queued, starting, running, cancelling, done), position, progress."""
        if not self.done():
            try:
                return self._client.calls.get(self.call_id)
            except CallGone:
                if not self.done():
                    raise
        return ended(self._pending)


def ended(pending: Pending) -> Info:
    """The status of a call that is done, as its caller knows it."""
    code, ran = (pending.problem.code, pending.problem.ran) if pending.problem else (None, "yes")
    return Info(
        id=pending.id.hex(),
        state="done",
        session=pending.session,
        position=None,
        code=code,
        ran=ran,
        progress=None,
    )
