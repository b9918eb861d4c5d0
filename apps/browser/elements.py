"""Actions on elements of a page, each named by a selector: the first element that matches is meant.

Selectors are Playwright's: CSS, `text=Log in`, `xpath=//button`, `role=button[name="OK"]`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from warmd.apps.actions import Actions
from warmd.apps.browser.checks import checked_seconds, checked_text
from warmd.apps.browser.session import Session
from warmd.apps.options import one_of

if TYPE_CHECKING:
    from playwright.async_api import Locator

T = TypeVar("T")

ELEMENT_SECONDS = 10.0
BUTTONS = ("left", "right", "middle")
STATES = ("visible", "hidden", "attached", "detached")
LOADS = ("load", "domcontentloaded", "networkidle")
MOST_CLICKS = 10
MOST_DELAY_SECONDS = 1.0
"""Between two keys."""


class Elements(Actions):
    """What is done with the elements of the current page, and read from them."""

    _session: Session

    async def click(
        self,
        *,
        selector: str,
        button: str = "left",
        clicks: int = 1,
        timeout_seconds: float = ELEMENT_SECONDS,
    ) -> dict[str, Any]:
        """Clicks an element once it is visible, still, enabled and not covered.

        `button` is left, right or middle; `clicks` 2 is a double click.
        """
        kind: Any = one_of("button", button, BUTTONS)
        if not (isinstance(clicks, int) and 1 <= clicks <= MOST_CLICKS):
            raise ValueError(f"clicks is {str(clicks)[:40]}, allowed are 1 to {MOST_CLICKS}")
        await self._element(
            "click",
            selector,
            timeout_seconds,
            lambda element, limit: element.click(button=kind, click_count=clicks, timeout=limit),
        )
        return await self._session.answer()

    async def type(
        self,
        *,
        selector: str,
        text: str,
        delay_seconds: float = 0.0,
        timeout_seconds: float = ELEMENT_SECONDS,
    ) -> dict[str, Any]:
        """Types text into an element, key by key, after what is in it; `fill` is quicker and replaces."""
        checked_text("text", text, empty=True)
        if not 0 <= delay_seconds <= MOST_DELAY_SECONDS:
            raise ValueError(f"delay_seconds is {delay_seconds:g}, allowed are 0 to {MOST_DELAY_SECONDS:g}")
        await self._element(
            "type",
            selector,
            timeout_seconds,
            lambda element, limit: element.press_sequentially(
                text, delay=delay_seconds * 1000, timeout=limit
            ),
        )
        return await self._session.answer()

    async def fill(
        self, *, selector: str, text: str, timeout_seconds: float = ELEMENT_SECONDS
    ) -> dict[str, Any]:
        """Puts text into a field in place of what is in it; an empty text clears it."""
        checked_text("text", text, empty=True)
        await self._element(
            "fill", selector, timeout_seconds, lambda element, limit: element.fill(text, timeout=limit)
        )
        return await self._session.answer()

    async def press(
        self, *, key: str, selector: str | None = None, timeout_seconds: float = ELEMENT_SECONDS
    ) -> dict[str, Any]:
        """Presses a key or a combination, as Enter, ArrowDown or Control+A: in an element, or where the
        focus is."""
        checked_text("key", key)
        if selector is None:
            limit = checked_seconds(timeout_seconds)
            await self._session.do("press", lambda page: page.keyboard.press(key), limit)
        else:
            await self._element(
                "press", selector, timeout_seconds, lambda element, limit: element.press(key, timeout=limit)
            )
        return await self._session.answer()

    async def select(
        self, *, selector: str, values: str | list[str], timeout_seconds: float = ELEMENT_SECONDS
    ) -> dict[str, Any]:
        """Selects options of a `<select>` by their values or labels.  Gives `selected`, their values."""
        wanted = [values] if isinstance(values, str) else values
        if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
            raise TypeError(f"values: expected a text or a list of texts, got {str(values)[:80]!r}")
        selected = await self._element(
            "select",
            selector,
            timeout_seconds,
            lambda element, limit: element.select_option(wanted, timeout=limit),
        )
        return await self._session.answer(selected=selected)

    async def wait_for(
        self,
        *,
        selector: str | None = None,
        state: str = "visible",
        url: str | None = None,
        load: str | None = None,
        timeout_seconds: float = ELEMENT_SECONDS,
    ) -> dict[str, Any]:
        """Waits for all that is given: an address, the page to be loaded, an element's state.

        `state` is visible, hidden, attached or detached; `url` may hold wildcards, as `**/done`;
        `load` is load, domcontentloaded or networkidle.  Each of them has `timeout_seconds`.
        """
        wished: Any = one_of("state", state, STATES)
        seconds = checked_seconds(timeout_seconds)
        limit: dict[str, Any] = {"timeout": seconds * 1000}
        if selector is None and url is None and load is None:
            raise ValueError("wait_for: give a selector, a url or a load to wait for")
        if url is not None:
            address = checked_text("url", url)
            await self._session.do(
                f"wait for the url {address[:200]}",
                lambda page: page.wait_for_url(address, wait_until="commit", **limit),
                seconds,
            )
        if load is not None:
            what: Any = one_of("load", load, LOADS)
            await self._session.do(
                f"wait for {what}", lambda page: page.wait_for_load_state(what, **limit), seconds
            )
        if selector is not None:
            await self._element(
                f"wait until {state}",
                selector,
                seconds,
                lambda element, _: element.wait_for(state=wished, **limit),
            )
        return await self._session.answer()

    async def text(
        self, *, selector: str = "body", timeout_seconds: float = ELEMENT_SECONDS
    ) -> dict[str, Any]:
        """Gives `text`, as a person sees it: of the page, or of one element."""
        found = await self._element(
            "text", selector, timeout_seconds, lambda element, limit: element.inner_text(timeout=limit)
        )
        return await self._session.answer(text=found)

    async def html(
        self, *, selector: str | None = None, timeout_seconds: float = ELEMENT_SECONDS
    ) -> dict[str, Any]:
        """Gives `html`: of the page as it is now, or what is inside of one element."""
        if selector is None:
            limit = checked_seconds(timeout_seconds)
            found = await self._session.do("html", lambda page: page.content(), limit)
        else:
            found = await self._element(
                "html", selector, timeout_seconds, lambda element, limit: element.inner_html(timeout=limit)
            )
        return await self._session.answer(html=found)

    async def evaluate(
        self,
        *,
        expression: str,
        argument: Any = None,
        selector: str | None = None,
        timeout_seconds: float = ELEMENT_SECONDS,
    ) -> dict[str, Any]:
        """Runs JavaScript in the page and gives its `result`; a promise is awaited.

        It is an expression, or a function of the `argument`; with a `selector`, of the element and the
        argument.  A script that runs for longer than `timeout_seconds` is broken off.
        """
        checked_text("expression", expression)
        if selector is None:
            found = await self._session.do(
                "evaluate",
                lambda page: page.evaluate(expression, argument),
                checked_seconds(timeout_seconds),
                is_script=True,
            )
        else:
            found = await self._element(
                "evaluate",
                selector,
                timeout_seconds,
                lambda element, limit: element.evaluate(expression, argument, timeout=limit),
                is_script=True,
            )
        return await self._session.answer(result=found)

    async def _element(
        self,
        what: str,
        selector: str,
        timeout_seconds: float,
        action: Callable[[Locator, float], Awaitable[T]],
        is_script: bool = False,
    ) -> T:
        """Has something done with the first element that matches; `action` is given it and milliseconds."""
        chosen, seconds = checked_text("selector", selector), checked_seconds(timeout_seconds)
        return await self._session.do(
            what,
            lambda page: action(page.locator(chosen).first, seconds * 1000),
            seconds,
            selector=chosen,
            is_script=is_script,
        )
