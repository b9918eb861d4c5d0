"""A daemon, a gateway with keys before it, and a real Chromium, for each file of tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

import warmd
from tests.http.gatewayprocess import GatewayProcess
from tests.page.chromium import PATIENCE_MS, launch
from warmd.http.keys import Keys
from warmd.owndaemon import LocalClient

APPS = Path(__file__).parent / "apps"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launch() as found:
        yield found


@pytest.fixture(scope="module")
def daemon() -> Iterator[LocalClient]:
    with warmd.testing.daemon(app_folders=str(APPS), session_timeout=60) as client:
        client.status()
        yield client


@pytest.fixture(scope="module")
def gateway(daemon: LocalClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(daemon.address, tmp_path_factory.mktemp("gateway"), open=False) as found:
        yield found


@pytest.fixture(scope="module")
def key(gateway: GatewayProcess) -> str:
    return Keys(gateway.folder / "keys").add("laptop", ["admin"])


@pytest.fixture
def open_page(browser: Browser, gateway: GatewayProcess, key: str) -> Iterator[Callable[..., Page]]:
    """Opens the page at a view, `#/...`, with a key as `warmd open` does.  What a page complains of in
    its console, a break of its own policy above all, fails the test; and so does a request elsewhere."""
    with contextlib.ExitStack() as stack:
        complaints: list[str] = []

        def open_at(view: str = "#/", *, key: str | None = key, **context: Any) -> Page:
            url = gateway.url
            page = stack.enter_context(browser.new_context(**context)).new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("console", lambda message: complaints.extend(_complaint(message)))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda asked: complaints.extend(_elsewhere(asked.url, url)))
            page.goto(f"{url}/#key={key}" if key else f"{url}/")
            if view != "#/":
                page.goto(f"{url}/{view}")
            return page

        yield open_at
        assert complaints == []


def _complaint(message: ConsoleMessage) -> list[str]:
    # Chromium itself logs each answer that is no success, and each connection that breaks.
    is_its_own = message.text.startswith("Failed to load resource")
    return [message.text] if message.type in ("error", "warning") and not is_its_own else []


def _elsewhere(asked: str, url: str) -> list[str]:
    return [] if asked.startswith((f"{url}/", "blob:", "data:")) else [f"a request to {asked}"]
