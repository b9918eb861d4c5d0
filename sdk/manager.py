"""One session of an app that is opened when needed, and anew when it is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from warmd import plan
from warmd.protocol.errors import Invalid, NoSession, WarmdError

if TYPE_CHECKING:
    from warmd.aio import AsyncClient
    from warmd.client import Client
    from warmd.result import Result

R = TypeVar("R")
E = TypeVar("E")


class SessionManager(Generic[R, E]):
    """Runs calls in one session of `app`; with an `AsyncClient`, `run` and `end` are awaited.

    The first `run` opens the session, with an idle time-out of `timeout` (seconds or "10m"); it
    expires at the age of `max_lifetime` too (default: the daemon's).  Where
    `init` is given, it is the input of the first call in each new session.  When the session is
    gone (expired, ended, died, or its daemon was restarted) and the call did not run, `run` opens
    another and repeats the call there, once.  A call that may have run is never repeated.
    """

    @overload
    def __init__(
        self: SessionManager[Result, None],
        client: Client,
        app: Any,
        timeout: float | str = ...,
        init: Any = ...,
        setup: Any = ...,
        max_lifetime: float | str | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: SessionManager[Awaitable[Result], Awaitable[None]],
        client: AsyncClient,
        app: Any,
        timeout: float | str = ...,
        init: Any = ...,
        setup: Any = ...,
        max_lifetime: float | str | None = ...,
    ) -> None: ...
    def __init__(
        self,
        client: Client | AsyncClient,
        app: Any,
        timeout: float | str = 300,
        init: Any = None,
        setup: Any = None,
        max_lifetime: float | str | None = None,
    ) -> None:
        if not hasattr(client, "_drive"):
            raise Invalid(
                f"client: expected a Client or AsyncClient first, got {type(client).__name__}: "
                "SessionManager(client, app)"
            )
        self._client: Any = client
        self._opening = {
            "app": app,
            "session_timeout": timeout,
            "setup": setup,
            "max_lifetime": max_lifetime,
        }
        self._init = init
        self._lock: Any = client._new_lock()
        self._session: str | None = None
        plan.opening(self._opening)  # what is wrong with it is best said here

    @property
    def session_id(self) -> str | None:
        """The session in use; None before the first call."""
        return self._session

    def run(self, input: Any = None, *, function: str | None = None, timeout: float | str | None = None) -> R:
        """Call a function, by default `run`, in the session.  Raises as `Client.run`."""
        done: R = self._client._drive(self._run(function, input, timeout))
        return done

    def end(self) -> E:
        """End the session, if there is one; the next `run` opens another."""
        done: E = self._client._drive(self._end())
        return done

    def _run(
        self, function: str | None, input: Any, timeout: float | str | None
    ) -> Generator[Any, Any, Result]:
        session = yield from self._ensured()
        try:
            first: Result = yield plan.call_to(session, function, input, timeout)
            return first
        except NoSession as error:
            if error.ran != "no":
                raise
        self._forget(session)
        session = yield from self._ensured()
        second: Result = yield plan.call_to(session, function, input, timeout)
        return second

    def _ensured(self) -> Generator[Any, Any, str]:
        if self._session is not None:
            return self._session
        yield self._lock.acquire
        try:
            if self._session is None:
                self._session = yield from self._opened()
            return self._session
        finally:
            self._lock.release()

    def _opened(self) -> Generator[Any, Any, str]:
        opened = yield plan.opening(self._opening)
        session = str(opened.session_id)
        if self._init is not None:
            try:
                yield plan.call_to(session, None, self._init, None)
            except WarmdError:
                yield from self._ended(session)
                raise
        return session

    def _forget(self, session: str) -> None:
        # Another thread may have opened the next one already.
        if self._session == session:
            self._session = None

    def _end(self) -> Generator[Any, Any, None]:
        session, self._session = self._session, None
        if session is not None:
            yield from self._ended(session)

    def _ended(self, session: str) -> Generator[Any, Any, None]:
        verb, arguments, _ = plan.ending(session, None, False, "cancel")
        with contextlib.suppress(NoSession):
            yield plan.request(verb, arguments)
