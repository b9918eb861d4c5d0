"""How browsers end, and that nothing is left of them: no process, no file."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import warmd
from tests.faults.watch import await_gone, await_tree_gone, carriers, error_of, successor, token_of, until
from warmd.daemon.folders import folder_of, folders_dir
from warmd.daemon.processes import look_at

HERE = "data:text/html,<title>Here</title>"
IDLE_SECONDS = 0.5
IDLE_CPU_SECONDS = 0.0005
"""A thousandth of that.  A script or an app that wakes ten times a second to do nothing takes twice as much
at least, and a page that draws fifty times as much."""
SETTLED_SECONDS = 20.0
"""Within that time one such span is idle: in its first ten seconds Chromium still tidies up now and then."""


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.LocalClient]:
    with warmd.testing.daemon(session_timeout=60) as client:
        client.status()
        yield client


class Running:
    """A session with a browser in it, and all that belongs to it."""

    def __init__(self, client: warmd.LocalClient, **options: object) -> None:
        self.session = client.session("browser", **options)
        self.act(action="start", url=HERE)
        self.worker = self.session.info().pid
        self.token = token_of(self.worker)
        self.folder = folder_of(client.run_dir, self.session.id)
        assert (self.folder / "profile").is_dir()
        assert len(self.processes()) > 3

    def act(self, **action: object) -> dict:
        return self.session.run(action, timeout=30).output

    def error(self, **action: object) -> tuple[str, str]:
        error = error_of(lambda: self.act(**action))
        return error.type.rpartition(".")[2], error.message

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.worker).children(recursive=True)

    def run_nanoseconds(self) -> dict[Path, int]:
        """What each thread of the session's processes has run for, exactly: the sums that are in ticks are
        rounded for each process, and are wrong by several ticks for ten of them."""
        pids = [self.worker, *(one.pid for one in self.processes())]
        found = {}
        for task in [task for pid in pids for task in Path(f"/proc/{pid}/task").glob("*")]:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                found[task] = int((task / "schedstat").read_text().split()[0])
        return found

    def chromium(self) -> int:
        """The browser's own process, above those of its pages."""
        (found,) = [one.pid for one in self.processes() if self._is_browser(one)]
        return found

    def driver(self) -> int:
        (found,) = [one.pid for one in self.processes() if one.ppid() == self.worker]
        return found

    def _is_browser(self, process: psutil.Process) -> bool:
        command = process.cmdline()
        return "--remote-debugging-pipe" in command and not any("--type=" in word for word in command)

    def await_nothing_left(self, pids: list[int]) -> None:
        await_gone(pids)
        await_tree_gone(self.token)
        until(lambda: not self.folder.exists())


@pytest.fixture
def running(client: warmd.LocalClient) -> Iterator[Running]:
    running = Running(client)
    pids = [running.worker, *(one.pid for one in running.processes())]
    yield running
    running.session.end()
    assert carriers(running.token) == [] and not running.folder.exists()
    await_gone(pids)


def test_end_leaves_nothing(running: Running) -> None:
    running.session.end()
    assert not running.folder.exists(), "all is gone when end returns"
    assert carriers(running.token) == []


def test_sigkill_of_the_worker_leaves_nothing(running: Running) -> None:
    pids = [one.pid for one in running.processes()]
    os.kill(running.worker, signal.SIGKILL)
    running.await_nothing_left(pids)


def test_expiry_leaves_nothing(client: warmd.LocalClient) -> None:
    running = Running(client, session_timeout=1)
    running.await_nothing_left([one.pid for one in running.processes()])
    assert error_of(lambda: running.act(action="text")).code == "SESSION_EXPIRED"


def test_a_killed_daemon_leaves_nothing_to_its_successor() -> None:
    with warmd.testing.daemon() as daemon:
        running = Running(daemon)
        pids = [one.pid for one in running.processes()]
        os.kill(daemon.daemon_pid, signal.SIGKILL)
        until(lambda: look_at(daemon.daemon_pid) is None)
        assert running.folder.exists(), "nobody is there to remove it"
        with successor(daemon.run_dir):
            running.await_nothing_left(pids)
            assert not folders_dir(daemon.run_dir).exists()


