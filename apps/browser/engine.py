"""Chromium and its driver, Playwright: found, started in the session's folder, and ended for certain.

Playwright ends the browser when all is well.  A browser that hangs or a driver that was killed leave
processes behind, and Chromium's are in a process session of their own; so whatever carries the
folder's name as its TMPDIR is killed at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from warmd.app import context as call
from warmd.apps.browser.driver import async_api
from warmd.apps.browser.folder import Folder
from warmd.apps.browser.options import Options

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Playwright

INSTALL_CHROMIUM = "`apt-get install chromium`, or `python -m playwright install --with-deps chromium`"
PATH_VARIABLE = "CHROME_PATH"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CLOSE_SECONDS = 4.0
STOP_SECONDS = 2.0
DEFAULT_VIEWPORT = {"width": 1280, "height": 720}
_NO_SANDBOX = re.compile(r"no usable sandbox|setuid sandbox|move to new namespace|zygote_host_impl", re.I)
_SAID = re.compile(r"\[err\] (.*)")


class Engine:
    """One running Chromium."""

    def __init__(self, playwright: Playwright, context: BrowserContext, folder: Folder) -> None:
        self.context = context
        self.is_gone = False
        self._playwright = playwright
        self._folder = folder
        context.on("close", self._on_close)

    @property
    def version(self) -> str:
        browser = self.context.browser
        return browser.version if browser is not None else "unknown"

    async def end(self) -> None:
        """Ends the browser and its driver, and returns when their processes were told to go."""
        self.is_gone = True
        await _until_done(self.context.close(), CLOSE_SECONDS)
        await _stop(self._playwright, self._folder)

    def _on_close(self, _: Any) -> None:
        self.is_gone = True


async def launch(options: Options, folder: Folder, timeout_seconds: float) -> Engine:
    """Starts Chromium with a new profile.  Raises RuntimeError where that fails, saying why."""
    folder.clear()
    with _temporary_folder(folder):
        try:
            playwright = await async_api.async_playwright().start()
        except BaseException:
            kill_all(folder)
            raise
    try:
        context = await _launch(playwright, options, folder, timeout_seconds)
    except BaseException:
        kill_all(folder)
        await _stop(playwright, folder)
        raise
    return Engine(playwright, context, folder)


@contextlib.contextmanager
def _temporary_folder(folder: Folder) -> Iterator[None]:
    """For the processes that are started meanwhile; the app's own process keeps what it had."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = folder.temporary
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


async def _launch(
    playwright: Playwright, options: Options, folder: Folder, timeout_seconds: float
) -> BrowserContext:
    program = find_chromium(options, playwright.chromium.executable_path)
    choices = _sandboxes(options)
    for sandbox in choices:
        try:
            return await playwright.chromium.launch_persistent_context(
                str(folder.profile),
                executable_path=program,
                chromium_sandbox=sandbox,
                timeout=timeout_seconds * 1000,
                **_wishes(options),
            )
        except async_api.Error as error:
            if sandbox and _NO_SANDBOX.search(str(error)):
                if sandbox is not choices[-1]:
                    call.logger.warning("Chromium's sandbox is impossible here: it is started without")
                    continue
                raise RuntimeError(
                    f"Chromium's sandbox is asked for (option 'sandbox') and impossible: {_reason(error)}"
                ) from None
            raise RuntimeError(f"Chromium ({program}) did not start: {_reason(error)}") from None
    raise AssertionError("there is always a choice")


def _sandboxes(options: Options) -> list[bool]:
    """What is to be tried: Chromium itself refuses root, and knows best where else it is impossible."""
    if options.sandbox is not None:
        return [options.sandbox]
    return [False] if os.geteuid() == 0 else [True, False]


def _wishes(options: Options) -> dict[str, Any]:
    proxy = {"server": options.proxy} if isinstance(options.proxy, str) else options.proxy
    return {
        "headless": options.headless,
        "args": [*ARGUMENTS, *options.args],
        "viewport": dict(options.viewport or DEFAULT_VIEWPORT),
        "user_agent": options.user_agent,
        "locale": options.locale,
        "timezone_id": options.timezone,
        "proxy": proxy,
        "ignore_https_errors": options.ignore_https_errors,
        "accept_downloads": True,
        # A worker's signals are the worker's business.
        "handle_sigint": False,
        "handle_sigterm": False,
        "handle_sighup": False,
    }


def find_chromium(options: Options, bundled: str) -> str:
    """The program to start.  Raises RuntimeError with what to install where there is none."""
    if options.executable_path:
        return options.executable_path
    if named := os.environ.get(PATH_VARIABLE):
        if shutil.which(named) is None:
            raise RuntimeError(f"{PATH_VARIABLE} is {named!r}, and that is no program that can be run")
        return named
    for program in PROGRAMS:
        if found := shutil.which(program):
            return found
    if os.access(bundled, os.X_OK):
        return bundled
    raise RuntimeError(
        f"no Chromium was found: install it with {INSTALL_CHROMIUM}; or name one by the option "
        f"'executable_path' or the variable {PATH_VARIABLE}"
    )


def _reason(error: Exception) -> str:
    """What Chromium said last before it ended, or else Playwright."""
    said = [line for line in _SAID.findall(str(error)) if "FATAL" in line or "ERROR" in line]
    said = [line for line in said if "crashpad" not in line]
    return (said[-1] if said else str(error).splitlines()[0]).strip()[:500]


async def _stop(playwright: Playwright, folder: Folder) -> None:
    await _until_done(playwright.stop(), STOP_SECONDS)
    kill_all(folder)


async def _until_done(awaitable: Any, seconds: float) -> None:
    """What fails here, or takes too long, is ended by force afterwards."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(seconds):
            await awaitable


def kill_all(folder: Folder) -> None:
    """SIGKILL for each process that was started with this folder for its temporary files."""
    mark = b"TMPDIR=" + os.fsencode(folder.temporary)
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(int(name))
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark in file.read().split(b"\0"):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)
