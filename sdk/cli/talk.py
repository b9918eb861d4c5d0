"""What the command line prints: data on stdout, talk on stderr, JSON with a schema version."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

import click

from warmd.cli import JSON_FLAG
from warmd.cli.values import to_json

SCHEMA_VERSION = 1
"""Raised when a key of a `--json` object changes its meaning or goes; new keys do not count."""

SHORT_ID = 8
"""How many characters of a session's id people are shown."""

MAX_WIDTH = 100
PROGRESS_SECONDS = 0.1
START_OF_LINE = "\r\033[K"
"""Back, and away with what stood there."""

json_option = click.option(
    JSON_FLAG, "as_json", is_flag=True, help="One JSON object, for programs; errors too."
)


def data(text: str) -> None:
    """One line, or several, of what was asked for."""
    click.echo(text)


def say(text: str) -> None:
    """A remark for people."""
    click.echo(text, err=True)


def json_object(**fields: Any) -> None:
    """One object on one line: the whole answer, or one line of a stream."""
    data(to_json({"schema_version": SCHEMA_VERSION, **fields}))


def json_result(value: Any) -> None:
    """A value on its own; spread over lines for people, on one line in a pipe."""
    data(to_json(value, indent=2 if sys.stdout.isatty() else None))


def colour_wanted(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to colour what goes to `stream`: only on terminals, and never with NO_COLOR."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def canvas() -> tuple[int, bool]:
    """How many columns a picture on stdout may have, and whether it must be ASCII."""
    width = min(MAX_WIDTH, shutil.get_terminal_size().columns)
    return width, not (sys.stdout.encoding or "").lower().startswith("utf")


def on_terminal() -> bool:
    """Whether stderr shows lines that change."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class Progress:
    """One line on stderr that says how far something is; only on terminals, and gone with the block."""

    def __init__(self) -> None:
        self._shown = on_terminal()
        self._next = 0.0

    def __call__(self, what: str, number: int, most: int) -> None:
        """Say so, unless the line is younger than `PROGRESS_SECONDS`."""
        if self._shown and (now := time.monotonic()) >= self._next:
            self._next = now + PROGRESS_SECONDS
            click.echo(f"{START_OF_LINE}{what} {number} of {most}", err=True, nl=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._next:
            click.echo(START_OF_LINE, err=True, nl=False)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, without trailing blanks.

    >>> print(table(["ID", "APP"], [["3f2a91bc", "counter"]]))
    ID        APP
    3f2a91bc  counter
    """
    lines = [heads, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(heads))]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    return "\n".join(line.rstrip() for line in padded)


def short(session: str) -> str:
    """The part of a session's id that people are shown.

    >>> short("sess_3f2a91bc000000000000000000000000")
    '3f2a91bc'
    """
    return session.partition("_")[2][:SHORT_ID] or session[:SHORT_ID]


def ending(text: str, most: int = 32) -> str:
    """The end of a text that is too long, which is what tells two paths apart.

    >>> ending("/home/me/apps/ocr", 10)
    '…/apps/ocr'
    """
    return text if len(text) <= most else "…" + text[1 - most :]


def span(seconds: float | None) -> str:
    """A length of time in the two units that matter; `-` for None.

    >>> [span(s) for s in (0.0004, 0.25, 4.21, 75, 7260, 100_000)]
    ['0.4ms', '250ms', '4.2s', '1m15s', '2h1m', '1d3h']
    """
    if seconds is None:
        return "-"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for size, unit, small, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}{int(seconds % size // small)}{small_unit}"
    return f"{seconds:.0f}s"


def size(count: float | None) -> str:
    """A number of bytes for people; `-` for None.

    >>> size(52_428_800)
    '50.0M'
    """
    if count is None:
        return "-"
    for unit in ("B", "K", "M", "G"):
        if count < 1024:
            return f"{count:.0f}{unit}" if unit == "B" else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.1f}T"


def timing_line(session: str | None, timing: Any) -> str:
    """One remark about a call: whose it was and where its time went."""
    where = f"session {session}" if session else "shared pool"
    if timing is None:
        return where
    parts = [f"{name} {span(timing[name])}" for name in ("queue", "spawn", "imports", "setup", "run")]
    if not timing["cold"]:
        parts = [part for part in parts if not part.startswith(("spawn", "imports", "setup"))]
    kind = "cold" if timing["cold"] else "warm"
    return f"{where} · {kind} · {' · '.join(parts)} · total {span(timing['total'])}"


def date(seconds: float) -> str:
    """A Unix time for people, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