def test_a_daemon_that_stops_leaves_nothing() -> None:
    with warmd.testing.daemon() as daemon:
        running = Running(daemon)
        pids = [one.pid for one in running.processes()]
    running.await_nothing_left(pids)


def test_a_killed_chromium_is_told_and_begun_anew_by_start(running: Running) -> None:
    running.act(action="set_cookies", cookies=[{"name": "a", "value": "1", "domain": "x.org", "path": "/"}])
    call = running.session.submit("run", {"action": "click", "selector": "#nope"})
    until(lambda: call.status().state == "running")
    time.sleep(0.2)
    os.kill(running.chromium(), signal.SIGKILL)
    error = error_of(lambda: call.result(timeout=5))
    assert error.type.endswith("BrowserGone") and "the action 'start' begins a new one" in error.message
    for _ in range(2):
        assert running.error(action="text")[0] == "BrowserGone"
    assert running.act(action="start")["url"] == "about:blank"
    assert running.act(action="cookies")["cookies"] == [], "a new profile"
    assert running.act(action="goto", url=HERE)["title"] == "Here"


def test_so_is_a_killed_driver_and_what_it_has_left_is_ended(running: Running) -> None:
    before = [one.pid for one in running.processes()]
    os.kill(running.chromium(), signal.SIGSTOP)  # or it would end with its driver
    os.kill(running.driver(), signal.SIGKILL)
    assert running.error(action="text")[0] == "BrowserGone"
    assert running.act(action="start", url=HERE)["title"] == "Here"
    await_gone(before)


def test_a_browser_that_hangs_is_told_in_time_and_can_be_ended(running: Running) -> None:
    before = [one.pid for one in running.processes()]
    os.kill(running.chromium(), signal.SIGSTOP)
    kind, text = running.error(action="goto", url=HERE, timeout_seconds=0.5)
    assert kind == "NotInTime" and "not done within 0.5 s" in text
    assert running.act(action="close", browser=True) == {"closed": "browser"}
    await_gone(before)
    assert running.act(action="start", url=HERE)["title"] == "Here"


def test_a_browser_that_was_closed_is_started_by_the_next_action(running: Running) -> None:
    before = [one.pid for one in running.processes()]
    running.act(action="close", browser=True)
    await_gone(before)
    assert running.act(action="goto", url=HERE)["title"] == "Here"


def test_a_start_that_is_cut_off_leaves_nothing_and_can_be_repeated(client: warmd.LocalClient) -> None:
    with client.session("browser") as session:
        session.call("init")
        worker = psutil.Process(session.info().pid)
        for seconds in (0.1, 0.3, 0.5):
            with pytest.raises(warmd.CallTimeout):
                session.run({"action": "start"}, timeout=seconds)
        assert session.run({"action": "start", "url": HERE}, timeout=30).output["title"] == "Here"
        drivers = [one for one in worker.children() if one.status() != psutil.STATUS_ZOMBIE]
        assert len(drivers) == 1


def test_an_idle_browser_takes_no_processor_time(running: Running) -> None:
    def is_idle() -> bool:
        before = running.run_nanoseconds()
        time.sleep(IDLE_SECONDS)
        used = [spent - before.get(task, 0) for task, spent in running.run_nanoseconds().items()]
        return sum(used) < IDLE_CPU_SECONDS * 1e9

    until(is_idle, SETTLED_SECONDS)


def test_two_sessions_have_nothing_in_common(client: warmd.LocalClient, running: Running) -> None:
    running.act(action="set_cookies", cookies=[{"name": "a", "value": "1", "domain": "x.org", "path": "/"}])
    with client.session("browser") as other:
        assert other.run({"action": "cookies"}, timeout=30).output["cookies"] == []
    assert running.act(action="text")["title"] == "Here", "the end of another is not its own"
