"""Each view of the dashboard as it looks in use, for tests and for the pictures in docs.

    python -m tests.page.views docs/page

The daemon, its sessions and what they do are real; they are set up once, and each view is opened with them.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

import warmd
from tests.http.gatewayprocess import GatewayProcess
from tests.page.chromium import PATIENCE_MS, launch
from warmd.http.keys import Keys
from warmd.owndaemon import LocalClient

APPS = Path(__file__).parent / "apps"
SCREENS = {
    "light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
}
COLOURS = 128
BUSY_SECONDS = 45.0


@dataclass
class Stage:
    """A gateway with sessions behind it, and one without; `session` has a log and a running call."""

    daemon: LocalClient
    gateway: GatewayProcess
    key: str
    session: str
    empty: GatewayProcess


@contextlib.contextmanager
def staged(busy_seconds: float = 0.0) -> Iterator[Stage]:
    """`busy_seconds`: how long the sessions have worked before they are looked at."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        daemon = stack.enter_context(warmd.testing.daemon(app_folders=str(APPS), session_timeout=60))
        other = stack.enter_context(warmd.testing.daemon())
        gateway = stack.enter_context(GatewayProcess(daemon.address, folder / "full", open=False))
        empty = stack.enter_context(GatewayProcess(other.address, folder / "empty"))
        session = _set_up(daemon, folder, busy_seconds)
        stack.callback(daemon.sessions.end, all=True)
        key = Keys(gateway.folder / "keys").add("laptop", ["admin"])
        yield Stage(daemon, gateway, key, session, empty)


def _set_up(daemon: LocalClient, folder: Path, busy_seconds: float) -> str:
    """Sessions in several states, with calls behind them; the id of one that runs and has a log."""
    named = (("left", 600), ("right", 240), (None, 900))
    counters = [daemon.session("counter", session_timeout=timeout, name=name) for name, timeout in named]
    painter = daemon.session("painter", session_timeout=900, name="studio")
    _work([*counters, painter], busy_seconds)
    with contextlib.suppress(warmd.AppError):
        counters[0].call("boom")
    with contextlib.suppress(warmd.WorkerDied):
        daemon.session("painter").call("crash")
    daemon.session("counter", name="finished").end()
    for number in range(30):
        painter.call("say", {"text": f"mixing colour {number:2d} of 30"})
    painter.submit("slowly", {"gate": str(folder / "never")})
    painter.submit("paint")
    return painter.id


def _work(sessions: list[warmd.Session], seconds: float) -> None:
    """Calls of all kinds, long ones at the last session."""
    *counters, painter = sessions
    end, chance = time.monotonic() + seconds, random.Random(7)
    while True:
        counter = chance.choice(counters)
        for number in range(4):
            counter.call("incr", {"by": number})
        list(counter.stream("count_up", {"n": 20}))
        painter.call("paint")
        if time.monotonic() >= end:
            return
        painter.call("stroke", {"seconds": chance.uniform(0.1, 1.2)})
        time.sleep(chance.uniform(0.0, 0.6))


# What is to be seen in each, for as long as it lasts


@contextlib.contextmanager
def _sessions(page: Page, stage: Stage) -> Iterator[None]:
    page.goto(f"{stage.gateway.url}/#key={stage.key}")
    table = page.get_by_role("table", name="Sessions")
    expect(table.get_by_role("row").filter(has_text="studio")).to_be_visible()
    expect(page.get_by_text(re.compile(r"sooner")).first).to_be_visible()
    yield


@contextlib.contextmanager
def _session(page: Page, stage: Stage) -> Iterator[None]:
    with _sessions(page, stage):
        page.goto(f"{stage.gateway.url}/#/session/{stage.session}")
        expect(page.get_by_role("log")).to_contain_text("mixing colour 29")
        expect(page.get_by_role("progressbar")).to_be_visible()
        yield


@contextlib.contextmanager
def _ending(page: Page, stage: Stage) -> Iterator[None]:
    with _session(page, stage):
        page.get_by_role("button", name="End", exact=True).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        yield


@contextlib.contextmanager
def _ended(page: Page, stage: Stage) -> Iterator[None]:
    with _sessions(page, stage):
        page.get_by_text("Recently ended").click()
        died = page.get_by_role("listitem").filter(has_text="died")
        expect(died).to_be_visible()
        died.scroll_into_view_if_needed()
        yield


@contextlib.contextmanager
def _try(page: Page, stage: Stage) -> Iterator[None]:
    page.goto(f"{stage.gateway.url}/#key={stage.key}")
    page.goto(f"{stage.gateway.url}/#/try/painter?function=paint&session={stage.session}")
    page.get_by_label("Shared pool").check()
    page.get_by_label("width").fill("240")
    page.get_by_label("height").fill("120")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("article").first).to_contain_text("done")
    page.wait_for_function("[...document.images].some(one => one.complete && one.naturalWidth === 240)")
    yield


@contextlib.contextmanager
def _sign_in(page: Page, stage: Stage) -> Iterator[None]:
    page.goto(f"{stage.gateway.url}/#key=wk_nobody")
    expect(page.get_by_role("alert")).to_be_visible()
    yield


@contextlib.contextmanager
def _empty(page: Page, stage: Stage) -> Iterator[None]:
    page.goto(stage.empty.url)
    expect(page.get_by_role("heading", name="No session is warm yet")).to_be_visible()
    yield


@contextlib.contextmanager
def _daemon_lost(page: Page, _stage: Stage) -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory() as folder,
        warmd.testing.daemon() as daemon,
        GatewayProcess(daemon.address, Path(folder)) as gateway,
    ):
        daemon.session("counter", session_timeout=600, name="kept")
        page.goto(gateway.url)
        expect(page.get_by_role("table", name="Sessions").locator("tbody tr")).to_have_count(1)
        daemon.stop()
        expect(page.get_by_role("alert")).to_be_visible()
        yield


View = Callable[[Page, Stage], contextlib.AbstractContextManager[None]]
VIEWS: dict[str, View] = {
    "sessions": _sessions,
    "session": _session,
    "ending": _ending,
    "ended": _ended,
    "try": _try,
    "sign-in": _sign_in,
    "empty": _empty,
    "daemon-lost": _daemon_lost,
}


@contextlib.contextmanager
def shown(browser: Browser, stage: Stage, view: str, screen: str) -> Iterator[Page]:
    """A page that shows a view on a screen."""
    with browser.new_context(**SCREENS[screen], bypass_csp=True, reduced_motion="reduce") as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        with VIEWS[view](page, stage):
            yield page


def take(folder: Path) -> None:
    """All pictures, in few colours, which the page has."""
    with launch() as browser, staged(BUSY_SECONDS) as stage:
        for view in VIEWS:
            for screen in SCREENS:
                path = folder / f"{view}-{screen}.png"
                with shown(browser, stage, view, screen) as page:
                    page.screenshot(path=path)
                Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
                print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    take(parser.parse_args().folder)
