"""`top`: the sessions, live, on the whole terminal; or once, for pipes and programs.

The daemon tells what has changed (`watch`), so nobody asks it for rows.  Only its own facts, which have
the GPUs in them, are asked for, and what processes use is measured here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from warmd.cli.link import host
from warmd.cli.talk import canvas, colour_wanted, data, json_object, json_option
from warmd.cli.topstate import Top
from warmd.cli.toptable import lines, objects
from warmd.http.usage import Usage, is_process_behind

if TYPE_CHECKING:
    from warmd.aio import AsyncClient
    from warmd.aiocalls import AsyncStream

REFRESH_SECONDS = 1.0
STATUS_SECONDS = 2.0
ENTER, LEAVE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"
"""The terminal's other page, without a cursor; and back."""
HOME, END_OF_LINE, END_OF_PAGE = "\033[H", "\033[K", "\033[J"
BOLD, PLAIN = "\033[1m", "\033[0m"


@click.command()
@click.option("--once", is_flag=True, help="Print it once, after a second; so it is without a terminal.")
@json_option
def top(once: bool, as_json: bool) -> None:
    """Watch the sessions, live, busiest first: state, processor, memory, GPU memory, queue, calls.

    It changes each second; q leaves.
    """
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    address = host()
    if on_terminal and not once and not as_json:
        asyncio.run(_live(address))
        return
    found = asyncio.run(_snapshot(address))
    now = time.monotonic()
    if as_json:
        json_object(**objects(found, now))
    else:
        data("\n".join(lines(found, now, time.time(), canvas()[1])))


async def _snapshot(address: str | None) -> Top:
    async with _following(address) as feed:
        await feed.refresh()
        await asyncio.sleep(REFRESH_SECONDS)
        await feed.refresh()
        return feed.top


async def _live(address: str | None) -> None:
    async with _following(address) as feed:
        with Screen() as screen:
            await _show(feed, screen)


async def _show(feed: Feed, screen: Screen) -> None:
    """Until somebody leaves.  Raises DaemonLost."""
    refreshing = asyncio.create_task(_refresh(feed, screen.wake))
    working = (feed.reading, refreshing)
    for task in working:
        task.add_done_callback(lambda _: screen.wake.set())
    try:
        while not screen.is_left:
            for task in working:
                if task.done():
                    task.result()
            screen.draw(lines(feed.top, time.monotonic(), time.time(), canvas()[1]))
            await screen.wake.wait()
            screen.wake.clear()
    finally:
        refreshing.cancel()
        await asyncio.gather(refreshing, return_exceptions=True)


async def _refresh(feed: Feed, wake: asyncio.Event) -> None:
    while True:
        await feed.refresh()
        wake.set()
        await asyncio.sleep(REFRESH_SECONDS)


class Feed:
    """A `Top` that is kept up to date for as long as the daemon lives."""

    def __init__(self, client: AsyncClient, top: Top, news: AsyncStream, usage: Usage | None) -> None:
        self.top = top
        self._client = client
        self._usage = usage
        self._asked = time.monotonic()
        self.reading = asyncio.create_task(self._read(news))

    async def refresh(self) -> None:
        """Measure, and ask for what is not told.  Raises DaemonLost."""
        now = time.monotonic()
        if now - self._asked >= STATUS_SECONDS:
            self._asked, self.top.status = now, await self._client.status()
        if self._usage is not None:
            self.top.measured(await asyncio.to_thread(self._usage.measure, self.top.pids()))
        self.top.sample(now)

    async def _read(self, news: AsyncStream) -> None:
        async for told in news:
            self.top.take(told, time.monotonic())


@contextlib.asynccontextmanager
async def _following(address: str | None) -> AsyncIterator[Feed]:
    from warmd.aio import AsyncClient

    async with AsyncClient(address, autostart=False) as client:
        found = Top(await client.status())
        is_here = await asyncio.to_thread(is_process_behind, client.address, found.status["pid"])
        async with client.watch() as news:
            found.take(await anext(news), time.monotonic())
            feed = Feed(client, found, news, Usage() if is_here else None)
            try:
                yield feed
            finally:
                feed.reading.cancel()
                await asyncio.gather(feed.reading, return_exceptions=True)


class Screen:
    """The terminal, in the hands of this program; within a block, and a running loop."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.is_left = False
        self._input, self._output = sys.stdin.fileno(), sys.stdout
        self._is_coloured = colour_wanted(sys.stdout)

    def __enter__(self) -> Screen:
        self._before = termios.tcgetattr(self._input)
        self._loop = asyncio.get_running_loop()
        tty.setcbreak(self._input)
        self._write(ENTER)
        self._loop.add_reader(self._input, self._key)
        self._loop.add_signal_handler(signal.SIGWINCH, self.wake.set)
        self._loop.add_signal_handler(signal.SIGTERM, self._leave)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._input)
        for number in (signal.SIGWINCH, signal.SIGTERM):
            self._loop.remove_signal_handler(number)
        self._write(LEAVE)
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def draw(self, shown: Sequence[str]) -> None:
        """As much of the lines as the terminal has room for."""
        columns, rows = os.get_terminal_size(self._output.fileno())
        body = "\n".join(line + END_OF_LINE for line in self._fitted(shown, columns, rows))
        self._write(HOME + body + END_OF_PAGE)

    def _fitted(self, shown: Sequence[str], columns: int, rows: int) -> Iterator[str]:
        table_begins = shown.index("") + 1
        more = len(shown) - rows
        kept = shown if more <= 0 else [*shown[: rows - 1], f"... {more + 1} more"]
        for number, line in enumerate(kept):
            bold = self._is_coloured and number == table_begins
            yield f"{BOLD}{line[:columns]}{PLAIN}" if bold else line[:columns]

    def _key(self) -> None:
        try:
            keys = os.read(self._input, 1024)
        except OSError:
            keys = b""
        if not keys or b"q" in keys.lower():
            self._leave()

    def _leave(self) -> None:
        self.is_left = True
        self.wake.set()

    def _write(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()
