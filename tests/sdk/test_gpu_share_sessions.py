"""`warmd.gpu.share` in sessions: the holder is no part of the one that starts it, and yet the daemon's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import warmd
from tests.faults.watch import environment, token_of, until
from tests.sdk.gpubox import Box, gpu_box
from tests.sdk.shareusers import holders

pytest.importorskip("torch")

SHARER = """
import os

import torch
from tests.fakegpu import FakeCuda
from tests.sdk.sharestand import Mapped
from warmd.gpushare import Sharing

class App:
    def setup(self):
        self.cuda = FakeCuda()
        self.cuda.alloc("own", b"own")
        self.weights = Sharing(Mapped(), os.environ["WARMD_RUN_DIR"]).share("w", self.make)

    def make(self):
        return {"maker": torch.tensor([os.getpid()])}

    def run(self):
        return int(self.weights["maker"])

    def pid(self):
        return os.getpid()
"""
KEEPER = """
import time
from tests.sdk.sharestand import Mapped
from warmd.gpushare import _Talk, start_holder

class App:
    def setup(self):
        start_holder("keeper", Mapped(linger_seconds=60.0), "GPU-aaaa", 10.0)
        self.talk = _Talk("w", time.monotonic() + 10.0)
        assert self.talk.connected("keeper")
        self.talk.say({"do": "join", "make": ""})

    def run(self):
        return self.talk.heard()["pid"]
"""


@contextmanager
def box_with(path: Path, app: str) -> Iterator[Box]:
    """One that has an app `sharer`."""
    folder = path / "apps" / "sharer"
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(app)
    (folder / "app.toml").write_text('gpu = "1GiB"\n')
    with gpu_box(path) as made:
        yield made


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with box_with(tmp_path_factory.mktemp("box"), SHARER) as made:
        yield made


def test_it_outlives_its_session_and_is_not_parked_by_the_driver(box: Box) -> None:
    with box.client.session("sharer") as first, box.client.session("sharer") as second:
        maker = first.call("pid").output
        assert first.call("run").output == second.call("run").output == maker
        (holder,) = holders()
        with pytest.raises(warmd.WarmdError, match=r"the driver cannot move it: its weights are shared"):
            second.park()
        first.end()
        assert second.call("run").output == maker
        assert holders() == [holder]
    until(lambda: not Path(f"/proc/{holder}").exists())  # the daemon has reaped it


def test_who_shares_dies_with_the_holder_and_says_why(box: Box) -> None:
    session = box.client.session("sharer")
    session.call("run")
    os.kill(holders()[0], signal.SIGKILL)
    until(lambda: session.info().state == "died", 5.0)
    assert b"the process that held the shared weights 'w' has died" in b"".join(box.client.logs(session.id))
    with box.client.session("sharer") as another:
        assert another.call("run").output == another.call("pid").output
    until(lambda: not holders())


def test_it_ends_with_a_daemon_that_is_killed(tmp_path: Path) -> None:
    with box_with(tmp_path, KEEPER) as box:
        holder = box.client.session("sharer").call("run").output
        assert holders() == [holder]
        os.kill(box.client.daemon_pid, signal.SIGKILL)
        until(lambda: not holders(), 2.0)


def test_what_a_killed_daemon_has_left_is_found_by_its_token(tmp_path: Path) -> None:
    with box_with(tmp_path, KEEPER) as box:
        session = box.client.session("sharer")
        holder = session.call("run").output
        told = environment(holder).split(b"\0")
        assert f"WARMD_RUN_DIR={box.client.run_dir}".encode() in told
        assert f"WARMD_DAEMON_PID={box.client.daemon_pid}".encode() in told
        assert token_of(holder) != token_of(session.info().pid)
        session.end()
        assert holders() == [holder]
    assert not holders()
