"""A worker's tree moves as one, or stays as it was, and the error says which."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakegpu import FakeDriver, FakeGpus
from tests.faults.watch import until
from tests.gpu.apps import PROGRAM, App, running
from tests.gpu.conftest import FIRST, WEIGHTS
from warmd.daemon.gpu.driver import Device, GpuError
from warmd.daemon.gpu.tokens import token_of
from warmd.daemon.gpu.told import Settled
from warmd.daemon.gpu.trees import Trees


@pytest.fixture
def driver(gpus: FakeGpus) -> FakeDriver:
    return FakeDriver(gpus.folder.path)


@pytest.fixture
def trees(driver: FakeDriver) -> Trees:
    return Trees(driver, os.getpid())


@pytest.fixture
def second(gpus: FakeGpus, token: str) -> Iterator[App]:
    """One more process of the tree, with 300 bytes on the same GPU, which comes after the first."""
    made = App(token, **gpus.environment)
    with running(made):
        assert made.ask("alloc", "more", "x" * 300) is None
        yield made


def in_order(app: App, second: App) -> tuple[App, App]:
    """As the tree is gone through: by pid."""
    return (app, second) if app.pid < second.pid else (second, app)


@pytest.mark.parametrize("kind", ["no_memory", "illegal", "unsupported"])
def test_a_move_that_is_refused_does_no_harm(
    trees: Trees, gpus: FakeGpus, app: App, token: str, kind: str
) -> None:
    gpus.fault(kind, "checkpoint")
    with pytest.raises(GpuError) as refused:
        trees.checkpoint(token, 1.0)
    assert (refused.value.kind, refused.value.harm, gpus.state(app.pid)) == (kind, "none", "running")
    trees.checkpoint(token, 1.0)
    gpus.fault(kind, "restore")
    with pytest.raises(GpuError) as refused:
        trees.restore(token)
    assert (refused.value.kind, refused.value.harm, gpus.state(app.pid)) == (kind, "none", "checkpointed")
    trees.restore(token)
    assert app.ask("read", "weights") == WEIGHTS


@pytest.mark.usefixtures("app")
def test_without_room_it_stays_in_host_memory_until_there_is_some(
    trees: Trees, gpus: FakeGpus, token: str
) -> None:
    trees.checkpoint(token, 1.0)
    gpus.stranger(FIRST, 401)
    with pytest.raises(GpuError, match="OUT_OF_MEMORY") as refused:
        trees.restore(token)
    assert refused.value.harm == "none"
    gpus.stranger(FIRST, 400)
    assert trees.restore(token).pids


@pytest.mark.parametrize("is_fault", [False, True])
def test_a_busy_process_goes_on_undisturbed(
    trees: Trees, gpus: FakeGpus, app: App, token: str, is_fault: bool
) -> None:
    if is_fault:
        gpus.fault("busy")
    else:
        assert app.ask("work") is True
    with pytest.raises(GpuError) as refused:
        trees.checkpoint(token, 0.1)
    assert (refused.value.kind, refused.value.harm, gpus.state(app.pid)) == ("busy", "none", "running")
    if not is_fault:
        assert app.ask("end") is True
    assert app.ask("read", "weights") == WEIGHTS


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("at", ["checkpoint", "restore"])
def test_what_is_lost_is_said_to_be_lost(trees: Trees, gpus: FakeGpus, token: str, at: str) -> None:
    if at == "restore":
        trees.checkpoint(token, 1.0)
    gpus.fault("failed", at)
    for move in (lambda: trees.checkpoint(token, 1.0) if at == "checkpoint" else trees.restore(token),
                 lambda: trees.restore(token), lambda: trees.settle(token, 1.0)):  # fmt: skip
        with pytest.raises(GpuError) as lost:
            move()
        assert (lost.value.kind, lost.value.harm) == ("failed", "lost")


# More than one process


def test_all_processes_of_a_tree_are_moved(
    trees: Trees, gpus: FakeGpus, app: App, second: App, token: str
) -> None:
    assert trees.checkpoint(token, 1.0).pids == tuple(sorted((app.pid, second.pid)))
    assert gpus.used(FIRST) == 0
    assert trees.restore(token).pids == tuple(sorted((app.pid, second.pid)))
    assert (app.ask("read", "weights"), second.ask("read", "more")) == (WEIGHTS, "x" * 300)


def test_where_one_cannot_be_moved_the_others_come_back(
    trees: Trees, gpus: FakeGpus, app: App, second: App, token: str
) -> None:
    first, last = in_order(app, second)
    assert last.ask("work") is True
    with pytest.raises(GpuError) as refused:
        trees.checkpoint(token, 0.1)
    assert (refused.value.kind, refused.value.harm) == ("busy", "none")
    assert [gpus.state(first.pid), gpus.state(last.pid)] == ["running", "running"]
    assert gpus.used(FIRST) == 900


def test_where_the_others_cannot_come_back_it_says_so(
    trees: Trees, gpus: FakeGpus, app: App, second: App, token: str
) -> None:
    first, last = in_order(app, second)
    assert last.ask("work") is True
    gpus.fault("no_memory", "restore")
    with pytest.raises(GpuError) as refused:
        trees.checkpoint(token, 0.1)
    assert (refused.value.kind, refused.value.harm) == ("busy", "mixed")
    assert [gpus.state(first.pid), gpus.state(last.pid)] == ["checkpointed", "running"]
    assert trees.restore(token).pids == (first.pid,)


def test_where_the_others_are_lost_it_says_so(
    trees: Trees, gpus: FakeGpus, app: App, second: App, token: str
) -> None:
    assert in_order(app, second)[1].ask("work") is True
    gpus.fault("failed", "restore")
    with pytest.raises(GpuError) as refused:
        trees.checkpoint(token, 0.1)
    assert (refused.value.kind, refused.value.harm) == ("busy", "lost")


def test_where_there_is_room_for_a_part_only_none_comes_back(
    trees: Trees, gpus: FakeGpus, app: App, second: App, token: str
) -> None:
    trees.checkpoint(token, 1.0)
    gpus.stranger(FIRST, 200)  # for either of them there would be room
    with pytest.raises(GpuError) as refused:
        trees.restore(token)
    assert (refused.value.kind, refused.value.harm) == ("no_memory", "none")
    assert [gpus.state(app.pid), gpus.state(second.pid)] == ["checkpointed", "checkpointed"]


def test_a_process_that_ends_meanwhile_stops_nobody(
    trees: Trees, driver: FakeDriver, app: App, second: App, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = in_order(app, second)
    checkpoint = driver.checkpoint

    def end_first(pid: int, lock_seconds: float) -> None:
        first.end()
        checkpoint(pid, lock_seconds)

    monkeypatch.setattr(driver, "checkpoint", end_first)
    assert trees.checkpoint(token, 1.0).pids == (last.pid,)


def test_where_the_driver_hides_pids_the_tree_is_asked_one_by_one(
    trees: Trees, driver: FakeDriver, app: App, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = Device(FIRST, 0, "", 1000, 600, None, {4_000_000: 600})
    monkeypatch.setattr(driver, "devices", lambda: [hidden])
    assert trees.checkpoint(token, 1.0).pids == (app.pid,)


# After a move that was cut off


def test_a_tree_that_is_in_one_place_is_left_there(trees: Trees, app: App, token: str) -> None:
    assert trees.settle(token, 1.0) == Settled("running", (app.pid,))
    trees.checkpoint(token, 1.0)
    assert trees.settle(token, 1.0) == Settled("checkpointed", (app.pid,))
    assert trees.settle("0" * 64, 1.0) == Settled("gone", ())


def test_a_tree_that_is_in_both_places_is_brought_to_the_gpu(
    trees: Trees, driver: FakeDriver, app: App, second: App, token: str
) -> None:
    driver.checkpoint(app.pid, 1.0)
    assert trees.settle(token, 1.0) == Settled("running", tuple(sorted((app.pid, second.pid))))
    assert app.ask("read", "weights") == WEIGHTS


def test_a_process_that_stays_between_two_states_is_given_up(
    trees: Trees, driver: FakeDriver, app: App, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "state", lambda pid: "moving" if pid == app.pid else "gone")
    with pytest.raises(GpuError, match="between two states") as given_up:
        trees.settle(token, 0.1)
    assert given_up.value.harm == "lost"


# Whose it is


def test_one_that_has_overwritten_its_environment_belongs_to_its_parent(gpus: FakeGpus, token: str) -> None:
    """As setproctitle does: it writes over what /proc shows."""
    overwritten = f"""
import ctypes, os
place = ctypes.CDLL(None).getenv
place.restype = ctypes.c_void_p
place.argtypes = [ctypes.c_char_p]
at = place(b"WARMD_WORKER_TOKEN") - len("WARMD_WORKER_TOKEN=")
ctypes.memset(at, 120, len("WARMD_WORKER_TOKEN=") + 64)
{PROGRAM}"""
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {overwritten!r}])"
    with running(app := App(token, parent, **gpus.environment)):
        assert app.ask("alloc", "weights", "x") is None
        (child,) = map(int, Path(f"/proc/{app.pid}/task/{app.pid}/children").read_text().split())
        assert token.encode() not in Path(f"/proc/{child}/environ").read_bytes()
        assert token_of(child, os.getpid()) == token
        assert token_of(os.getpid(), os.getpid()) == ""
    until(lambda: not Path(f"/proc/{child}").exists())
    assert token_of(child, os.getpid()) == ""
