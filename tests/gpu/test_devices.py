"""The daemon's end, with the real helper and the fake driver: what it tells, and each way it can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.fakegpu import DRIVER, FakeGpus
from tests.faults.watch import await_gone
from tests.gpu.apps import ROOT, App, running
from tests.gpu.conftest import FIRST, SECOND, WEIGHTS, Daemon
from warmd.daemon import devices
from warmd.daemon.devices import GpuError, Moved
from warmd.daemon.gpu import process


def parked(daemon: Daemon, token: str, seconds: float = 5.0) -> Any:
    return daemon.ask(daemon.devices.checkpoint, token, 1.0, seconds)


def back(daemon: Daemon, token: str, seconds: float = 5.0) -> Any:
    return daemon.ask(daemon.devices.restore, token, seconds)


# What is there


def test_a_look_tells_whose_memory_is_where(daemon: Daemon, gpus: FakeGpus, app: App, token: str) -> None:
    gpus.stranger(SECOND, 70)
    with running(stranger := App()):
        stranger.ask("alloc", "mine", "x" * 30, 1)
        first, second = daemon.ask(daemon.devices.look)
    assert (first.id, first.index, first.total_bytes, first.used_bytes) == (FIRST, 0, 1000, 600)
    assert first.free_bytes == 400
    assert [(one.pid, one.bytes, one.token) for one in first.processes] == [(app.pid, 600, token)]
    assert [(one.pid, one.bytes, one.token) for one in second.processes] == [(stranger.pid, 30, "")]
    assert second.used_bytes == 100
    assert (first.bytes_of(token), second.bytes_of(token)) == (600, 0)


@pytest.mark.usefixtures("app")
def test_what_the_driver_does_not_say_is_none(daemon: Daemon, gpus: FakeGpus, token: str) -> None:
    gpus.tell_bytes(False)
    first, second = daemon.ask(daemon.devices.look)
    assert first.used_bytes == 600 and first.processes[0].bytes is None
    assert (first.bytes_of(token), second.bytes_of(token)) == (None, 0)


def test_the_daemon_sees_only_what_is_visible_to_it(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    assert [(one.id, one.index) for one in daemon.ask(daemon.devices.look)] == [(SECOND, 1)]


# Moves


def test_what_was_moved_comes_back_as_it_was(daemon: Daemon, gpus: FakeGpus, app: App, token: str) -> None:
    moved = parked(daemon, token)
    assert isinstance(moved, Moved) and moved.pids == (app.pid,)
    first, _ = daemon.ask(daemon.devices.look)
    assert (first.used_bytes, first.processes) == (0, ())
    assert daemon.ask(daemon.devices.state, token) == {app.pid: "checkpointed"}
    app.begin("read", "weights")  # blocks, as a call of CUDA does
    moved = back(daemon, token)
    assert isinstance(moved, Moved) and moved.pids == (app.pid,)
    assert app.answer() == WEIGHTS
    assert gpus.used(FIRST) == 600


def test_a_tree_without_gpus_has_nothing_to_move(daemon: Daemon, token: str) -> None:
    assert parked(daemon, token).pids == ()
    assert back(daemon, token).pids == ()


def test_what_the_driver_refuses_is_told(daemon: Daemon, gpus: FakeGpus, app: App, token: str) -> None:
    gpus.fault("no_memory", "checkpoint")
    refused = parked(daemon, token)
    assert (refused.kind, refused.harm, gpus.state(app.pid)) == ("no_memory", "none", "running")
    assert refused.message == f"process {app.pid}: CUDA_ERROR_OUT_OF_MEMORY (fake)"
    gpus.fault("failed", "checkpoint")
    lost = parked(daemon, token)
    assert (lost.kind, lost.harm) == ("failed", "lost")


@pytest.mark.usefixtures("app")
def test_moves_are_made_side_by_side(daemon: Daemon, gpus: FakeGpus, token: str) -> None:
    daemon.ask(daemon.devices.look)
    with running(other := App("ab" * 32)):
        other.ask("alloc", "weights", "x" * 300)
        gpus.fault("slow", "checkpoint", times=2, seconds=0.6)
        began = time.monotonic()
        answers = [daemon.begin(daemon.devices.checkpoint, one, 1.0, 5.0) for one in (token, "ab" * 32)]
        looked = daemon.ask(daemon.devices.look)
        assert time.monotonic() - began < 0.5, "the look has waited for the moves"
        assert looked[0].used_bytes == 900
        daemon.until(lambda: all(answers))
        assert time.monotonic() - began < 1.1, "one move has waited for the other"
    assert all(isinstance(answer[0], Moved) for answer in answers)


# A helper that dies or hangs


@pytest.mark.parametrize("at", ["checkpoint", "checkpoint.locked", "checkpoint.moved"])
def test_a_helper_that_dies_during_a_checkpoint(
    daemon: Daemon, gpus: FakeGpus, app: App, token: str, at: str
) -> None:
    gpus.fault("crash", at)
    answer = parked(daemon, token)
    if at == "checkpoint.moved":
        assert answer == Moved((app.pid,), 0.0), "it was done"
        assert isinstance(back(daemon, token), Moved)
    else:
        assert (answer.kind, answer.harm) == ("unavailable", "none")
    assert app.ask("read", "weights") == WEIGHTS


@pytest.mark.parametrize("at", ["restore", "restore.moved"])
def test_a_helper_that_dies_during_a_restore(
    daemon: Daemon, gpus: FakeGpus, app: App, token: str, at: str
) -> None:
    parked(daemon, token)
    gpus.fault("crash", at)
    answer = back(daemon, token)
    if at == "restore.moved":
        assert answer == Moved((app.pid,), 0.0), "it was done"
    else:
        assert (answer.kind, answer.harm, gpus.state(app.pid)) == ("unavailable", "none", "checkpointed")
        assert isinstance(back(daemon, token), Moved)
    assert app.ask("read", "weights") == WEIGHTS


def test_a_move_that_hangs_is_ended_at_its_deadline(
    daemon: Daemon, gpus: FakeGpus, app: App, token: str
) -> None:
    daemon.ask(daemon.devices.look)
    hung = daemon.helper_pid
    gpus.fault("hang", "checkpoint.locked")
    answer = parked(daemon, token, 0.3)
    assert (answer.kind, answer.harm) == ("unavailable", "none")
    assert daemon.helper_pid != hung
    assert app.ask("read", "weights") == WEIGHTS


@pytest.mark.usefixtures("app")
def test_a_helper_that_dies_each_time_leaves_nobody_waiting(
    daemon: Daemon, gpus: FakeGpus, token: str
) -> None:
    parked(daemon, token)
    with running(second := App(token)):
        second.ask("alloc", "more", "x" * 100)  # so that the tree is in both places
        gpus.fault("crash", "restore", times=None)
        answer = back(daemon, token)
        assert (answer.kind, answer.harm) == ("unavailable", "lost"), "nobody knows"


def test_what_stays_in_both_places_may_come_together_later(
    daemon: Daemon, gpus: FakeGpus, app: App, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "SETTLE_SECONDS", 0.3)
    parked(daemon, token)
    with running(second := App(token)):
        second.ask("alloc", "more", "x" * 100)
        gpus.fault("crash", "checkpoint")
        gpus.fault("no_memory", "restore", times=None)
        answer = parked(daemon, token)
        assert (answer.kind, answer.harm) == ("no_memory", "mixed")
        gpus.clear()
        assert back(daemon, token).pids == (app.pid,)
        assert app.ask("read", "weights") == WEIGHTS


def test_a_look_that_hangs_ends_the_helper(
    daemon: Daemon, gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.ask(daemon.devices.look)
    monkeypatch.setattr(devices, "LOOK_SECONDS", 0.3)
    gpus.fault("hang", "look")
    assert daemon.ask(daemon.devices.look).kind == "unavailable"
    monkeypatch.setattr(devices, "LOOK_SECONDS", 5.0)
    assert len(daemon.ask(daemon.devices.look)) == 2


def test_a_look_that_hangs_does_not_end_a_move(
    daemon: Daemon, gpus: FakeGpus, app: App, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.ask(daemon.devices.look)
    hung = daemon.helper_pid
    gpus.fault("slow", "checkpoint.locked", seconds=0.6)
    move = daemon.begin(daemon.devices.checkpoint, token, 1.0, 5.0)
    daemon.until(lambda: gpus.state(app.pid) == "locked")
    monkeypatch.setattr(devices, "LOOK_SECONDS", 0.2)
    gpus.fault("hang", "look")
    assert daemon.ask(daemon.devices.look).kind == "unavailable"
    assert not move and daemon.helper_pid == hung
    daemon.until(lambda: move)
    assert isinstance(move[0], Moved) and move[0].seconds > 0, "it came to its own end"
    monkeypatch.setattr(devices, "LOOK_SECONDS", 5.0)
    assert len(daemon.ask(daemon.devices.look)) == 2
    assert daemon.helper_pid != hung


def test_a_helper_that_cannot_live_is_started_ever_more_seldom(daemon: Daemon, gpus: FakeGpus) -> None:
    gpus.fault("crash", "look", times=None)
    starts, end = 0, time.monotonic() + 1.2
    while time.monotonic() < end:
        answer = daemon.ask(daemon.devices.look)
        assert answer.kind == "unavailable"
        starts += 1
    assert starts <= 4, f"{starts} in little more than a second"
    gpus.clear()
    assert len(daemon.ask(daemon.devices.look)) == 2


def test_a_helper_that_is_killed_while_idle_is_replaced(daemon: Daemon) -> None:
    daemon.ask(daemon.devices.look)
    assert daemon.helper_pid
    os.kill(daemon.helper_pid, signal.SIGKILL)
    daemon.until(lambda: daemon.helper_pid is None)
    assert len(daemon.ask(daemon.devices.look)) == 2


BABBLER = """
import os, time
os.read(0, 9)
os.write(0, {says!r})
time.sleep(60)
"""


@pytest.mark.parametrize(
    "says", [b"\xc1" * 9, msgpack.packb({"id": 1}), msgpack.packb({"id": 1, "result": 7}), msgpack.packb(7)]
)
def test_a_helper_that_cannot_be_understood_is_ended(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: bytes
) -> None:
    (tmp_path / "babbler.py").write_text(BABBLER.format(says=says))
    monkeypatch.setattr(process, "MODULE", "babbler")
    monkeypatch.syspath_prepend(tmp_path)
    assert daemon.ask(daemon.devices.look).kind == "unavailable"
    assert daemon.helper_pid is None


@pytest.mark.usefixtures("app")
def test_helpers_that_cannot_be_killed_are_left_to_themselves(
    daemon: Daemon, gpus: FakeGpus, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = process.HelperProcess.kill
    monkeypatch.setattr(process.HelperProcess, "kill", lambda _: None)
    monkeypatch.setattr(devices, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(devices, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(devices, "MOST_STUCK", 1)
    daemon.ask(daemon.devices.look)
    gpus.fault("hang", "checkpoint")
    answer = parked(daemon, token, 0.2)
    assert (answer.kind, answer.harm) == ("unavailable", "lost"), "no other helper may be started"
    assert daemon.ask(daemon.devices.look).message.startswith("1 GPU helpers hang")
    monkeypatch.setattr(process.HelperProcess, "kill", real)
    real(daemon.devices._stuck[0])
    daemon.until(lambda: not daemon.devices._stuck)
    assert len(daemon.ask(daemon.devices.look)) == 2


# Beginnings and ends


def test_nothing_is_started_where_there_is_nothing(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_GPU_DIR", "/nowhere")
    assert daemon.devices.available() == "FAKE_GPU_DIR names no folder"
    error = daemon.ask(daemon.devices.look)
    assert (error.kind, error.message) == ("unavailable", "FAKE_GPU_DIR names no folder")
    assert daemon.devices._starter._thread is None


def test_a_driver_that_does_not_open_says_why(daemon: Daemon, gpus: FakeGpus) -> None:
    gpus.fault("unavailable", "look")
    assert daemon.ask(daemon.devices.look).message == "there is no driver (fake)"
    assert len(daemon.ask(daemon.devices.look)) == 2


def test_a_helper_that_cannot_be_started_says_why(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.sys, "executable", "/nowhere/python")
    error = daemon.ask(daemon.devices.look)
    assert error.kind == "unavailable" and "/nowhere/python" in error.message
    monkeypatch.undo()


@pytest.mark.parametrize("when", ["starting", "moving"])
def test_what_is_asked_is_answered_at_the_end(
    daemon: Daemon, gpus: FakeGpus, app: App, token: str, when: str
) -> None:
    if when == "moving":
        daemon.ask(daemon.devices.look)
        gpus.fault("hang", "checkpoint.locked")
    move = daemon.begin(daemon.devices.checkpoint, token, 1.0, 5.0)
    daemon.loop.turn()
    if when == "moving":
        daemon.until(lambda: gpus.state(app.pid) == "locked")
    daemon.devices.close()
    assert (move[0].kind, move[0].message) == ("unavailable", "the daemon ends")
    late: list[Any] = []
    daemon.devices.look(late.append)
    daemon.loop.turn()
    assert isinstance(late[0], GpuError)


DAEMON = f"""
from warmd.daemon.devices import Devices
from warmd.daemon.loop import Loop
loop = Loop()
devices = Devices(loop, {DRIVER!r})
devices.look(lambda found: print(devices._held.process.pid, flush=True))
loop.run()
"""


@pytest.mark.usefixtures("gpus")
def test_the_helper_ends_with_a_daemon_that_was_killed() -> None:
    """Also one that hangs, and does not see the end of its socket."""
    program = [sys.executable, "-c", DAEMON]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        helper = int(daemon.stdout.readline())
        os.kill(helper, signal.SIGSTOP)
        daemon.kill()
    await_gone([helper], 2.0)
