"""The blocking client."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Self

from warmd import plan
from warmd.calls import Logs, Stream, Submitted
from warmd.connect import Connector
from warmd.detached import Calls
from warmd.link import Link, admitted, done
from warmd.protocol.errors import Invalid
from warmd.protocol.messages import Attach, Call, Request
from warmd.protocol.pending import Pending
from warmd.reference import description as description_of
from warmd.result import Info, Result, answer, description, infos, outcome, raise_problem
from warmd.session import Session, Sessions


class Client:
    """Talks to a daemon; safe from many threads, and without a thread of its own.

    `address` is `unix:///path/warmd.sock` or a plain path, by default that of `WARMD_HOST`.  Without
    either it is the user's own daemon, which is started at the first use if there is none, unless
    `autostart` is False.  With an address no daemon is ever started.  `tcp://HOST:PORT` is a daemon
    on another machine, which lets in who has a `key`, by default that of `WARMD_KEY`.

    A client that was connected never starts a second daemon: when its daemon is gone, what was
    under way ends with DaemonLost, and later calls with DaemonUnavailable until there is one again.
    After a fork the child makes a connection of its own.

    Raises Invalid for an address that cannot be one.  Connecting happens at the first use; every
    method can raise DaemonUnavailable, within 3 s.
    """

    def __init__(
        self, address: str | None = None, autostart: bool | None = None, *, key: str | None = None
    ) -> None:
        self._connector = Connector(address, autostart, key)
        self._link: Link | None = None
        self._connecting = threading.Lock()
        self._pid = os.getpid()
        self._closed = False

    @property
    def address(self) -> str:
        """Where the daemon is: `unix:///path/warmd.sock` or `tcp://HOST:PORT`."""
        return self._connector.address

    @property
    def sessions(self) -> Sessions:
        """The daemon's sessions: get, list, keepalive, hold, release, park, unpark, end."""
        return Sessions(self)

    @property
    def calls(self) -> Calls:
        """Calls by their id: get, cancel; of detached ones also list, attach, result."""
        return Calls(self)

    def run(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> Result:
        """Call a function and wait for its result.

        The options, as one dict or as keywords:

            app              a registered name, a folder, `module:Class`, or a class
            function         a public method, by default `run`
            input            any plain value
            session          "new", the id of a session, or nothing: any warm worker of the shared pool
            session_timeout  idle time after which a new session ends: seconds or "5m" (default 60 s)
            max_lifetime     age at which a new session expires, however busy (default: the daemon's)
            timeout          of this call, with its waiting: seconds or "90s" (default 1 h)
            setup            the argument of the app's `setup` in a new process
            name, labels     of a new session; a living session of that name is joined
            env              variables of a new process
            request_id       what your logs name the call by: the app's log names it so too

        Raises a WarmdError: what happened is in its class and its `code`, and whether the function
        ran in its `ran`.
        """
        return self._call(plan.call(plan.options(options, named)))

    def stream(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> Stream:
        """Call a generator function; iterate over what it yields.  Options as in `run`.

        Leaving the loop early ends the generator and not the session.
        """
        return self._stream(plan.call(plan.options(options, named), window=plan.WINDOW))

    def submit(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> Submitted:
        """Start a call and return at once; `result()` waits for its end.  Options as in `run`.

        With `detach=True` it returns when the daemon has admitted the call, or raises why not.  From
        then on the call is the daemon's: this client's end neither drops nor cancels it, and
        `calls.attach(call_id)` and `calls.result(call_id)` of any client get what it gives.  `note`, a
        text of yours, is kept with it: `calls.get` and `calls.list` tell it.
        """
        return self._submit(plan.submission(plan.options(options, named)))

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
    ) -> Session:
        """Open a session of `app` and wait until it is ready, at most `timeout`; options as in `run`.

        A `with` block ends it.  With `name` a living session of that name is joined or a new one
        opened; others may use it too, so the block leaves it alone, as it does one taken by `id`.
        """
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
            return Session(self, plan.session_id(id), owned=False)
        opened = self._call(plan.opening(given))
        return Session(self, str(opened.session_id), owned=name is None)

    def warm(
        self,
        app: Any,
        *,
        spares: int = 1,
        session_timeout: float | str | None = plan.SPARE_SECONDS,
        setup: Any = None,
        env: Mapping[str, str] | None = None,
        timeout: float | str | None = None,
    ) -> list[Result]:
        """Have sessions of `app` ready before anybody asks; returns when they are, at most after `timeout`.

        A call that opens a session with the same `setup` and `env` takes one of them, and another is
        started in its place.  One that nobody takes for `session_timeout` ends.  If one is refused or
        does not start, the starts that are under way are given up.
        """
        given = {"session_timeout": session_timeout, "setup": setup, "env": env, "timeout": timeout}
        begun = [self._begin(call) for call in plan.warming(app, spares, **given)]
        try:
            for ready in (admitted, done):
                for link, pending in begun:
                    link.wait(pending, ready)
                    raise_problem(pending)
        except BaseException:
            for link, pending in begun:
                link.drop(pending.id)
            raise
        return [outcome(pending) for _, pending in begun]

    def apps(self) -> list[Info]:
        """The apps that the daemon knows: name, target, folder, source."""
        return infos(self._request("apps.list", {}))

    def describe(self, app: object) -> dict[str, Any]:
        """What an app's functions take and give, as JSON Schemas, and where it is found; it is imported, but
        its `setup` is not run.

        `functions` has a dict for each: name, doc, input_schema, output_schema, streams, async.  Raises
        StartFailed where it cannot be imported.
        """
        asked = description_of(app)
        return description(self._request("apps.describe", asked, plan.DESCRIBING_SECONDS))

    def status(self) -> Info:
        """The daemon itself: version, pid, address, uptime, counts."""
        return Info(self._request("status", {}))

    def why(self, id: str) -> Info:
        """What is the matter with a session or a call, under way or over: facts, and in `text` one line.

        `id` is the id of either, a beginning that fits only one, or a session's name.
        """
        return Info(self._request("why", {"id": id}))

    def stop(self, drain: float | str | None = None) -> Info:
        """Tell the daemon to stop.  Returns at once: what runs may finish within `drain` (default: the
        daemon's setting), and its process ends after that."""
        return Info(self._request("stop", {"drain_seconds": plan.duration(drain, "drain")}))

    def reload_keys(self) -> Info:
        """Have the daemon take notice of changed keys; how many connections over TCP that has ended."""
        return Info(self._request("keys.reload", {}))

    def watch(self) -> Stream:
        """What changes in the daemon, as it changes, at most four times a second, until the stream is closed.

        Each value is a dict: `sessions`, the infos of those that have changed (in the first value of all);
        `calls` that have ended, as far as they are many the latest and those that failed or waited for a
        start; `ended`, how many have; `draining`.  Who reads slowly is told of several changes together.
        """
        return Stream(*self._begin(plan.request("watch", {}, window=1)))

    def logs(self, session: str, *, tail: int | None = None, follow: bool = False) -> Logs:
        """What a session's processes print, in pieces of bytes: the last `tail` lines or all.

        With `follow` it goes on until the session is gone, or `finish()` of what is returned is called.
        """
        request = plan.request(*plan.logs(session, tail, follow), window=plan.WINDOW)
        return Logs(*self._begin(request, None if follow else plan.ANSWER_SECONDS))

    def close(self) -> None:
        """Give up the connection; what is under way ends with DaemonLost here, sessions live on."""
        self._closed = True
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, message: Call) -> Result:
        return outcome(self._run(message, message.timeout_seconds))

    def _stream(self, message: Call) -> Stream:
        return Stream(*self._begin(message))

    def _submit(self, message: Call) -> Submitted:
        link, pending = self._begin(message)
        if message.detach:
            link.await_admission(pending)
        return Submitted(self, link, pending)

    def _request(
        self, verb: str, arguments: dict[str, Any], patience: float | None = plan.ANSWER_SECONDS
    ) -> Any:
        return answer(self._run(plan.request(verb, arguments), patience))

    def _run(self, message: Call | Request, patience: float | None) -> Pending:
        pending = self._connected().run(message, patience)
        if pending.unsent:
            pending = self._connected().run(message, patience)
        return pending

    def _begin(self, message: Call | Request | Attach, patience: float | None = None) -> tuple[Link, Pending]:
        if isinstance(message, Call):
            patience = message.timeout_seconds
        link = self._connected()
        pending = link.begin(message, patience)
        if pending.unsent:
            link = self._connected()
            pending = link.begin(message, patience)
        return link, pending

    def _connected(self) -> Link:
        link = self._link
        if link is not None and link.usable:
            return link
        if self._closed:
            raise Invalid("this client is closed; make a new one")
        if self._pid != os.getpid():
            # Another thread may have held it when this process was forked.
            self._connecting, self._pid = threading.Lock(), os.getpid()
        with self._connecting:
            link = self._link
            if link is None or not link.usable:
                if link is not None:
                    link.close()
                link = self._link = Link(self._connector.connect())
            return link

    def _drive(self, steps: Generator[Any, Any, Any]) -> Any:
        """Perform the steps of a procedure that both clients share: calls, and blocking functions."""
        try:
            step = next(steps)
            while True:
                try:
                    done = self._call(step) if isinstance(step, Call) else self._step(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
        except StopIteration as stop:
            return stop.value

    def _step(self, step: Request | Callable[[], object]) -> Any:
        return answer(self._run(step, plan.ANSWER_SECONDS)) if isinstance(step, Request) else step()

    @staticmethod
    def _new_lock() -> threading.Lock:
        return threading.Lock()
