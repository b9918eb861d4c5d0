"""Playwright, which drives Chromium: imported with this app, and so once for all its sessions.

They are forks of a process that has imported it; that starts no thread and opens nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

INSTALL = "pip install 'warmd[browser]'"

async_api: Any
_missing: ImportError | None = None
try:
    async_api = importlib.import_module("playwright.async_api")
except ImportError as error:
    async_api, _missing = None, error


def check_installed() -> None:
    """Raises RuntimeError where Playwright cannot be imported."""
    if _missing is not None:
        raise RuntimeError(f"the browser app needs the package playwright: {INSTALL}") from _missing
