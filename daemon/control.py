"""Administrative requests: what each verb takes, what it answers.

Most verbs read the rule book's views and answer at once.  Those that change something become
events; the rule book settles them with an `Answer`, which comes back through `answer()`.  `logs` and
`watch` are streams of their own (`logstreams`, `news`).
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import warmd
from warmd.daemon.core.effects import Answer
from warmd.daemon.core.events import (
    EndArrived,
    HoldArrived,
    KeepaliveArrived,
    ParkArrived,
    StopArrived,
    UnparkArrived,
    WatchArrived,
)
from warmd.daemon.core.policy import LISTED
from warmd.daemon.core.views import CallView, SessionView
from warmd.daemon.failures import problem_of_lookup
from warmd.daemon.infos import (
    array,
    packed_call,
    packed_info,
    resident_bytes,
    template_info,
)
from warmd.daemon.logstreams import LogStreams
from warmd.daemon.news import News
from warmd.daemon.services import Services, Views
from warmd.daemon.verbs import Refusal, checked, invalid
from warmd.protocol import messages, places, values
from warmd.protocol.errors import Invalid, Problem
from warmd.protocol.messages import PROTOCOL, AppRef, Body, CallId, ClientId, Origin, Request, SessionId
from warmd.protocol.work import AppSpec

_log = logging.getLogger("warmd.control")
T = TypeVar("T")

MAX_LOOKUPS = 64
"""Of one client at one time; each has a thread of its own."""


class Control:
    """Answers requests; used by the loop's thread alone."""

    def __init__(self, services: Services) -> None:
        self.log_streams = LogStreams(services)
        self.news = News(services)
        self.streams: tuple[LogStreams | News, ...] = (self.log_streams, self.news)
        self._services = services
        self._lookups: Counter[ClientId] = Counter()

    def handle(self, client: ClientId, request: Request, now: float) -> None:
        """Performs a request; whatever goes wrong, it is answered."""
        try:
            if (problem := self._broker.refusal(client)) is not None:
                raise Refusal(problem)
            arguments = checked(request)
            method = getattr(self, "_" + request.verb.replace(".", "_"))
            answer = method(client, request, now, **arguments)
        except Refusal as refusal:
            self._fail(client, request, refusal.problem, refusal.session)
        except Exception as error:
            _log.exception("the request %s failed", request.verb)
            text = f"the daemon failed on this request: {error!r}; its log says more"
            self._fail(client, request, Problem("INTERNAL", text, "maybe"))
        else:
            if answer is not None:
                self._succeed(client, request.id, answer)

    def answer(self, effect: Answer, now: float) -> None:
        """The rule book has settled a request: answers it with the sessions' info."""
        packed = [self._packed(view, now) for id in effect.sessions if (view := self._broker.view(id))]
        if effect.many or not packed:
            packed = [array(packed)]
        self._succeed(effect.client, effect.request, packed[0])

    def stream_of(self, client: ClientId, id: CallId) -> LogStreams | News | None:
        """Whose stream this is, so that credits and cancels for it belong there; None for a call's."""
        return next((streams for streams in self.streams if streams.owns(client, id)), None)

    @property
    def _broker(self) -> Views:
        return self._services.broker

    def _succeed(self, client: ClientId, id: CallId, packed: Body) -> None:
        self._services.send(client, messages.Result(id, None, 0, None, packed))

    def _fail(
        self, client: ClientId, request: Request, problem: Problem, session: SessionId | None = None
    ) -> None:
        failure = messages.Failure(
            request.id, session, problem.code, problem.message, problem.ran, dict(problem.details)
        )
        self._services.send(client, failure)

    def _known(self, session: SessionId) -> SessionView:
        view = self._broker.view(session)
        if view is None:
            raise self._not_found(session)
        return view

    def _not_found(self, session: SessionId) -> Refusal:
        return Refusal(self._broker.missing_session(session), session)

    def _packed(self, view: SessionView, now: float) -> bytes:
        return packed_info(view, now, self._services.story.grave(view).ended)

    def _sessions_list(self, _client: ClientId, _request: Request, now: float, all: bool = False) -> bytes:
        living = len([*self._broker.views()])
        newest = [*self._broker.views(all)][-(living + LISTED) :]
        return array([self._packed(view, now) for view in newest])

    def _sessions_get(self, _client: ClientId, _request: Request, now: float, session: SessionId) -> bytes:
        return self._packed(self._known(session), now)

    def _sessions_keepalive(
        self, client: ClientId, request: Request, _now: float, session: SessionId
    ) -> None:
        self._known(session)
        self._services.submit(KeepaliveArrived(client, request.id, session))

    def _sessions_hold(
        self,
        client: ClientId,
        request: Request,
        _now: float,
        session: SessionId,
        seconds: float | None = None,
    ) -> None:
        self._known(session)
        self._services.submit(HoldArrived(client, request.id, session, seconds))

    def _sessions_park(self, client: ClientId, request: Request, _now: float, session: SessionId) -> None:
        self._known(session)
        self._services.submit(ParkArrived(client, request.id, session))

    def _sessions_unpark(self, client: ClientId, request: Request, _now: float, session: SessionId) -> None:
        self._known(session)
        self._services.submit(UnparkArrived(client, request.id, session))

    def _sessions_end(
        self,
        client: ClientId,
        request: Request,
        _now: float,
        session: SessionId | None = None,
        app: str | None = None,
        all: bool = False,
        running: Literal["cancel", "finish"] = "cancel",
    ) -> None:
        if (session is not None) + (app is not None) + all != 1:
            raise invalid("sessions.end takes exactly one of session, app and all=true")
        if session is not None:
            self._known(session)
        self._services.submit(EndArrived(client, request.id, session, app, running))

    def _calls_get(self, _client: ClientId, _request: Request, now: float, call: str) -> bytes:
        return packed_call(self._known_call(call), now)

    def _calls_list(self, _client: ClientId, _request: Request, now: float) -> bytes:
        return array([packed_call(view, now) for view in self._broker.detached_views()])

    def _calls_cancel(self, _client: ClientId, _request: Request, _now: float, call: str) -> bytes:
        under_way = self._known_call(call).state != "done"
        self._services.submit(StopArrived(CallId(bytes.fromhex(call))))
        return values.pack(under_way)

    def _calls_watch(self, client: ClientId, request: Request, _now: float, call: str) -> None:
        id = CallId(bytes.fromhex(call))
        self._services.submit(WatchArrived(client, request.id, id, request.window))

    def _known_call(self, call: str) -> CallView:
        view = self._broker.call_view(call)
        if view is None:
            raise Refusal(self._broker.missing_call(call))
        return view

    def _why(self, client: ClientId, request: Request, now: float, id: str) -> None:
        def done(facts: dict[str, Any]) -> None:
            self._succeed(client, request.id, values.pack(facts))

        try:
            self._services.why.explain(id, now, done)
        except Invalid as error:
            raise invalid(error.message) from None

    def _logs(
        self,
        client: ClientId,
        request: Request,
        _now: float,
        session: SessionId,
        tail: int | None = None,
        follow: bool = False,
    ) -> None:
        self.log_streams.open(client, request, session, tail, follow)

    def _watch(self, client: ClientId, request: Request, _now: float) -> None:
        self.news.open(client, request)

    def _apps_list(self, client: ClientId, request: Request, _now: float) -> None:
        def done(found: list[dict[str, Any]] | BaseException) -> None:
            if isinstance(found, BaseException):
                text = f"the apps could not be listed: {found!r}"
                self._fail(client, request, Problem("INTERNAL", text, "maybe"))
            else:
                self._succeed(client, request.id, values.pack(found))

        self._look_up(client, self._services.catalog.apps, done)

    def _apps_describe(
        self, client: ClientId, request: Request, _now: float, app: str, origin: Origin | None = None
    ) -> None:
        def found(spec: AppSpec | BaseException) -> None:
            if isinstance(spec, BaseException):
                self._fail(client, request, problem_of_lookup(spec, app))
            else:
                self._services.describer.describe(spec, described)

        def described(answer: Body | Problem) -> None:
            if isinstance(answer, Problem):
                self._fail(client, request, answer)
            else:
                self._succeed(client, request.id, answer)

        self._look_up(client, lambda: self._services.catalog.lookup(AppRef(app, origin)), found)

    def _look_up(
        self, client: ClientId, work: Callable[[], T], done: Callable[[T | BaseException], None]
    ) -> None:
        """`work` on a thread.  Raises Refusal where the client has too many of them."""
        if self._lookups[client] >= MAX_LOOKUPS:
            text = f"{MAX_LOOKUPS} requests of this client look for apps already: wait for their answers"
            raise Refusal(Problem("QUEUE_FULL", text, details={"limit": MAX_LOOKUPS}))
        self._lookups[client] += 1

        def over(found: T | BaseException) -> None:
            self._lookups[client] -= 1
            if not self._lookups[client]:
                del self._lookups[client]
            done(found)

        self._services.in_thread(work, over)

    def _keys_reload(self, client: ClientId, request: Request, _now: float) -> None:
        def done(ended: int | BaseException) -> None:
            if isinstance(ended, BaseException):
                text = f"the keys could not be read: {ended!r}"
                self._fail(client, request, Problem("INTERNAL", text, "maybe"))
            else:
                self._succeed(client, request.id, values.pack({"connections_ended": ended}))

        self._services.reload_keys(done)

    def _status(self, _client: ClientId, _request: Request, now: float) -> bytes:
        services, totals = self._services, self._broker.totals()
        run_dir = services.settings.run_path
        facts: dict[str, Any] = {
            "version": warmd.__version__,
            "protocol": PROTOCOL,
            "boot": services.boot,
            "pid": os.getpid(),
            "address": places.address_of(places.socket_path(run_dir)),
            "cgroups": str(services.cgroups.base) if services.cgroups else None,
            "memory_limited_by": _memory_limited_by(services),
            "listen": services.remote.address if services.remote else None,
            "run_dir": str(run_dir),
            "logs_dir": str(services.logs.folder),
            "uptime_seconds": now - services.started,
            "memory": resident_bytes(os.getpid()),
            "sessions": totals.sessions,
            "max_sessions": services.settings.max_sessions,
            "queued": totals.queued,
            "queued_bytes": totals.queued_bytes,
            "slow_clients": totals.slow_clients,
            "credits_dropped": totals.credits_dropped,
            "running": totals.running,
            "draining": totals.draining,
            "templates": [template_info(view, now) for view in self._broker.templates()],
            "log_errors": services.logs.errors,
            "log_error": services.logs.last_error,
        }
        return values.pack({**facts, **services.gpu_infos(), **services.counters()})

    def _stop(
        self, client: ClientId, request: Request, _now: float, drain_seconds: float | None = None
    ) -> None:
        if drain_seconds is None:
            drain_seconds = self._services.settings.drain_timeout
        # Answered first: the connection may be gone by the time the daemon has stopped.
        self._succeed(client, request.id, values.pack({"stopping": True, "drain_seconds": drain_seconds}))
        self._services.request_stop(drain_seconds)


def _memory_limited_by(services: Services) -> str | None:
    if services.settings.worker_memory == math.inf:
        return None
    return "cgroup" if services.cgroups and services.cgroups.limits_memory else "measure"
