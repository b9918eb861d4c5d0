"""`warmd top`: what it makes of what the daemon tells, and how it treats a terminal."""

from __future__ import annotations

import doctest
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.cli.shell import Shell
from tests.cli.test_commands import INFO
from tests.cli.test_gpus import CARD, GPU_INFO
from tests.faults.watch import until
from tests.sdk.gpubox import GIB, gpu_box
from warmd.cli import gpus, toptable
from warmd.cli import top as top_module
from warmd.cli.top import END_OF_LINE, END_OF_PAGE, ENTER, HOME, LEAVE
from warmd.cli.topstate import Top
from warmd.cli.toptable import lines
from warmd.http.usage import Used

STATUS: dict[str, Any] = {
    "version": "1.2",
    "pid": 7,
    "uptime_seconds": 3600.0,
    "memory": 40 * 2**20,
    "max_sessions": 256,
    "queued": 2,
    "draining": False,
    "gpus": [CARD],
}


def info(id: str, **more: Any) -> dict[str, Any]:
    return {**INFO, "id": f"sess_{id}", "name": None, **more}


def told(*infos: dict[str, Any], ended: int = 0, draining: bool = False) -> dict[str, Any]:
    return {"sessions": list(infos), "calls": [], "ended": ended, "draining": draining}


def known(*infos: dict[str, Any], now: float = 100.0) -> Top:
    top = Top(dict(STATUS))
    top.take(told(*infos), now)
    return top


def ids(top: Top, now: float = 100.0) -> list[str]:
    return [row.info["id"][5:] for row in top.rows(now)]


def test_sessions_come_change_and_go() -> None:
    top = known(info("a"), info("b"))
    top.take(told(info("a", state="busy"), info("b", state="died"), info("c")), 101.0)
    assert [(row.info["id"], row.info["state"]) for row in top.rows(101.0)] == [
        ("sess_a", "busy"),
        ("sess_c", "idle"),
    ]


def test_the_busiest_are_first_and_of_these_the_newest() -> None:
    top = known(
        info("parked", state="parked"),
        info("old", created=1.0),
        info("new", created=2.0),
        info("starting", state="placing"),
        info("busy", state="busy"),
        info("queue", state="busy", queued=3),
        info("hot", pid=9),
    )
    top.measured({9: Used(2**20, 1.5)})
    assert ids(top) == ["queue", "busy", "starting", "hot", "new", "old", "parked"]


def test_times_go_on_between_what_is_told() -> None:
    gpu = {**GPU_INFO, "waits_seconds": 2.0}
    top = known(info("a", running_seconds=1.0, expires_in=3.0, gpu=gpu))
    (row,) = top.rows(105.0)
    assert (row.info["running_seconds"], row.info["expires_in"]) == (6.0, 0.0)
    assert row.info["gpu"]["waits_seconds"] == 7.0


def test_rates_are_over_the_last_seconds() -> None:
    top = known(info("a", calls=10))
    for second in range(20):
        top.take(told(info("a", calls=10 + 4 * second), ended=8), 100.0 + second)
        top.sample(100.0 + second)
    (row,) = top.rows(119.0)
    assert row.calls_per_second == pytest.approx(4.0)
    assert top.calls_per_second() == pytest.approx(8.0)
    assert len(top._samples) < 10, "no history is kept"


