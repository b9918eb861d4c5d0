"""What is heard of a call while it runs, on stderr: how far it is, and what its app prints.

Each is read by a thread of its own, as long as the call goes on; the main thread waits for its end, so that
Ctrl-C is seen there.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from warmd.cli.talk import MAX_WIDTH, START_OF_LINE, on_terminal, short
from warmd.cli.values import to_json
from warmd.protocol.errors import WarmdError

if TYPE_CHECKING:
    from warmd.calls import Logs
    from warmd.client import Client

LAST_SECONDS = 2.0
"""For the last lines to come, when the call has ended."""
LONG_SECONDS = 1.0
"""A start that takes longer is told of."""
WITHOUT_ROOM = ("placing", "parking", "parked")
BAR_CELLS = 20


class Live:
    """What is being heard; on a terminal progress is a line that changes."""

    def __init__(self, client: Client, logs: bool, progress: bool) -> None:
        self._client = client
        self._wants_logs = logs
        self._wants_progress = progress and on_terminal()
        self._logs: Logs | None = None
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._has_progress = False
        self._line = ""

    def before(self, session: str | None) -> None:
        """The call has not begun: what its session prints from now on is the call's."""
        if self._wants_logs and session not in (None, "new"):
            self._follow(str(session), tail=0)

    def begun(self, call_id: str, opens: bool, session: Callable[[], str | None]) -> None:
        """The call is under way; `session()` waits until its session is known.  `opens`: it may wait for
        a start."""
        if self._wants_progress:
            self._start(lambda: self._show(self._client.calls.watch(call_id)))
        if self._wants_logs and self._logs is None and (id := session()) is not None:
            self._follow(id, tail=None)
        elif self._wants_progress and not self._wants_logs:
            self._start(lambda: self._show_wait(call_id, opens, session))

    def end(self) -> None:
        """The call has ended: what it has printed by now is yet to come."""
        self._ended.set()
        if self._logs is not None:
            self._logs.finish()
        for thread in self._threads:
            thread.join(LAST_SECONDS)
        self._write("")

    def _follow(self, session: str, tail: int | None) -> None:
        logs = self._logs = self._client.logs(session, tail=tail, follow=True)
        self._start(lambda: self._copy(logs))

    def _start(self, read: Callable[[], None]) -> None:
        def run() -> None:
            try:
                read()
            except WarmdError:
                return  # what is the matter is told of the call itself

        thread = threading.Thread(target=run, name="warmd-live", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _copy(self, logs: Iterator[bytes]) -> None:
        for chunk in logs:
            with self._lock:
                self._erase()
                sys.stderr.buffer.write(chunk)
                sys.stderr.buffer.flush()

    def _show(self, values: Iterator[Any]) -> None:
        for value in values:
            self._has_progress = True
            self._write(in_words(value))

    def _show_wait(self, call_id: str, opens: bool, session: Callable[[], str | None]) -> None:
        """Of a call that has to wait long for its session: for what."""
        if self._ended.wait(LONG_SECONDS):
            return
        id = session() or self._starting_worker(call_id)
        if id is not None:
            self._show_wait_for_room(id)
        if id is not None and opens and not self._ended.is_set():
            self._show_start(id)

    def _show_wait_for_room(self, id: str) -> None:
        """A line as long as its session has no GPU memory."""
        with self._client.watch() as changes:
            for change in changes:
                states = [info["state"] for info in change["sessions"] if info["id"] == id]
                if self._ended.is_set() or (states and states[-1] not in WITHOUT_ROOM):
                    break
                if states and not self._line:
                    self._write(f"waits for GPU memory: `warmd why {short(id)}` says who has it")
        self._write("")

    def _show_start(self, id: str) -> None:
        """Of a start that takes long, an environment that is made, say: the last line that it has written."""
        self._logs = self._client.logs(id, follow=True)
        for chunk in self._logs:
            if self._has_progress:
                return
            lines = chunk.decode("utf-8", "replace").split("\n")
            if line := next((line for line in reversed(lines) if line.strip()), ""):
                self._write(in_words(line))

    def _starting_worker(self, call_id: str) -> str | None:
        """The worker of the shared pool that is being started, for this call most likely."""
        if self._client.calls.get(call_id)["state"] != "queued":
            return None
        come = ("placing", "starting")
        starting = [one["id"] for one in self._client.sessions.list() if one["state"] in come]
        return next((id for id in reversed(starting) if id.startswith("pool_")), None)

    def _write(self, line: str) -> None:
        with self._lock:
            self._erase()
            self._line = line
            sys.stderr.write(line)
            sys.stderr.flush()

    def _erase(self) -> None:
        if self._line:
            sys.stderr.write(START_OF_LINE)
            sys.stderr.flush()
            self._line = ""


@contextmanager
def live(client: Client, session: str | None, logs: bool, progress: bool) -> Iterator[Live]:
    """For as long as a call is waited for."""
    if logs and session is None:
        raise click.UsageError(
            "--logs follows the log of a session, and this call would run in the shared pool: "
            "give it one with --session or --name"
        )
    heard = Live(client, logs, progress)
    heard.before(session)
    try:
        yield heard
    finally:
        heard.end()


def in_words(value: Any) -> str:
    """What an app has told of how far it is, in one line; bars of tqdm as such.

    >>> in_words({"n": 3, "total": 12, "unit": "it", "desc": "epoch", "rate": 1.25})
    'epoch  25% █████                3/12 1.2it/s'
    >>> in_words({"step": 3})
    '{"step": 3}'
    """
    if isinstance(value, dict) and isinstance(value.get("n"), int | float):
        return _bar(value)[:MAX_WIDTH]
    text = value if isinstance(value, str) else to_json(value)
    return " ".join(text.split())[:MAX_WIDTH]


def _bar(told: dict[str, Any]) -> str:
    count, total, rate = told["n"], told.get("total"), told.get("rate")
    words = [str(told["desc"])] if told.get("desc") else []
    if isinstance(total, int | float) and total > 0:
        part = min(1.0, max(0.0, count / total))
        words += [f"{part:4.0%}", ("█" * round(part * BAR_CELLS)).ljust(BAR_CELLS), f"{count:g}/{total:g}"]
    else:
        words.append(f"{count:g}")
    if isinstance(rate, int | float):
        words.append(f"{rate:.1f}{told.get('unit') or ''}/s")
    return " ".join(words)
