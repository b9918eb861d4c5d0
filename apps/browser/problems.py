"""What goes wrong in a browser, in words that say what to do."""

from __future__ import annotations

import re

MOST_TEXT = 500
_HINDRANCES = re.compile(
    r"element is not (?:visible|enabled|stable|editable)|outside of the viewport|intercepts pointer events"
    r"|did not find some options|element was detached"
)
_PREFIX = re.compile(r"^\w+\.\w+: ")
_NETWORK = re.compile(r"net::(ERR_\w+)")
_MEANING = {
    "ERR_NAME_NOT_RESOLVED": "there is no such host",
    "ERR_CONNECTION_REFUSED": "nobody listens there",
    "ERR_INTERNET_DISCONNECTED": "there is no network",
    "ERR_FILE_NOT_FOUND": "there is no such file",
    "ERR_UNSAFE_PORT": "browsers refuse that port",
    "ERR_ABORTED": "it was broken off, or is no page",
}


class BrowserError(RuntimeError):
    """The browser refused or failed."""


class BrowserGone(BrowserError):
    """The browser's process has ended."""

    def __init__(self) -> None:
        super().__init__(
            "the browser has ended: it crashed, or was killed, and its pages and cookies are gone; "
            "the action 'start' begins a new one"
        )


class PageCrashed(BrowserError):
    """The process of one page has ended."""

    def __init__(self, tab: int) -> None:
        super().__init__(
            f"the page of tab {tab} has crashed: 'goto' opens another in its place, 'close' closes it"
        )


class NavigationFailed(BrowserError):
    """A page could not be loaded."""


class NotInTime(TimeoutError):
    """What was waited for did not come; the browser goes on."""


def first_line(error: Exception) -> str:
    """What Playwright says, without its name for the function."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _PREFIX.sub("", lines[0])[:MOST_TEXT]


def navigation_failed(url: str, error: Exception) -> NavigationFailed:
    found = _NETWORK.search(str(error))
    if found is None:
        return NavigationFailed(f"{url[:MOST_TEXT]} cannot be loaded: {first_line(error)}")
    meaning = _MEANING.get(found[1])
    return NavigationFailed(
        f"{url[:MOST_TEXT]} cannot be loaded: {found[1]}" + (f", {meaning}" if meaning else "")
    )


def too_late(
    what: str, selector: str | None, seconds: float, error: Exception, *, is_busy: bool = False
) -> NotInTime:
    """By Playwright's log of its attempts: whether the element is missing, or what hinders it.

    `is_busy`: the page does not answer.
    """
    log = str(error)
    hindrances = [line.strip(" -") for line in log.splitlines() if _HINDRANCES.search(line)]
    if hindrances:
        text = f"{what}: {selector!r} is there, but after {seconds:g} s: {hindrances[-1][:MOST_TEXT]}"
    elif is_busy:
        text = f"{what}: not done within {seconds:g} s: the page is busy with a script of its own"
    elif selector is not None and "locator resolved to" not in log:
        text = f"{what}: no element matches {selector!r} within {seconds:g} s"
    else:
        text = f"{what}: not done within {seconds:g} s"
    return NotInTime(f"{text} (timeout_seconds)")
