"""A real Chromium for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

from warmd.apps.browser.engine import ARGUMENTS, PROGRAMS

PATIENCE_MS = 20_000
PROGRAM = next(filter(None, map(shutil.which, PROGRAMS)), None)

expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def launch() -> Iterator[Browser]:
    assert PROGRAM is not None, "there is no Chromium: `make .venv/chromium` installs Debian's"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=[*ARGUMENTS, "--no-sandbox"])
        yield browser
        browser.close()
