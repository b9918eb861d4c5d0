"""The browser's actions: where to go, the tabs, pictures, cookies and downloads."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from warmd.apps.browser.checks import checked_seconds, checked_text
from warmd.apps.browser.driver import async_api, check_installed
from warmd.apps.browser.elements import ELEMENT_SECONDS, Elements
from warmd.apps.browser.options import Options
from warmd.apps.browser.session import START_SECONDS, Session
from warmd.apps.options import one_of

GOTO_SECONDS = 30.0
TELLING_SECONDS = 2.0
ARRIVALS = ("load", "domcontentloaded", "networkidle", "commit")
FORMATS = ("png", "jpeg")
PAPERS = ("A3", "A4", "A5", "Letter", "Legal", "Tabloid")
_SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*://|about:|data:|blob:|view-source:)", re.IGNORECASE)


class Browser(Elements):
    """A Chromium that stays open: `run({"action": "click", "selector": "#ok"})`, or the functions.

    `setup` takes the options of `Options`, as a dict; the browser starts with the first action.  Each
    action answers with a dict: its results, and the `url`, `title` and number (`tab`) of the current
    page; besides, what happened by itself since the last answer: `dialogs`, `downloads`, `opened_tabs`.
    """

    async def setup(self, config: Mapping[str, Any] | None = None) -> None:
        options = Options.of(config)
        check_installed()
        self._session = Session(options)
        if options.start:
            await self._session.start(START_SECONDS)

    async def unload(self) -> None:
        await self._session.end()

    async def start(
        self, *, url: str | None = None, timeout_seconds: float = START_SECONDS
    ) -> dict[str, Any]:
        """Starts the browser unless it runs, also after it has crashed; with a `url`, goes there.

        Gives the `browser`, as name and version.
        """
        seconds = checked_seconds(timeout_seconds)
        await self._session.start(seconds)
        found = {"browser": f"Chromium {self._session.version}"}
        if url is None:
            return await self._session.answer(**found)
        return {**found, **await self.goto(url=url, timeout_seconds=seconds)}

    async def goto(
        self, *, url: str, wait_until: str = "load", timeout_seconds: float = GOTO_SECONDS
    ) -> dict[str, Any]:
        """Opens an address in the current tab.  Gives its HTTP `status`, None where there is none.

        `wait_until` is load, domcontentloaded, networkidle or commit.  An address that is a download
        leaves the page as it is, and is told in `downloads`.
        """
        address = _address(url)
        arrival: Any = one_of("wait_until", wait_until, ARRIVALS)
        seconds = checked_seconds(timeout_seconds)
        tabs, tab = await self._session.tabs(), await self._session.tab()
        if tab.has_crashed:
            await self._session.asked(tabs.replace(tab), seconds, "open a tab")

        status = await self._session.do(
            f"goto {address[:200]}",
            lambda page: _go(page, address, wait_until=arrival, timeout=seconds * 1000),
            seconds,
            url=address,
        )
        return await self._session.answer(status=status)

    async def reload(self, *, timeout_seconds: float = GOTO_SECONDS) -> dict[str, Any]:
        """Loads the current page anew."""
        seconds = checked_seconds(timeout_seconds)
        await self._session.do(
            "reload", lambda page: page.reload(timeout=seconds * 1000), seconds, url="the page"
        )
        return await self._session.answer()

    async def back(self, *, timeout_seconds: float = GOTO_SECONDS) -> dict[str, Any]:
        """Goes back in the tab's history, where there is a page to go back to."""
        seconds = checked_seconds(timeout_seconds)
        await self._session.do(
            "back", lambda page: page.go_back(timeout=seconds * 1000), seconds, url="the page"
        )
        return await self._session.answer()

    async def forward(self, *, timeout_seconds: float = GOTO_SECONDS) -> dict[str, Any]:
        """Goes forward in the tab's history, where there is a page to go forward to."""
        seconds = checked_seconds(timeout_seconds)
        await self._session.do(
            "forward", lambda page: page.go_forward(timeout=seconds * 1000), seconds, url="the page"
        )
        return await self._session.answer()

    async def screenshot(
        self,
        *,
        selector: str | None = None,
        full_page: bool = False,
        format: str = "png",
        timeout_seconds: float = ELEMENT_SECONDS,
    ) -> dict[str, Any]:
        """Gives `screenshot`, the bytes of a PNG or JPEG: of the window, the whole page or one element."""
        kind: Any = one_of("format", format, FORMATS)
        if selector is not None:
            found = await self._element(
                "screenshot",
                selector,
                timeout_seconds,
                lambda element, limit: element.screenshot(type=kind, timeout=limit),
            )
        else:
            seconds = checked_seconds(timeout_seconds)
            found = await self._session.do(
                "screenshot",
                lambda page: page.screenshot(type=kind, full_page=full_page, timeout=seconds * 1000),
                seconds,
            )
        return await self._session.answer(screenshot=found)

    async def pdf(
        self,
        *,
        paper: str = "A4",
        landscape: bool = False,
        background: bool = True,
        timeout_seconds: float = GOTO_SECONDS,
    ) -> dict[str, Any]:
        """Gives `pdf`, the bytes of the page as it would be printed; `background` with its colours."""
        size = one_of("paper", paper, PAPERS)
        found = await self._session.do(
            "pdf",
            lambda page: page.pdf(format=size, landscape=landscape, print_background=background),
            checked_seconds(timeout_seconds),
        )
        return await self._session.answer(pdf=found)

    async def cookies(self, *, url: str | None = None) -> dict[str, Any]:
        """Gives `cookies`, all of them or those that would be sent to a `url`, each a dict."""
        context = (await self._session.tab()).page.context
        found = await self._session.asked(context.cookies(url or []), ELEMENT_SECONDS, "cookies")
        return await self._session.answer(cookies=found)

    async def set_cookies(self, *, cookies: list[dict[str, Any]]) -> dict[str, Any]:
        """Adds cookies, each a dict with `name`, `value` and perhaps `url`, or `domain` and `path`,
        `expires` (seconds since 1970), `httpOnly`, `secure`, `sameSite`.

        Those without `url` and `domain` are the current page's.
        """
        if not isinstance(cookies, list) or not all(isinstance(one, dict) for one in cookies):
            raise TypeError(f"cookies: expected a list of dicts, got {str(cookies)[:80]!r}")
        page = (await self._session.tab()).page
        given: Any = [one if "url" in one or "domain" in one else {**one, "url": page.url} for one in cookies]
        await self._session.asked(page.context.add_cookies(given), ELEMENT_SECONDS, "set_cookies")
        return await self._session.answer()

    async def clear_cookies(
        self, *, name: str | None = None, domain: str | None = None, path: str | None = None
    ) -> dict[str, Any]:
        """Removes all cookies, or those of a name, domain or path."""
        wanted: dict[str, Any] = {"name": name, "domain": domain, "path": path}
        which = {key: value for key, value in wanted.items() if value is not None}
        context = (await self._session.tab()).page.context
        await self._session.asked(context.clear_cookies(**which), ELEMENT_SECONDS, "clear_cookies")
        return await self._session.answer()

    async def tabs(self) -> dict[str, Any]:
        """Gives `tabs`: the `tab`, `url` and `title` of each, and whether it is the `current` one."""
        tabs, current = await self._session.tabs(), await self._session.tab()
        found = [
            {"tab": one.number, "url": one.page.url, "title": await one.title(), "current": one is current}
            for one in tabs.all()
        ]
        return await self._session.answer(tabs=found)

    async def new_tab(
        self, *, url: str | None = None, timeout_seconds: float = GOTO_SECONDS
    ) -> dict[str, Any]:
        """Opens a tab, which is the current one from now on; with a `url`, goes there."""
        seconds = checked_seconds(timeout_seconds)
        if url is not None:
            _address(url)
        tabs = await self._session.tabs()
        await self._session.asked(tabs.open(), seconds, "new_tab")
        if url is None:
            return await self._session.answer()
        return await self.goto(url=url, timeout_seconds=seconds)

    async def switch_tab(self, *, tab: int) -> dict[str, Any]:
        """Makes another tab the current one, by its number."""
        tabs = await self._session.tabs()
        await self._session.asked(tabs.switch(tab).page.bring_to_front(), ELEMENT_SECONDS, "switch_tab")
        return await self._session.answer()

    async def close(self, *, tab: int | None = None, browser: bool = False) -> dict[str, Any]:
        """Closes a tab, without a number the current one, or with `browser` the browser with all it has.

        After the last tab, and the browser, the next action begins with an empty page.
        """
        if browser:
            await self._session.end_browser()
            return {"closed": "browser"}
        tabs = await self._session.tabs()
        closing = await tabs.current() if tab is None else tabs.get(tab)
        await self._session.asked(closing.page.close(), ELEMENT_SECONDS, "close")
        return await self._session.answer(closed=closing.number)

    async def download(self, *, number: int = -1, timeout_seconds: float = GOTO_SECONDS) -> dict[str, Any]:
        """Gives a download, once it is complete: `filename`, `source` (its url) and `content`, bytes.

        `number` counts from 0, or from -1 backwards for the newest; it is waited for where there is
        none yet.
        """
        seconds = checked_seconds(timeout_seconds)
        if not isinstance(number, int):
            raise TypeError(f"number: expected an integer, got {str(number)[:40]!r}")
        tabs = await self._session.tabs()

        async def arrived() -> tuple[str, str, bytes]:
            while not -len(tabs.downloads) <= number < len(tabs.downloads):
                await asyncio.sleep(0.02)
            found = tabs.downloads[number]
            path = Path(await found.path())
            return found.suggested_filename, found.url, await asyncio.to_thread(path.read_bytes)

        filename, source, content = await self._session.asked(arrived(), seconds, "download")
        return await self._session.answer(filename=filename, source=source, content=content)


async def _go(page: Any, address: str, **options: Any) -> int | None:
    """The HTTP status."""
    try:
        response = await page.goto(address, **options)
    except async_api.Error as error:
        if "Download is starting" in str(error):
            return None
        if "net::" in str(error):
            await _until_told(page)
        raise
    return response.status if response is not None else None


async def _until_told(page: Any) -> None:
    """Until the browser's own page is there that tells of a failure: later it would get in the way of the
    next navigation."""
    with contextlib.suppress(async_api.Error):
        await page.wait_for_url("chrome-error:**", wait_until="commit", timeout=TELLING_SECONDS * 1000)


def _address(url: str) -> str:
    """Raises ValueError for what no browser could take for an address."""
    address = checked_text("url", url)
    if not _SCHEME.match(address):
        shown = address[:200]
        raise ValueError(f"url: {shown!r} has no scheme; did you mean {'https://' + shown!r}?")
    return address
