"""What administrative requests need of the server and the rule book."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from warmd.daemon.catalog import Catalog
from warmd.daemon.cgroup import Cgroups
from warmd.daemon.core.events import Event
from warmd.daemon.core.views import CallView, SessionView, TemplateView, Totals
from warmd.daemon.logs import SessionLogs
from warmd.daemon.settings import Settings
from warmd.daemon.story import Story
from warmd.protocol.errors import Problem
from warmd.protocol.messages import Body, ClientId, FromDaemon, SessionId
from warmd.protocol.work import AppSpec

T = TypeVar("T")


class Views(Protocol):
    """What is read of the broker."""

    def view(self, session: SessionId) -> SessionView | None: ...
    def views(self, include_dead: bool = False) -> Iterable[SessionView]: ...
    def gone(self) -> Iterable[SessionView]: ...
    def settle_left(self) -> None: ...
    def call_view(self, call: str) -> CallView | None: ...
    def detached_views(self) -> Iterable[CallView]: ...
    def missing_call(self, call: str) -> Problem: ...
    def templates(self) -> Iterable[TemplateView]: ...
    def missing_session(self, session: SessionId) -> Problem: ...
    def totals(self) -> Totals: ...
    def refusal(self, client: ClientId) -> Problem | None: ...


class Explains(Protocol):
    """`daemon.why.Why`."""

    def explain(self, text: str, now: float, done: Callable[[dict[str, Any]], None]) -> None: ...


class Describes(Protocol):
    """`daemon.describing.Describer`."""

    def describe(self, spec: AppSpec, done: Callable[[Body | Problem], object]) -> None: ...


class Listens(Protocol):
    """`daemon.remote.Remote`."""

    @property
    def address(self) -> str: ...


class Services(Protocol):
    """What the server does for these verbs."""

    settings: Settings
    logs: SessionLogs
    catalog: Catalog
    boot: str
    started: float
    """Monotonic seconds."""
    cgroups: Cgroups | None

    @property
    def remote(self) -> Listens | None: ...

    @property
    def broker(self) -> Views: ...

    @property
    def story(self) -> Story: ...

    def now(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object]) -> object:
        """Once, at `when` in monotonic seconds."""

    def tell_of_turns(self, turned: Callable[[], object] | None) -> None:
        """Call it after each event that the rule book has handled, until it is None again."""

    def send(self, client: ClientId, message: FromDaemon) -> None: ...
    def submit(self, event: Event) -> None:
        """Hand an event to the broker and perform what it orders."""

    def reload_keys(self, done: Callable[[int | BaseException], None]) -> None:
        """Take notice of changed keys, then call `done` with how many connections that has ended."""

    def request_stop(self, drain_seconds: float) -> None: ...
    def gpu_infos(self) -> Mapping[str, Any]:
        """What `status` says of GPUs."""

    def counters(self) -> Mapping[str, int]:
        """What the server counts: `dropped_messages`, `log_lines_dropped`, `clients`..."""

    @property
    def why(self) -> Explains: ...

    @property
    def describer(self) -> Describes: ...

    def in_thread(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Call `work` on a helper thread, then `done` with its result on the loop's."""
