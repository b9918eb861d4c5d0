"""What changes in the daemon, told to pages as it changes.

One stream of the daemon's (`client.watch()`) serves all pages, while there is one.  What was told last
is kept here, and each page is sent what has changed since it was sent something: so a page that is slow
gets several changes together, and one that comes gets all of it.

    {"type": "snapshot"}   all; also when the daemon is there again
    {"type": "change"}     what is new: sessions, calls that have ended, what processes use
    {"type": "down"}       the daemon is lost
    {"type": "beat"}       nothing was new for long
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from warmd import __version__
from warmd.http.keys import Caller
from warmd.http.known import Known
from warmd.http.logs import FACTS
from warmd.http.moments import now
from warmd.http.problems import HttpProblem
from warmd.http.usage import Usage, is_process_behind
from warmd.protocol.errors import DaemonLost, WarmdError

if TYPE_CHECKING:
    from warmd.aio import AsyncClient

log = logging.getLogger("warmd.http")
BEAT_SECONDS = 15.0
RETRY_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 0.1
USAGE_SECONDS = 2.0
MOST_PAGES = 256
MOST_PAGES_OF_KEY = 32
OF_DAEMON = ("version", "boot", "uptime_seconds", "max_sessions", "draining", "pid", "address", "memory")
FOR_ADMINS = ("pid", "address", "memory", "cpu")
"""Of the daemon's facts those that tell of the machine, and of what others do."""


@dataclass(slots=True, eq=False)
class Page:
    """Who is told, and how much of it so far."""

    caller: Caller
    news: asyncio.Event
    known: Known | None = None
    lost: str = ""
    """What it was told of a daemon that is lost."""
    change: int = 0
    numbers: int = 0
    ended: int = 0


