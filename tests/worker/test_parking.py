"""GPU memory goes and comes between calls, and what fails on the way."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.daemon import FakeDaemon, started
from tests.worker.test_start import starting
from warmd.protocol.gpus import (
    Checkpointable,
    KeepsMemory,
    Offloaded,
    Park,
    ParkFailed,
    Unpark,
    Unparked,
)
from warmd.protocol.values import unpack
from warmd.protocol.work import Finish, Ready, Returned, StartFailed

KINDS = pytest.mark.parametrize("kind", ["Hooks", "AsyncHooks"])
Start = Callable[..., FakeDaemon]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, FakeDaemon]]:
    """One of each kind for all tests: whatever a move does, the worker goes on."""
    kinds = ["Hooks", "AsyncHooks", "Offloads", "OffloadsAndHooks", "UsesTorch"]
    all = {kind: started(f"worker.zoo_parking:{kind}", tmp_path_factory) for kind in kinds}
    yield {kind: next(one) for kind, one in all.items()}
    for one in all.values():
        next(one, None)


@pytest.fixture
def start(workers: dict[str, FakeDaemon]) -> Start:
    """A worker of a kind, with nothing parked; `fail` says what raises what, once."""

    def start(kind: str, fail: dict[str, str] | None = None, **more: Any) -> FakeDaemon:
        worker = workers[kind]
        worker.value("again")
        said(worker, Unpark(0))
        worker.value("again", {"fail": fail, **more})
        worker.log.write_text("")
        return worker

    return start


def said(worker: FakeDaemon, order: Park | Unpark) -> Any:
    worker.tell(order)
    return worker.next()


def done(worker: FakeDaemon) -> list[str]:
    found: list[str] = worker.value("facts")
    return found


@KINDS
def test_hooks_take_it_out_and_bring_it_back(start: Start, kind: str) -> None:
    worker = start(kind)
    assert said(worker, Park(1)) == Offloaded(1)
    assert said(worker, Unpark(2)) == Unparked(2)
    assert said(worker, Park(3)) == Offloaded(3)
    assert said(worker, Unpark(4)) == Unparked(4)
    assert done(worker) == ["park", "unpark"] * 2
    assert "park is printed" in worker.log_text()


@KINDS
def test_a_park_that_raises_is_undone(start: Start, kind: str) -> None:
    worker = start(kind, {"park": "a fault"})
    assert said(worker, Park(1)) == KeepsMemory(1, "park raised ValueError: a fault in park")
    assert done(worker) == ["park", "unpark"]
    assert "warmd: park raised:\nTraceback" in worker.log_text()
    assert said(worker, Park(2)) == Offloaded(2)


@KINDS
def test_where_that_cannot_be_undone_it_must_end(start: Start, kind: str) -> None:
    worker = start(kind, {"park": "one", "unpark": "two"})
    text = "park raised ValueError: one in park; to undo that, unpark raised ValueError: two in unpark"
    assert said(worker, Park(1)) == ParkFailed(1, text)


@KINDS
@pytest.mark.parametrize("shortage", ["memory", "cause"])
def test_too_little_memory_leaves_it_parked(start: Start, kind: str, shortage: str) -> None:
    worker = start(kind, {"unpark": shortage})
    said(worker, Park(1))
    reply = said(worker, Unpark(2))
    assert isinstance(reply, KeepsMemory) and reply.move == 2
    assert "unpark raised " in reply.message
    assert said(worker, Unpark(3)) == Unparked(3)
    assert done(worker) == ["park", "unpark", "park", "unpark"]


def test_too_little_memory_and_no_way_back(start: Start) -> None:
    worker = start("Hooks")
    said(worker, Park(1))
    # Nobody may call a parked worker; here it has no GPU, and is told so what is to fail.
    worker.call("then", {"fail": {"unpark": "memory", "park": "now"}})
    reply = said(worker, Unpark(2))
    assert isinstance(reply, ParkFailed) and "to undo that, park raised ValueError: now" in reply.message


@KINDS
def test_another_error_on_the_way_back_ends_it(start: Start, kind: str) -> None:
    worker = start(kind, {"unpark": "a fault"})
    said(worker, Park(1))
    assert said(worker, Unpark(2)) == ParkFailed(2, "unpark raised ValueError: a fault in unpark")
    assert "warmd: unpark raised:\nTraceback" in worker.log_text()


@KINDS
def test_an_exit_is_a_failure_like_others(start: Start, kind: str) -> None:
    worker = start(kind, {"park": "exit"})
    assert said(worker, Park(1)) == KeepsMemory(1, "park raised SystemExit: 3")
    assert done(worker) == ["park", "unpark"]


@KINDS
def test_a_forked_child_does_not_answer(start: Start, kind: str) -> None:
    worker = start(kind, {"park": "fork"})
    assert said(worker, Park(1)) == Offloaded(1)
    assert worker.is_silent(0.05)
    assert done(worker) == ["park"]


def test_a_call_that_came_meanwhile_waits(start: Start) -> None:
    worker = start("AsyncHooks")
    worker.tell(Park(1))
    worker.tell(Unpark(2))
    worker.invoke("facts")
    assert worker.next() == Offloaded(1)
    assert worker.next() == Unparked(2)
    reply = worker.next()
    assert isinstance(reply, Returned) and unpack(reply.value) == ["park", "unpark"]


def test_so_does_the_end(daemon: FakeDaemon) -> None:
    assert isinstance(daemon.start("worker.zoo_parking:AsyncHooks"), Ready)
    daemon.tell(Park(3))
    daemon.tell(Finish("ended"))
    assert daemon.next() == Offloaded(3)
    assert daemon.exit_code() == 0


def test_a_move_that_the_app_has_cancelled_is_answered(start: Start) -> None:
    worker = start("AsyncHooks")
    worker.value("cancel_next")
    assert said(worker, Park(1)) == KeepsMemory(1, "the app has cancelled it before it began")
    assert said(worker, Park(2)) == Offloaded(2)


def test_a_hook_that_nobody_awaits_is_refused(start: Start) -> None:
    worker = start("Hooks", {"awaited": "park"})
    reply = said(worker, Park(1))
    assert isinstance(reply, KeepsMemory) and "declare it with `async def`" in reply.message


# What `warmd.gpu.offload` keeps


def test_what_is_offloaded_goes_after_the_hook_and_comes_before_it(start: Start) -> None:
    worker = start("OffloadsAndHooks")
    assert said(worker, Park(1)) == Offloaded(1)
    assert said(worker, Unpark(2)) == Unparked(2)
    assert done(worker) == ["park", "a out", "b out", "b back", "a back", "unpark"]


def test_without_hooks_it_is_enough(start: Start) -> None:
    worker = start("Offloads")
    assert said(worker, Park(1)) == Offloaded(1)
    assert worker.value("parked") == [True, True]
    assert said(worker, Unpark(2)) == Unparked(2)
    assert worker.value("parked") == [False, False]


def test_what_cannot_be_taken_out_is_brought_back(start: Start) -> None:
    worker = start("OffloadsAndHooks", {"b out": "a fault"})
    assert said(worker, Park(1)) == KeepsMemory(1, "warmd.gpu.offload raised ValueError: a fault in b out")
    assert done(worker) == ["park", "a out", "b out", "a back", "unpark"]
    assert worker.value("parked") == [False, False]


@pytest.mark.parametrize("where", ["a back", "unpark"])
def test_too_little_memory_takes_all_out_again(start: Start, where: str) -> None:
    worker = start("OffloadsAndHooks", {where: "memory"})
    said(worker, Park(1))
    assert isinstance(said(worker, Unpark(2)), KeepsMemory)
    assert worker.value("parked") == [True, True]
    assert said(worker, Unpark(3)) == Unparked(3)
    assert worker.value("parked") == [False, False]
    steps = done(worker)
    assert steps.count("park") == steps.count("unpark") == (2 if where == "unpark" else 1)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch")
def test_weights_of_torch_go_and_come(daemon: FakeDaemon) -> None:
    assert isinstance(daemon.start("worker.zoo_weights:Offloaded"), Ready)
    before, size_bytes = daemon.value("run"), daemon.value("storage_bytes")
    assert size_bytes == 500 * 500 * 4
    daemon.value("fail")
    assert said(daemon, Park(1)) == Offloaded(1)
    assert daemon.value("storage_bytes") == 0
    reply = said(daemon, Unpark(2))
    assert isinstance(reply, KeepsMemory)
    assert reply.message.startswith("warmd.gpu.offload raised torch.OutOfMemoryError: tried to")
    assert daemon.value("storage_bytes") == 0
    assert said(daemon, Unpark(3)) == Unparked(3)
    assert (daemon.value("run"), daemon.value("storage_bytes")) == (before, size_bytes)
    assert daemon.value("drop") == 0
    assert said(daemon, Park(4)) == Checkpointable(4)


# Without the app's help


def test_an_app_without_any_is_left_to_the_driver(start: Start) -> None:
    worker = start("Offloads", kept=())
    assert said(worker, Park(1)) == Checkpointable(1)
    assert done(worker) == []


def test_what_torch_keeps_for_later_is_given_back_before(start: Start) -> None:
    worker = start("UsesTorch")
    assert said(worker, Park(1)) == Checkpointable(1)
    assert done(worker) == ["empty"]


def test_a_cuda_error_is_told(start: Start) -> None:
    worker = start("UsesTorch", {"empty": "a fault"})
    text = "torch.cuda.empty_cache raised ValueError: a fault in empty"
    assert said(worker, Park(1)) == KeepsMemory(1, text)


def test_what_excludes_the_driver_is_named(start: Start) -> None:
    worker = start("UsesTorch", exclusions=("weights are shared",))
    assert said(worker, Park(1)) == KeepsMemory(1, "the driver cannot move it: weights are shared")
    assert done(worker) == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [("OnlyPark", "has park() but no unpark()"), ("OnlyUnpark", "has unpark() but no park()")],
)
def test_one_hook_without_the_other_is_an_error(daemon: FakeDaemon, kind: str, text: str) -> None:
    failed = daemon.start(f"worker.zoo_parking:{kind}")
    assert isinstance(failed, StartFailed)
    assert (failed.phase, failed.type) == ("imports", "TypeError") and text in failed.message


# The GPUs that it may use


def test_the_gpus_are_known_before_the_import(daemon: FakeDaemon) -> None:
    assert isinstance(daemon.start("worker.zoo_parking:Visible", gpus=["GPU-1", "GPU-2"]), Ready)
    assert daemon.value("run") == ["GPU-1,GPU-2"] * 2


def test_so_they_are_in_an_interpreter_of_its_own(daemon: FakeDaemon, tmp_path: Path) -> None:
    import sys

    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    daemon.spawn(starting(daemon, str(python)), {"PYTHONPATH": ":".join(sys.path)})
    daemon.admit()
    daemon.begin("worker.zoo_parking:Visible", gpus=[])
    assert isinstance(daemon.next(), Ready)
    assert daemon.value("run") == ["", ""]


def test_without_gpus_the_environment_says_it(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert isinstance(daemon.start("worker.zoo_parking:Visible"), Ready)
    assert daemon.value("run") == ["7", "7"]


# The end


@pytest.mark.parametrize(("parked", "notes"), [(True, ["stopped"]), (False, ["stopped", "exit"])])
def test_what_the_driver_holds_leaves_without_exit_handlers(
    daemon: FakeDaemon, tmp_path: Path, parked: bool, notes: list[str]
) -> None:
    path = tmp_path / "notes"
    assert isinstance(daemon.start("worker.zoo_parking:HangsAtExit", setup=str(path)), Ready)
    daemon.tell(Finish("stopped", parked))
    assert daemon.exit_code() == 0
    assert path.read_text().split() == notes
    assert "unloaded" in daemon.log_text()
