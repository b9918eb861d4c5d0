"""The example's React page in a real Chromium: its buttons drive the browser app, without a key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from tests.faults.relay import Relay
from tests.faults.watch import until
from tests.page.chromium import PATIENCE_MS, launch
from tests.typescript.express import Express
from warmd.owndaemon import LocalClient

SESSION_ID = re.compile(r"sess_[0-9a-f]{32}")
PHONE: ViewportSize = {"width": 320, "height": 640}
GROUNDS: dict[Literal["light", "dark"], str] = {"light": "rgb(246, 247, 249)", "dark": "rgb(20, 23, 27)"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launch() as found:
        yield found


@pytest.fixture
def page(chromium: Browser, express: Express, daemon: LocalClient) -> Iterator[Page]:
    with chromium.new_context() as context:
        found = context.new_page()
        found.set_default_timeout(PATIENCE_MS)
        found.goto(express.url)
        yield found
    daemon.sessions.end(all=True)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def start(page: Page, address: str) -> str:
    """The session's id, once the browser has started."""
    page.get_by_label("Address").fill(address)
    press(page, "Start Browser")
    expect(page.get_by_role("status")).to_have_text(SESSION_ID)
    expect(page.get_by_role("button", name="Screenshot")).to_be_enabled()
    return page.get_by_role("status").inner_text()


def test_from_start_to_end_without_the_key(
    page: Page, express: Express, site: str, daemon: LocalClient, key: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with Relay(int(express.url.rpartition(":")[2])) as wire:
        page.goto(f"http://127.0.0.1:{wire.port}")
        expect(page.get_by_role("status")).to_have_text("None")
        for name in ("Screenshot", "End Session"):
            expect(page.get_by_role("button", name=name)).to_be_disabled()

        id = start(page, site)
        assert [info["id"] for info in daemon.sessions.list()] == [id]
        press(page, "Screenshot")
        picture = page.get_by_role("img")
        expect(picture).to_be_visible()
        expect(page.get_by_role("figure")).to_contain_text(f"Home {site}/")
        picture.evaluate("image => image.decode()")
        assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [1280, 720]

        press(page, "End Session")
        expect(page.get_by_role("status")).to_have_text("None")
        expect(picture).to_have_count(0)
        assert daemon.sessions.get(id)["state"] == "ended"
        expect(page.get_by_role("alert")).to_have_count(0)
        page.goto("about:blank")

    assert id.encode() in wire.seen and b"PNG" in wire.seen, "all that came to the browser was looked at"
    assert key.encode() not in wire.seen
    assert all(url.startswith((f"http://127.0.0.1:{wire.port}/", "about:", "data:")) for url in asked)


def test_a_session_that_has_expired_is_told_and_another_started(
    page: Page, site: str, daemon: LocalClient
) -> None:
    def in_a_second(route: Route) -> None:
        body = route.request.post_data or ""
        route.continue_(post_data=body.replace('"session_timeout":300', '"session_timeout":1'))

    page.route("**/api/inference/proxy", in_a_second)
    id = start(page, site)
    until(lambda: daemon.sessions.get(id)["state"] == "expired")
    press(page, "Screenshot")
    expect(page.get_by_role("alert")).to_have_text("The session has expired. Start the browser again.")
    expect(page.get_by_role("status")).to_have_text("None")
    expect(page.get_by_role("button", name="Screenshot")).to_be_disabled()
    page.unroute("**/api/inference/proxy")
    assert start(page, site) != id
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_error_is_shown_and_the_session_goes_on(page: Page) -> None:
    page.get_by_label("Address").fill("http://127.0.0.1:1/session")
    press(page, "Start Browser")
    expect(page.get_by_role("alert")).to_contain_text("cannot be loaded")
    expect(page.get_by_role("status")).to_have_text(SESSION_ID)
    press(page, "Screenshot")
    expect(page.get_by_role("img")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_on_a_phone_in_light_and_dark(page: Page, site: str) -> None:
    page.set_viewport_size(PHONE)
    start(page, site)
    press(page, "Screenshot")
    expect(page.get_by_role("img")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for scheme, ground in GROUNDS.items():
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == ground