class Live:
    """All pages of a gateway."""

    def __init__(
        self, client: AsyncClient, is_open: bool, owner_of_call: Callable[[str], str | None]
    ) -> None:
        self._client = client
        self._is_open = is_open
        self._owner_of_call = owner_of_call
        self._pages: set[Page] = set()
        self._following: asyncio.Task[None] | None = None
        self._known: Known | None = None
        self._lost = ""
        """Why there is nothing known; empty before anybody has asked."""
        self._heard = False
        """Something, since the stream was lost."""

    def check_room(self, caller: Caller) -> None:
        """Raises HttpProblem where there are as many pages as there may be."""
        mine = sum(page.caller.id == caller.id for page in self._pages)
        if mine >= MOST_PAGES_OF_KEY or len(self._pages) >= MOST_PAGES:
            raise HttpProblem(
                "QUEUE_FULL",
                f"{len(self._pages)} pages are open, {mine} of this key; the limits are {MOST_PAGES} and "
                f"{MOST_PAGES_OF_KEY}: close some",
            )

    async def lines(self, caller: Caller, check: Callable[[], object]) -> AsyncGenerator[bytes]:
        """What a page is told, each a line of JSON.  `check` is called before each, and may raise."""
        page = Page(caller, asyncio.Event())
        self._add(page)
        clock = asyncio.get_running_loop().time
        due = clock() + BEAT_SECONDS
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(page.news.wait(), due - clock())
                page.news.clear()
                check()
                told = self._told(page)
                if told is not None or clock() >= due:
                    yield _line(**(told or {"type": "beat"}))
                    due = clock() + BEAT_SECONDS
        finally:
            self._remove(page)

    def _add(self, page: Page) -> None:
        self._pages.add(page)
        page.news.set()
        if self._following is None:
            self._following = asyncio.create_task(self._follow())

    def _remove(self, page: Page) -> None:
        self._pages.discard(page)
        if not self._pages and self._following is not None:
            self._following.cancel()
            self._following, self._known, self._lost = None, None, ""

    def _told(self, page: Page) -> dict[str, Any] | None:
        """What this page has not been told; None for nothing."""
        known = self._known
        if known is None:
            was_lost, page.lost, page.known = page.lost, self._lost, None
            return None if was_lost == self._lost else {"type": "down", "detail": self._lost}
        page.lost = ""
        told = self._first(page, known) if page.known is not known else self._next(page, known)
        page.known = known
        page.change, page.numbers, page.ended = known.change, known.numbers, known.ended
        return told

    def _first(self, page: Page, known: Known) -> dict[str, Any]:
        sees = page.caller.may_see
        return {
            "type": "snapshot",
            "gateway": self._of_gateway(page.caller),
            "daemon": _of_daemon(known, page),
            "sessions": known.sessions(-1, sees),
            "calls": known.calls_since(0, sees),
            "usage": known.usage(-1, sees),
        }

    def _next(self, page: Page, known: Known) -> dict[str, Any] | None:
        sees = page.caller.may_see
        calls = known.calls_since(page.numbers, sees)
        told: dict[str, Any] = {
            "sessions": known.sessions(page.change, sees),
            "calls": calls,
            "usage": known.usage(page.change, sees),
        }
        told = {name: value for name, value in told.items() if value}
        if known.ended > page.ended and (sees("") or calls):
            told["calls_total"] = known.ended - page.ended if sees("") else len(calls)
        if known.daemon_changed > page.change and (sees("") or known.drained > page.change):
            told["daemon"] = _of_daemon(known, page, ("memory", "cpu", "draining"))
        return {"type": "change", **told} if told else None

    def _of_gateway(self, caller: Caller) -> dict[str, Any]:
        return {
            "version": __version__,
            "key": caller.name,
            "may": [scope for scope in ("run", "read", "admin") if caller.may(scope)],
            "open": self._is_open,
        }

    async def _follow(self) -> None:
        """The daemon's stream, again and again."""
        while True:
            try:
                await self._hear()
            except DaemonLost as error:
                if self._heard:
                    # Whether it is away, and why, is told better by who looks for it.
                    self._heard = False
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
                    continue
                self._lose(error.message)
            except WarmdError as error:
                self._lose(error.message)
            except Exception as error:
                log.exception("what the daemon tells of itself cannot be told")
                name = type(error).__name__
                self._lose(f"the gateway failed on what the daemon told: {name}; its log says more")
            await asyncio.sleep(RETRY_SECONDS)

    def _lose(self, why: str) -> None:
        self._known, self._lost = None, why
        self._wake()

    async def _hear(self) -> None:
        status = await self._client.status()
        known = Known({name: status.get(name) for name in OF_DAEMON}, self._owner_of_call)
        measuring: asyncio.Task[None] | None = None
        try:
            async with self._client.watch() as news:
                async for told in news:
                    known.take(told)
                    self._known, self._lost, self._heard = known, "", True
                    self._wake()
                    measuring = measuring or asyncio.create_task(self._measure(known))
        finally:
            if measuring is not None:
                measuring.cancel()

    async def _measure(self, known: Known) -> None:
        """What the processes use, which nobody tells of by itself."""
        pid = known.daemon["pid"]
        if not await asyncio.to_thread(is_process_behind, self._client.address, pid):
            return  # elsewhere its numbers mean other processes
        usage = Usage()
        while True:
            pids = {row.pid for row in known.living.values() if row.pid is not None}
            try:
                known.take_usage(await asyncio.to_thread(usage.measure, pids | {pid}))
            except OSError as error:  # short of descriptors, say
                log.warning("what processes use cannot be measured", extra={FACTS: {"why": str(error)}})
            self._wake()
            await asyncio.sleep(USAGE_SECONDS)

    def _wake(self) -> None:
        for page in self._pages:
            page.news.set()


def _of_daemon(known: Known, page: Page, names: Iterable[str] | None = None) -> dict[str, Any]:
    hidden = () if page.caller.may_see("") else FOR_ADMINS
    return {name: known.daemon.get(name) for name in names or known.daemon if name not in hidden}


def _line(**told: Any) -> bytes:
    return orjson.dumps({"now": now(), **told}) + b"\n"
