"""Sessions whose GPU memory is away come to their end, and daemons with them: nothing is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.gpustage import DRIVER, A, Stage, after, staged
from tests.faults.watch import await_gone, error_of, successor, until, within

SIXTY = {"gpu": "600B"}
AT_ONCE_SECONDS = 2.0
"""Far below end_grace, which would be waited for if the process had to be killed."""
GRACE_SECONDS = 30


@pytest.fixture(scope="module")
def whole_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("gpus"), end_grace=GRACE_SECONDS) as stage:
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    yield whole_stage
    whole_stage.clear()


def helper_pid(stage: Stage) -> int | None:
    """The daemon's GPU helper."""
    children = psutil.Process(stage.client.daemon_pid).children()
    return next((one.pid for one in children if "warmd.daemon.gpu.helper" in one.cmdline()), None)


@pytest.mark.parametrize("entry", ["Weights", "Hooked"])
def test_a_parked_session_is_ended_at_once_and_unloads(stage: Stage, tmp_path: Path, entry: str) -> None:
    unloaded = tmp_path / "unloaded"
    session = stage.open(entry, {"unloaded": str(unloaded)}, **SIXTY)
    pid = session.park().pid
    with within(AT_ONCE_SECONDS):
        session.end()
    assert unloaded.read_text() == "ended"
    assert not os.path.exists(f"/proc/{pid}")


def test_one_that_is_ended_while_it_is_moved(stage: Stage, tmp_path: Path) -> None:
    """Its end waits for nothing that the driver does."""
    for when in ("parking", "unparking"):
        session = stage.open("Weights", {"unloaded": str(tmp_path / when)}, **SIXTY)
        pid = session.info().pid
        stage.gpus.fault("slow", "checkpoint.locked" if when == "parking" else "restore.moved", seconds=0.3)
        if when == "parking":
            stage.begin_park(session)
        else:
            session.park()
            session.submit("run")
        until(lambda pid=pid: stage.gpus.state(pid) == "locked")  # type: ignore[misc]
        with within(AT_ONCE_SECONDS):
            session.end()
        assert not os.path.exists(f"/proc/{pid}")
        assert (tmp_path / when).read_text() == "ended"


def test_a_parked_session_expires_when_nobody_uses_it(stage: Stage, tmp_path: Path) -> None:
    unloaded = tmp_path / "unloaded"
    app = stage.app("Weights", **SIXTY)
    session = stage.client.session(app, setup={"unloaded": str(unloaded)}, timeout=20, session_timeout=1)
    began = time.monotonic()
    pid = session.park().pid
    await_gone([pid], 5)
    assert time.monotonic() - began < 1 + AT_ONCE_SECONDS
    assert unloaded.read_text() == "expired"
    assert error_of(lambda: session.call("run")).code == "SESSION_EXPIRED"


def parked_and_not(stage: Stage, folder: Path) -> list[int]:
    """Two sessions, of which one is parked: their processes, and the helper's."""
    sessions = [stage.open("Weights", {"unloaded": str(folder / str(seed))}, **SIXTY) for seed in range(2)]
    assert [session.info().state for session in sessions] == ["parked", "idle"]
    helper = helper_pid(stage)
    assert helper is not None
    return [*(session.info().pid for session in sessions), helper]


def test_a_daemon_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    with staged(tmp_path, keeper=False, end_grace=GRACE_SECONDS) as stage:
        pids = parked_and_not(stage, tmp_path)
        began = time.monotonic()
        os.kill(stage.client.daemon_pid, signal.SIGTERM)
        await_gone(pids, 5)
        assert time.monotonic() - began < 2 * AT_ONCE_SECONDS
        assert [(tmp_path / str(seed)).read_text() for seed in range(2)] == ["stopped", "stopped"]
        assert stage.gpus.used(A) == 0


def test_one_that_is_killed_leaves_nothing_and_the_next_has_all_the_memory(tmp_path: Path) -> None:
    with staged(tmp_path, keeper=False) as stage:
        pids = parked_and_not(stage, tmp_path)
        app, flags = (
            stage.app("Weights", gpu="1000B"),
            [f"--gpu-driver={DRIVER}", f"--app-folders={stage.apps}"],
        )
        stage.gpus.return_slowly(0.3)
        os.kill(stage.client.daemon_pid, signal.SIGKILL)
        await_gone(pids, 5)
        with successor(stage.client.run_dir, *flags) as client:
            assert client.session(app, setup={"size": 1000}).call("weights").output == after(0, 0, size=1000)


def test_where_gpus_are_left_alone_no_helper_is_started(tmp_path: Path) -> None:
    with staged(tmp_path, keeper=False, driver="off") as stage:
        status = stage.client.status()
        with within(AT_ONCE_SECONDS):
            error = error_of(lambda: stage.open("Weights", **SIXTY))
        assert (error.code, error.ran) == ("START_FAILED", "no")
        assert "none is to be seen here: GPUs are left alone (gpu_driver = 'off')" in str(error)
        assert status.gpus == [] and status.no_gpus in str(error) and helper_pid(stage) is None
        threads = Path(f"/proc/{stage.client.daemon_pid}/task").glob("*/comm")
        assert not [name for thread in threads if "gpu" in (name := thread.read_text())]
