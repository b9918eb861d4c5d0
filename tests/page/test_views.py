"""Each view on each screen: it is there, nothing scrolls sideways, and everybody can use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page.views import SCREENS, VIEWS, Stage, shown, staged

AXE = Path(__file__).parents[2] / "build" / "page" / "node_modules" / "axe-core" / "axe.min.js"
DOCS = Path(__file__).parents[2] / "docs" / "page"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as found:
        yield found


@pytest.mark.parametrize("screen", ["light", "phone"])
@pytest.mark.parametrize("view", VIEWS)
def test_it_is_there_and_fits_and_everybody_can_use_it(
    browser: Browser, stage: Stage, view: str, screen: str
) -> None:
    with shown(browser, stage, view, screen) as page:
        assert fits(page)
        if not AXE.exists():
            pytest.skip("whether all can use it needs axe-core: `make .venv/page`, with npm")
        page.add_script_tag(content=AXE.read_text())
        assert hurdles(page) == []
        if screen == "light":
            light = page.evaluate("getComputedStyle(document.body).backgroundColor")
            page.emulate_media(color_scheme="dark")
            expect(page.locator("body")).not_to_have_css("background-color", light)
            assert hurdles(page) == [], "in the dark"
            assert fits(page)


def fits(page: Page) -> bool:
    wide, there = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return bool(wide <= there)


def hurdles(page: Page) -> list[tuple[str, str]]:
    """As far as axe-core can tell: contrast, names, roles, order."""
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]


def test_the_pictures_in_docs_are_of_these_views() -> None:
    assert {path.name for path in DOCS.glob("*.png")} == {
        f"{view}-{screen}.png" for view in VIEWS for screen in SCREENS
    }
