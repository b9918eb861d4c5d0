"""Sessions as objects: a handle on one, and the list of all."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, overload

from warmd import plan
from warmd.protocol.errors import DaemonError, NoSession
from warmd.result import Info, Result, infos

if TYPE_CHECKING:
    from warmd.calls import Stream, Submitted
    from warmd.client import Client

Running = Literal["cancel", "finish"]
Infos: TypeAlias = list[Info]
"""`list` is a method's name below."""


class Session:
    """A session of a blocking client, made by `Client.session`."""

    def __init__(self, client: Client, id: str, owned: bool) -> None:
        self._client = client
        self.id = id
        self._owned = owned

    def __repr__(self) -> str:
        return f"<Session {self.id}>"

    def call(
        self, function: str | None = None, input: Any = None, *, timeout: float | str | None = None
    ) -> Result:
        """Call a function, by default `run`.  Raises as `Client.run`."""
        return self._client._call(plan.call_to(self.id, function, input, timeout))

    def run(self, input: Any = None, *, timeout: float | str | None = None) -> Result:
        """Call `run`."""
        return self.call(None, input, timeout=timeout)

    def stream(
        self, function: str | None = None, input: Any = None, *, timeout: float | str | None = None
    ) -> Stream:
        """Call a generator function; iterate over what it yields."""
        return self._client._stream(plan.call_to(self.id, function, input, timeout, plan.WINDOW))

    def submit(
        self,
        function: str | None = None,
        input: Any = None,
        *,
        timeout: float | str | None = None,
        detach: bool = False,
    ) -> Submitted:
        """Start a call and return at once; with `detach` it outlives this client, as in `Client.submit`."""
        return self._client._submit(plan.call_to(self.id, function, input, timeout, detach=detach))

    def info(self) -> Info:
        """What is known about the session, also after its end."""
        return self._client.sessions.get(self.id)

    def keepalive(self) -> Info:
        """Start its idle time anew."""
        return self._client.sessions.keepalive(self.id)

    def hold(self, ttl: float | str) -> Info:
        """Keep it from expiring by idling for so long from now; the daemon's `max_hold` is the most."""
        return self._client.sessions.hold(self.id, ttl)

    def release(self) -> Info:
        """End a hold: only its idle time counts again."""
        return self._client.sessions.release(self.id)

    def park(self) -> Info:
        """Move what it has on GPUs to host memory; as `Sessions.park`."""
        return self._client.sessions.park(self.id)

    def unpark(self) -> Info:
        """Bring that back, also before a call does; as `Sessions.unpark`."""
        return self._client.sessions.unpark(self.id)

    def end(self, running: Running = "cancel") -> Info:
        """End it; returns when its processes are gone.  No error if it has ended already."""
        return self._client.sessions.end(self.id, running=running)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned:
            # Gone already, with its daemon or alone: that is all that was wanted.
            with contextlib.suppress(NoSession, DaemonError):
                self.end()


class Sessions:
    """The daemon's sessions: `client.sessions`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def get(self, id: str) -> Info:
        """What is known about one, also after its end.  Raises SessionNotFound."""
        return Info(self._client._request("sessions.get", {"session": plan.session_id(id)}))

    def list(self, *, all: bool = False) -> Infos:
        """The living sessions; with `all` also the remembered dead ones."""
        return infos(self._client._request("sessions.list", {"all": bool(all)}))

    def keepalive(self, id: str) -> Info:
        """Start the idle time of one anew.  Raises NoSession."""
        return Info(self._client._request("sessions.keepalive", {"session": plan.session_id(id)}))

    def hold(self, id: str, ttl: float | str) -> Info:
        """Keep one from expiring by idling for so long from now.  Raises NoSession, Invalid."""
        return Info(self._client._request(*plan.hold(id, ttl)))

    def release(self, id: str) -> Info:
        """End the hold of one.  Raises NoSession."""
        return Info(self._client._request(*plan.release(id)))

    def park(self, id: str) -> Info:
        """Move what one has on GPUs to host memory; returns when it is there.  Its next call brings it back.

        It may take minutes, where much is to be moved; the daemon bounds it.  If it is parked, nothing
        is done.  Raises Invalid where it has no GPU memory, runs something, or could not be parked (then it
        works on); NotAllowed where its app says `park = "never"`, or it was seen that it cannot be
        parked; NoRoom where it would be more than the daemon's `park_memory`; NoSession.
        """
        return Info(self._client._request(*plan.move("sessions.park", id)))

    def unpark(self, id: str) -> Info:
        """Bring that back, also before a call does; returns when it is there.  Of one that is not parked
        nothing is done.

        Others may have to be parked for it.  Raises NoRoom where there was no room within the daemon's
        `gpu_wait`, and says who has it; NoSession, also where it could not be brought back and died.
        """
        return Info(self._client._request(*plan.move("sessions.unpark", id)))

    @overload
    def end(self, id: str, *, running: Running = "cancel") -> Info: ...
    @overload
    def end(self, *, app: str, running: Running = "cancel") -> Infos: ...
    @overload
    def end(self, *, all: Literal[True], running: Running = "cancel") -> Infos: ...
    def end(
        self, id: str | None = None, *, app: str | None = None, all: bool = False, running: Running = "cancel"
    ) -> Info | Infos:
        """End one session, those of an app, or all; returns when their processes are gone.

        What runs is cancelled, or with `running="finish"` finished first; queued calls are cancelled.
        Ending what has ended already is no error.  Raises SessionNotFound for an unknown id.
        """
        told = self._client._request(*plan.ending(id, app, all, running))
        return Info(told) if id is not None else infos(told)