def test_what_it_shows() -> None:
    parked = {**GPU_INFO, "memory": 0, "parked": 8 * GIB}
    top = known(
        info("a" * 32, state="busy", running_seconds=2.0, pid=9, gpu=GPU_INFO, name="evil\x1b[2J"),
        info("b" * 32, state="parked", pid=10, gpu=parked),
    )
    top.take(told(draining=True), 100.0)
    top.measured({9: Used(3 * 2**20, 0.5), 7: Used(50 * 2**20, 0.01)})
    shown = lines(top, 100.0, 1060.0, is_ascii=True)
    assert shown[:5] == [
        "warmd 1.2 (draining), pid 7, up 1h0m, 50.0M",
        "2 of 256 sessions, 1 busy, 2 calls waiting, 0 calls/s",
        f"cpu 50% of {os.cpu_count()} cores, memory 23.0M, on GPUs 8.0G, parked 8.0G",
        f"gpu 1 ##........ {gpus.line(CARD)}",
        "",
    ]
    heads, busy, resting = (" ".join(line.split()) for line in shown[5:])
    assert heads == "ID APP NAME STATE CPU MEMORY GPU QUEUED CALLS CALLS/S AGE EXPIRES"
    assert busy == "aaaaaaaa counter evil?[2J busy 2.0s 50% 3.0M 8.0G 0 3 0 1m0s 45s"
    assert "parked - 20.0M parked 8.0G" in resting
    assert "GPU" not in "".join(lines(known(info("a")), 100.0, 1060.0, is_ascii=False)[4:])
    assert lines(known(), 100.0, 1060.0, is_ascii=False)[-1] == "no sessions"
    assert doctest.testmod(toptable).failed == 0


def test_once_for_pipes_and_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_module, "REFRESH_SECONDS", 0.2)
    with gpu_box(tmp_path) as box, box.client.session("llama") as session:
        session.run()
        shell = Shell(box.client.address, capsys)
        until(lambda: box.client.status()["gpus"][0]["sessions"])
        shown = shell("top")
        assert any(line.startswith("gpu 0 ") and "Fake H100" in line for line in shown)
        assert session.id[5:13] in shown[-1]
        (found,) = shell.json("top")
    (row,) = found["sessions"]
    assert (row["id"], row["calls"], row["gpu"]["reserved"]) == (session.id, 1, 10 * GIB)
    assert row["memory"] > 2**20 and row["cpu"] >= 0 and row["calls_per_second"] == 0
    assert found["gpus"][0]["name"] == "Fake H100" and found["daemon"]["pid"]


def test_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = Shell(str(tmp_path / "none.sock"), capsys)
    shell("top")
    assert shell.code == 69


class Terminal:
    """A terminal with `warmd top` on it."""

    def __init__(self, address: str) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.resize(24, 100)
        command = [sys.executable, "-m", "warmd", "--host", address, "top"]
        self.process = subprocess.Popen(
            command,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
        )
        self.seen = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def read_until(self, text: str, seconds: float = 20.0) -> str:
        """What it shows from now on, up to and with the text."""
        found, deadline = "", time.monotonic() + seconds
        while text not in found:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} does not come; there was {found!r}"
            found += os.read(self.master, 65536).decode()
        self.seen += found
        return found

    def code(self) -> int:
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(scope="module")
def client() -> Iterator[warmd.testing.LocalClient]:
    with warmd.testing.daemon() as client:
        client.status()
        yield client


@contextmanager
def terminal(client: warmd.testing.LocalClient) -> Iterator[Terminal]:
    made = Terminal(client.address)
    try:
        assert ENTER in made.read_until("no sessions")
        yield made
        assert LEAVE in made.seen or made.read_until(LEAVE)
        assert termios.tcgetattr(made.slave) == made.before
    finally:
        made.close()


def test_live_until_q(client: warmd.testing.LocalClient) -> None:
    with terminal(client) as it:
        with client.session("counter") as session:
            it.read_until(session.id[5:13])
            it.resize(24, 20)
            began = time.monotonic()
            for _ in range(6):
                os.kill(it.process.pid, signal.SIGWINCH)
                page = it.read_until(END_OF_PAGE)
            assert time.monotonic() - began < 4.0, "it draws when it is told of another size"
            shown = page.rpartition(HOME)[2].replace(END_OF_LINE, "").replace(END_OF_PAGE, "")
            assert max(map(len, shown.splitlines())) == 20
        it.read_until("no sessions")
        os.write(it.master, b"q")
        assert it.code() == 0


def test_live_until_ctrl_c(client: warmd.testing.LocalClient) -> None:
    with terminal(client) as it:
        it.process.send_signal(signal.SIGINT)
        assert it.code() == 130


def test_live_until_the_daemon_is_gone() -> None:
    with warmd.testing.daemon() as client, terminal(client) as it:
        client.stop(drain=0.1)
        assert it.code() == 69
        it.read_until("warmd: ")
