"""The NVIDIA driver, on stand-ins for its two libraries."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.gpu.standins import Cuda, Nvml
from warmd.daemon.gpu import nvidia
from warmd.daemon.gpu.driver import GpuError, open_driver, why_unavailable


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    module = Nvml()
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(nvidia, "SIGNS", ("/dev/null",))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return module


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    module = Cuda()
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", ModuleType("cuda.bindings"))
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", module)
    return module


@pytest.fixture
def driver(nvml: Nvml) -> Any:
    assert not why_unavailable("nvidia")
    found = open_driver("nvidia")
    assert nvml.is_open
    return found


# Facts


def test_what_there_is(driver: Any) -> None:
    first, second = driver.devices()
    assert (first.id, first.index, first.name) == ("GPU-00", 0, "NVIDIA H100 80GB HBM3")
    assert (first.total_bytes, first.used_bytes, first.utilization) == (1000, 605, 42)
    assert first.processes == {10: 600, 11: None, 12: 5}
    assert (second.id, second.index, second.processes) == ("GPU-11", 1, {})


@pytest.mark.parametrize(
    ("compute", "graphics", "bytes"),
    [(600, 600, 600), (600, 700, 700), (None, 600, 600), (600, None, 600), (None, None, None)],
)
def test_a_process_that_computes_and_draws_counts_once(
    driver: Any, nvml: Nvml, compute: int | None, graphics: int | None, bytes: int | None
) -> None:
    nvml.compute, nvml.graphics = [(10, compute)], [(10, graphics)]
    assert driver.devices()[0].processes == {10: bytes}


@pytest.mark.parametrize(
    ("is_container", "living", "shown"),
    [(False, [], True), (True, [], False), (True, [12], False), (True, [10, 11, 12], True)],
)
def test_whether_the_driver_knows_the_pids_of_here(
    driver: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    is_container: bool,
    living: list[int],
    shown: bool,
) -> None:
    """A container's driver may list the machine's pids, which are nobody's here."""
    namespace = tmp_path / "self/ns/pid"
    namespace.parent.mkdir(parents=True)
    namespace.touch()
    for pid in living:
        (tmp_path / str(pid)).mkdir()
    monkeypatch.setattr(nvidia, "PIDS", tmp_path)
    monkeypatch.setattr(nvidia, "FIRST_PID_NAMESPACE", 0 if is_container else namespace.stat().st_ino)
    assert driver.devices()[0].shows_processes is shown


def test_where_there_are_no_namespaces_it_is_as_in_a_container(
    driver: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nvidia, "PIDS", tmp_path)
    assert not driver.devices()[0].shows_processes


def test_what_a_gpu_does_not_tell_is_left_out(driver: Any, nvml: Nvml) -> None:
    nvml.refusing = {
        "nvmlDeviceGetUtilizationRates": nvml.NVML_ERROR_NOT_SUPPORTED,
        "nvmlDeviceGetMigMode": nvml.NVML_ERROR_NOT_SUPPORTED,
        "nvmlDeviceGetGraphicsRunningProcesses": nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    }
    first = driver.devices()[0]
    assert (first.utilization, first.processes) == (None, {10: 600, 11: None})


