"""The pages of one browser, by numbers, and what they do without being asked.

Dialogs are answered at once: a page stands still until then.  Pages that open others do not change
which tab is the current one, or it would depend on a race.  What happened is told once, with the
answer of the next action.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from warmd.apps.browser.problems import PageCrashed

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, CDPSession, Dialog, Download, Page

PROBE_SECONDS = 1.0
"""A page that runs no script of ours for so long is busy with its own."""
MOST_EVENTS = 100
"""Of each kind, between two answers."""


class Tab:
    """One page, with the number that it keeps."""

    def __init__(self, number: int, page: Page) -> None:
        self.number = number
        self.page = page
        self.has_crashed = False
        self._debugger: CDPSession | None = None
        page.on("crash", self._on_crash)

    def check(self) -> None:
        """Raises PageCrashed."""
        if self.has_crashed:
            raise PageCrashed(self.number)

    async def prepare(self) -> None:
        """While the page is idle: once it is busy nobody can connect to it any more."""
        if self._debugger is None and not self.has_crashed:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(PROBE_SECONDS):
                    self._debugger = await self.page.context.new_cdp_session(self.page)

    async def title(self, seconds: float = PROBE_SECONDS) -> str | None:
        """None where the page does not come to tell it."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(seconds):
                return await self.page.title()
        return None

    async def stop_loading(self) -> None:
        """Gives up the page that is on its way: until then there is nothing to be had of the old one."""
        await self._debug("Page.stopLoading")

    async def free(self) -> None:
        """Breaks off a script that keeps the page busy; spares a page that is not."""
        if await self.title() is None:
            await self._debug("Runtime.terminateExecution")

    async def _debug(self, command: str) -> None:
        if self._debugger is None or self.page.is_closed() or self.has_crashed:
            return
        with contextlib.suppress(Exception):
            async with asyncio.timeout(PROBE_SECONDS):
                await self._debugger.send(command)

    def _on_crash(self, _: Any) -> None:
        self.has_crashed = True


class Tabs:
    """All pages of one context; `current` is the one that actions go to."""

    def __init__(self, context: BrowserContext, dialogs: str) -> None:
        self._context = context
        self._accepts = dialogs == "accept"
        self._tabs: dict[int, Tab] = {}
        self._last = 0
        self._current = 0
        self._events: dict[str, list[Any]] = {}
        self._asked_for: set[int] = set()
        """Tabs that were opened by `open`, and so are no news."""
        self.downloads: list[Download] = []
        context.on("page", self._on_page)
        context.on("page", self._prepare)
        context.on("dialog", self._on_dialog)
        for page in context.pages:
            self._added(page)

    def all(self) -> list[Tab]:
        return list(self._tabs.values())

    async def current(self) -> Tab:
        """A new one where all were closed."""
        if self._current not in self._tabs:
            if self._tabs:
                self._current = max(self._tabs)
            else:
                await self.open()
        return self._tabs[self._current]

    async def open(self) -> Tab:
        """A new, empty tab; it is the current one from now on."""
        page = await self._context.new_page()
        tab = self._added(page)
        self._asked_for.add(tab.number)
        opened = self._events.get("opened_tabs", [])
        if tab.number in opened:
            opened.remove(tab.number)
        self._current = tab.number
        return tab

    def switch(self, number: int) -> Tab:
        tab = self.get(number)
        self._current = number
        return tab

    def get(self, number: int) -> Tab:
        """Raises ValueError for a tab that there is not."""
        if number not in self._tabs:
            there = ", ".join(map(str, self._tabs)) or "none"
            raise ValueError(f"there is no tab {str(number)[:40]}: there are {there}")
        return self._tabs[number]

    def newest(self) -> Tab | None:
        return self._tabs[max(self._tabs)] if self._tabs else None

    async def replace(self, tab: Tab) -> Tab:
        """A crashed page cannot be used again: a new one with its number."""
        self._tabs.pop(tab.number, None)
        fresh = await self.open()
        del self._tabs[fresh.number]
        fresh.number = tab.number
        self._tabs[tab.number] = fresh
        self._current = tab.number
        await tab.page.close()
        return fresh

    def told(self) -> dict[str, list[Any]]:
        """What happened since this was asked last."""
        events, self._events = {name: found for name, found in self._events.items() if found}, {}
        return events

    def is_current(self, tab: Tab) -> bool:
        return tab.number == self._current

    def _note(self, kind: str, what: Any) -> None:
        noted = self._events.setdefault(kind, [])
        noted.append(what)
        del noted[:-MOST_EVENTS]

    def _added(self, page: Page) -> Tab:
        for tab in self._tabs.values():
            if tab.page is page:
                return tab
        self._last += 1
        tab = self._tabs[self._last] = Tab(self._last, page)
        self._current = self._current or tab.number
        page.on("close", lambda _: self._on_close(tab))
        page.on("download", self._on_download)
        return tab

    def _on_page(self, page: Page) -> None:
        tab = self._added(page)
        if tab.number not in self._asked_for:
            self._note("opened_tabs", tab.number)

    async def _prepare(self, page: Page) -> None:
        await self._added(page).prepare()

    def _on_close(self, tab: Tab) -> None:
        if self._tabs.get(tab.number) is tab:
            del self._tabs[tab.number]

    def _on_download(self, download: Download) -> None:
        self.downloads.append(download)
        self._note("downloads", download.suggested_filename)

    async def _on_dialog(self, dialog: Dialog) -> None:
        # Without that a page could keep its user from leaving it.
        leaves = dialog.type == "beforeunload"
        accepts = leaves or self._accepts
        if not leaves:
            self._note("dialogs", {"type": dialog.type, "message": dialog.message, "accepted": accepts})
        answer: Callable[[], Any] = dialog.dismiss
        if accepts:
            answer = lambda: dialog.accept(dialog.default_value)  # noqa: E731
        with contextlib.suppress(Exception):  # its page may be gone
            await answer()
