"""The running browser of a session: started when it is needed, asked with a bound, told of in answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from warmd.apps.browser.answers import plain
from warmd.apps.browser.driver import async_api
from warmd.apps.browser.engine import Engine, launch
from warmd.apps.browser.folder import Folder
from warmd.apps.browser.options import Options
from warmd.apps.browser.problems import (
    BrowserError,
    BrowserGone,
    NotInTime,
    PageCrashed,
    first_line,
    navigation_failed,
    too_late,
)
from warmd.apps.browser.tabs import Tab, Tabs

if TYPE_CHECKING:
    from playwright.async_api import Page

T = TypeVar("T")

MOST_DATA_URL = 1024
START_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.01
BUSY_SECONDS = 0.3
SLACK_SECONDS = 0.5
"""Beyond its own time limit, for Playwright to say that it was too late: it says more than we know."""


class Session:
    """One browser at a time, in one folder."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._engine: Engine | None = None
        self._tabs: Tabs | None = None
        self._folder: Folder | None = None
        self._freeing: asyncio.Task[None] | None = None

    async def start(self, timeout_seconds: float) -> None:
        """Starts the browser unless one runs.  Raises RuntimeError, NotInTime."""
        if self._engine is not None and not self._engine.is_gone:
            return
        await self.end_browser()
        self._folder = self._folder or Folder()
        try:
            async with asyncio.timeout(timeout_seconds + SLACK_SECONDS):
                self._engine = await launch(self._options, self._folder, timeout_seconds)
        except TimeoutError:
            text = f"Chromium did not start within {timeout_seconds:g} s (timeout_seconds)"
            raise NotInTime(text) from None
        self._tabs = Tabs(self._engine.context, self._options.dialogs)

    async def end_browser(self) -> None:
        """The next action starts another one."""
        ending, self._engine, self._tabs = self._engine, None, None
        if ending is not None:
            await ending.end()

    async def end(self) -> None:
        """Ends the browser and removes its files."""
        await self.end_browser()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    @property
    def version(self) -> str:
        return self._engine.version if self._engine is not None else ""

    async def tabs(self) -> Tabs:
        """Starts the browser where there has been none.  Raises BrowserGone where it has ended."""
        if self._engine is not None and self._engine.is_gone:
            raise BrowserGone
        if self._tabs is None:
            await self.start(START_SECONDS)
        assert self._tabs is not None
        return self._tabs

    async def tab(self) -> Tab:
        """The current one, ready to be used."""
        tabs = await self.tabs()
        if self._freeing is not None:
            freeing, self._freeing = self._freeing, None
            await asyncio.wait([freeing])
        tab = await self.asked(tabs.current(), START_SECONDS, "open a tab")
        await tab.prepare()
        return tab

    async def do(
        self,
        what: str,
        action: Callable[[Page], Awaitable[T]],
        seconds: float,
        *,
        selector: str | None = None,
        url: str | None = None,
        is_script: bool = False,
    ) -> T:
        """Has something done by the current page, which must not have crashed.

        `url` is that of the page which is gone to, or what to call it.  A script that keeps the page busy is
        broken off when that is left, or when it was `is_script` and late.  Raises NotInTime,
        NavigationFailed, BrowserGone, PageCrashed, BrowserError.
        """
        tab = await self.tab()
        tab.check()
        if url is not None:
            await tab.free()
        try:
            return await self.asked(action(tab.page), seconds, what, selector, url, tab)
        except BaseException as error:
            if not isinstance(error, BrowserError) and (url is not None or is_script):
                # In the background: an interrupt leaves little time, and who is late was late enough.
                freeing = tab.free() if is_script else tab.stop_loading()
                self._freeing = asyncio.get_running_loop().create_task(freeing)
            raise

    async def asked(
        self,
        awaitable: Awaitable[T],
        seconds: float,
        what: str,
        selector: str | None = None,
        url: str | None = None,
        tab: Tab | None = None,
    ) -> T:
        """What Playwright answers within `seconds`, its errors as ours."""
        try:
            async with asyncio.timeout(seconds + SLACK_SECONDS):
                return await awaitable
        except (TimeoutError, async_api.TimeoutError) as error:
            is_busy = tab is not None and await tab.title(BUSY_SECONDS) is None
            raise too_late(what, selector, seconds, error, is_busy=is_busy) from None
        except async_api.Error as error:
            raise await self._explained(error, what, url, tab) from None

    async def _explained(self, error: Exception, what: str, url: str | None, tab: Tab | None) -> Exception:
        if "has been closed" in str(error) or "crashed" in str(error):
            await self._await_news(tab)
        if self._engine is None or self._engine.is_gone:
            return BrowserGone()
        if tab is not None and tab.has_crashed:
            return PageCrashed(tab.number)
        if url is not None:
            return navigation_failed(url, error)
        return BrowserError(f"{what}: {first_line(error)}")

    async def _await_news(self, tab: Tab | None) -> None:
        """What has ended is said after the error; where nothing is said, it was the driver."""
        browser = self._engine
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SLACK_SECONDS):
                while browser is not None and not browser.is_gone:
                    if tab is not None and (tab.has_crashed or tab.page.is_closed()):
                        return
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
        if browser is not None:
            browser.is_gone = True

    async def answer(self, **values: Any) -> dict[str, Any]:
        """`values`, with where the current tab is and what happened besides."""
        tabs = await self.tabs()
        tab = await self.asked(tabs.current(), START_SECONDS, "open a tab")
        where = {"url": _shown(tab.page.url), "title": await tab.title(), "tab": tab.number}
        found: dict[str, Any] = plain({**values, **where, **tabs.told()})
        return found


def _shown(url: str) -> str:
    """An address that holds the page itself is not told with each answer."""
    return url[:MOST_DATA_URL] if url.startswith("data:") else url
