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
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from warmd import __version__
from warmd.http.keys import Caller
from warmd.http.known import Known
from warmd.http.moments import now
from warmd.http.usage import Usage
from warmd.protocol import places
from warmd.protocol.errors import WarmdError

if TYPE_CHECKING:
    from warmd.aio import AsyncClient

BEAT_SECONDS = 15.0
RETRY_SECONDS = 1.0
USAGE_SECONDS = 2.0
OF_DAEMON = ("version", "pid", "boot", "address", "uptime_seconds", "memory", "max_sessions", "draining")


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

    def __init__(self, client: AsyncClient, is_open: bool) -> None:
        self._client = client
        self._is_open = is_open
        self._pages: set[Page] = set()
        self._following: asyncio.Task[None] | None = None
        self._known: Known | None = None
        self._lost = ""
        """Why there is nothing known; empty before anybody has asked."""

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
            "daemon": known.daemon,
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
        if known.daemon_changed > page.change:
            told["daemon"] = {name: known.daemon.get(name) for name in ("memory", "cpu", "draining")}
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
            except WarmdError as error:
                self._known, self._lost = None, str(error)
                self._wake()
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self) -> None:
        status = await self._client.status()
        known = Known({name: status.get(name) for name in OF_DAEMON})
        async with self._client.watch() as news:
            measuring: asyncio.Task[None] | None = None
            try:
                async for told in news:
                    known.take(told)
                    self._known, self._lost = known, ""
                    self._wake()
                    if measuring is None and not self._client.address.startswith(places.TCP_SCHEME):
                        measuring = asyncio.create_task(self._measure(known))
            finally:
                if measuring is not None:
                    measuring.cancel()

    async def _measure(self, known: Known) -> None:
        """What the processes use, which nobody tells of by itself."""
        usage = Usage()
        while True:
            pids = {row.pid for row in known.living.values() if row.pid is not None}
            known.take_usage(await asyncio.to_thread(usage.measure, pids | {known.daemon["pid"]}))
            self._wake()
            await asyncio.sleep(USAGE_SECONDS)

    def _wake(self) -> None:
        for page in self._pages:
            page.news.set()


def _line(**told: Any) -> bytes:
    return orjson.dumps({"now": now(), **told}) + b"\n"