def test_only_what_is_visible_is_told(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [one.index for one in driver.devices()] == [1]


def test_gpus_that_are_split_are_left_out_and_alone_refused(
    driver: Any, nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.split = {0}
    assert [one.index for one in driver.devices()] == [1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(GpuError, match=r"split into MIG devices.*-i 0 -mig 0") as refused:
        driver.devices()
    assert refused.value.kind == "unsupported"


def test_an_error_of_the_library_is_said(driver: Any, nvml: Nvml) -> None:
    nvml.refusing = {"nvmlDeviceGetHandleByIndex": nvml.NVML_ERROR_GPU_IS_LOST}
    with pytest.raises(GpuError, match="NVML: code 15") as refused:
        driver.devices()
    assert refused.value.kind == "unavailable"


# What is missing


def test_without_a_driver_or_a_library_it_says_what_to_do(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.refusing = {"nvmlInit": 9}
    with pytest.raises(GpuError, match="NVML cannot be started: code 9"):
        open_driver("nvidia")
    monkeypatch.setattr(nvidia, "find_spec", lambda _: None)
    assert "pip install 'warmd[gpu]'" in why_unavailable("nvidia")
    with pytest.raises(GpuError, match=r"pip install 'warmd\[gpu\]'"):
        open_driver("nvidia")
    monkeypatch.setattr(nvidia, "SIGNS", ("/nowhere",))
    assert why_unavailable("nvidia") == "no NVIDIA driver is here"
    with pytest.raises(GpuError, match="no NVIDIA driver is here"):
        open_driver("nvidia")


def test_a_driver_that_does_not_exist_is_named() -> None:
    assert "'no.such.driver'" in why_unavailable("no.such.driver")
    with pytest.raises(GpuError, match=r"no\.such\.driver"):
        open_driver("no.such.driver")


@pytest.mark.parametrize("name", ["cuda", "cuda.bindings.driver"])
def test_without_the_library_that_moves_there_are_only_facts(
    driver: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert len(driver.devices()) == 2
    with pytest.raises(GpuError, match=r"warmd\[gpu\]") as refused:
        driver.checkpoint(10, 1.0)
    assert refused.value.kind == "unavailable"


@pytest.mark.parametrize("failure", ["CUDA_ERROR_NO_DEVICE", RuntimeError("libcuda.so is not found")])
def test_where_cuda_does_not_start_it_is_tried_again(
    driver: Any, cuda: Cuda, failure: str | Exception
) -> None:
    cuda.failing = {"cuInit": failure}
    with pytest.raises(GpuError, match=r"CUDA cannot be started: .*(NO_DEVICE|libcuda)") as refused:
        driver.restore(10)
    assert (refused.value.kind, cuda.calls) == ("unavailable", [])
    cuda.failing = {}
    driver.checkpoint(10, 1.0)


def test_an_old_driver_is_named(driver: Any, cuda: Cuda) -> None:
    cuda.failing = {"Lock": RuntimeError('Function "cuCheckpointProcessLock" not found')}
    with pytest.raises(GpuError, match="driver 570 or newer") as refused:
        driver.checkpoint(10, 1.0)
    assert refused.value.kind == "unsupported"


# Moves


def test_there_and_back(driver: Any, cuda: Cuda) -> None:
    assert driver.state(10) == "running"
    driver.checkpoint(10, 1.5)
    assert (driver.state(10), cuda.timeouts) == ("checkpointed", [1500])
    driver.restore(10)
    assert driver.state(10) == "running"
    assert cuda.calls == ["Lock", "Checkpoint", "Restore", "Unlock"]


def test_a_lock_never_waits_for_ever(driver: Any, cuda: Cuda) -> None:
    driver.checkpoint(10, 0.0)
    assert cuda.timeouts == [1], "0 is no bound at all"


@pytest.mark.parametrize(
    ("named", "kind"),
    [
        ("CUDA_ERROR_NOT_READY", "busy"),
        ("CUDA_ERROR_OUT_OF_MEMORY", "no_memory"),
        ("CUDA_ERROR_NOT_SUPPORTED", "unsupported"),
        ("CUDA_ERROR_ILLEGAL_STATE", "illegal"),
        ("CUDA_ERROR_UNKNOWN", "illegal"),
        ("CUDA_ERROR_INVALID_VALUE", "gone"),
    ],
)
@pytest.mark.parametrize("function", ["Lock", "Checkpoint", "Restore"])
def test_what_fails_leaves_the_process_as_it_was(
    driver: Any, cuda: Cuda, named: str, kind: str, function: str
) -> None:
    if function == "Restore":
        driver.checkpoint(10, 1.0)
    before = cuda.status
    cuda.failing = {function: named}
    with pytest.raises(GpuError, match=named) as refused:
        driver.restore(10) if function == "Restore" else driver.checkpoint(10, 1.0)
    assert (refused.value.kind, refused.value.harm) == (kind, "none")
    assert cuda.status == before, "a lock is taken back"


@pytest.mark.parametrize("function", ["Checkpoint", "Restore"])
def test_a_process_that_the_driver_calls_failed_is_lost(driver: Any, cuda: Cuda, function: str) -> None:
    if function == "Restore":
        driver.checkpoint(10, 1.0)
    cuda.failing, cuda.after = {function: "CUDA_ERROR_OUT_OF_MEMORY"}, {function: 3}
    with pytest.raises(GpuError, match="OUT_OF_MEMORY") as lost:
        driver.restore(10) if function == "Restore" else driver.checkpoint(10, 1.0)
    assert (lost.value.kind, lost.value.harm) == ("failed", "lost")
    assert driver.state(10) == "failed"


def test_a_failed_checkpoint_that_was_made_all_the_same_is_taken_back(driver: Any, cuda: Cuda) -> None:
    cuda.failing, cuda.after = {"Checkpoint": "CUDA_ERROR_UNKNOWN"}, {"Checkpoint": 2}
    with pytest.raises(GpuError) as refused:
        driver.checkpoint(10, 1.0)
    assert (refused.value.harm, driver.state(10)) == ("none", "running")


@pytest.mark.parametrize("second", ["Unlock", "GetState"])
def test_what_cannot_be_taken_back_is_said_to_be_lost(driver: Any, cuda: Cuda, second: str) -> None:
    cuda.failing = {"Checkpoint": "CUDA_ERROR_OUT_OF_MEMORY", second: "CUDA_ERROR_UNKNOWN"}
    with pytest.raises(GpuError, match="OUT_OF_MEMORY") as lost:
        driver.checkpoint(10, 1.0)
    assert lost.value.harm == "lost"


def test_one_that_is_restored_and_stays_locked_can_be_unlocked_later(driver: Any, cuda: Cuda) -> None:
    driver.checkpoint(10, 1.0)
    cuda.failing = {"Unlock": "CUDA_ERROR_UNKNOWN"}
    with pytest.raises(GpuError, match="stays locked") as refused:
        driver.restore(10)
    assert (refused.value.harm, driver.state(10)) == ("mixed", "locked")
    cuda.failing = {}
    driver.unlock(10)
    assert driver.state(10) == "running"


def test_states_of_newer_drivers_are_between_two(driver: Any, cuda: Cuda) -> None:
    for number in (4, 5):
        cuda.status = number
        assert driver.state(10) == "moving"
    assert driver.state(11) == "gone"
    cuda.failing = {"GetState": ValueError("4 is not a valid CUprocessState")}
    assert driver.state(10) == "moving"
    cuda.failing = {"GetState": "CUDA_ERROR_NOT_SUPPORTED"}
    with pytest.raises(GpuError):
        driver.state(10)


def test_an_error_without_a_name_does_no_harm(driver: Any, cuda: Cuda) -> None:
    cuda.failing = {"Checkpoint": KeyError(999)}
    with pytest.raises(GpuError, match="error 999") as refused:
        driver.checkpoint(10, 1.0)
    assert (refused.value.kind, refused.value.harm, driver.state(10)) == ("illegal", "none", "running")


def test_it_lets_go_of_the_library(driver: Any, nvml: Nvml) -> None:
    driver.close()
    assert not nvml.is_open
