"""`warmd doctor` on GPUs: fake ones, and a machine whose driver is only a file."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.fakegpu import DRIVER, FakeGpus
from tests.gpu.apps import App, running
from tests.sdk.gpubox import GIB, GPU, gpu_box
from warmd.cli import gpuchecks
from warmd.cli.findings import Host
from warmd.daemon.gpu.driver import GpuError

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (x@y)\nGCC version: 12.3\n"
)


def host(root: Path, **environ: str) -> Host:
    """A machine whose processes are the real ones."""
    (root / "dev").mkdir(exist_ok=True)
    if not (root / "proc").exists():
        (root / "proc").symlink_to("/proc")
    return Host(None, {"WARMD_RUN_DIR": str(root / "run"), "HOME": str(root), **environ}, root)


def told(at: Host) -> list[tuple[str, str]]:
    return list(gpuchecks.gpu(at))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    gpus = FakeGpus(tmp_path / "gpus", {GPU: 16 * GIB})
    for name, value in gpus.environment.items():
        monkeypatch.setenv(name, value)
    return gpus


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a driver and both libraries, as far as can be seen."""
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(VERSION.format("580.65.06"))
    monkeypatch.setattr(metadata, "version", lambda _name: "13")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(gpuchecks, "looked", lambda _driver: ())
    return tmp_path


def test_a_machine_without_a_gpu_has_one_quiet_line(tmp_path: Path) -> None:
    assert told(host(tmp_path)) == [("ok", "no NVIDIA driver is here, and none is needed")]
    assert told(host(tmp_path, WARMD_GPU_DRIVER="off"))[0][1].startswith("GPUs are left alone")


@pytest.mark.parametrize(
    ("driver", "level", "said"),
    [
        ("off", "ok", "the daemon here was started with another setting: GPUs are left alone"),
        ("nosuch.driver", "warn", "the daemon here sees no GPU (there is no GPU driver 'nosuch.driver'"),
    ],
)
def test_a_daemon_with_another_driver(tmp_path: Path, driver: str, level: str, said: str) -> None:
    with warmd.testing.daemon(gpu_driver=driver) as client:
        client.status()
        at = host(tmp_path)
        quiet, found = told(Host(client.address, at.environ, at.root))
    assert quiet == ("ok", "no NVIDIA driver is here, and none is needed")
    assert found[0] == level and found[1].startswith(said)


def test_a_daemon_that_says_the_same_is_no_news(tmp_path: Path) -> None:
    with warmd.testing.daemon(gpu_driver="off") as client:
        client.status()
        at = host(tmp_path, WARMD_GPU_DRIVER="off")
        assert len(told(Host(client.address, at.environ, at.root))) == 1


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (
            ["nvidia-ml-py", "cuda-bindings"],
            "GPU memory is not looked at, for want of nvidia-ml-py and cuda-",
        ),
        (["cuda-bindings"], "GPU memory is moved only by apps themselves, for want of cuda-bindings"),
    ],
)
def test_the_extra_is_missing(
    nvidia: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str], said: str
) -> None:
    def version(name: str) -> str:
        if name in missing:
            raise metadata.PackageNotFoundError(name)
        return "13"

    monkeypatch.setattr(metadata, "version", version)
    level, text = told(host(nvidia))[0]
    assert level == "warn" and text.startswith(said)
    assert text.endswith("run `pip install 'warmd[gpu]'`")


def test_an_old_driver(nvidia: Path) -> None:
    (nvidia / "proc/driver/nvidia/version").write_text(VERSION.format("535.54.03"))
    level, text = told(host(nvidia))[0]
    assert level == "warn" and text.startswith("driver 535.54.03 moves no GPU memory") and "570" in text


def test_another_architecture(nvidia: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert told(host(nvidia))[0] == (
        "warn",
        "the driver is documented to move GPU memory on x86-64 alone, not on aarch64: " + gpuchecks.ALONE,
    )


def test_a_driver_that_shows_nothing(nvidia: Path) -> None:
    assert told(host(nvidia))[0][1].startswith("the driver shows no GPU: look at `nvidia-smi`")
    (found,) = told(host(nvidia, CUDA_VISIBLE_DEVICES="7"))
    assert found == ("warn", "CUDA_VISIBLE_DEVICES='7' leaves no GPU: unset it where the daemon is started")


@pytest.mark.usefixtures("fake")
def test_what_there_is_and_who_else_has_of_it(tmp_path: Path) -> None:
    app = App()
    with running(app):
        app.ask("alloc", "w", "x" * 600)
        found = told(host(tmp_path, WARMD_GPU_DRIVER=DRIVER, CUDA_VISIBLE_DEVICES="0"))
    assert found == [
        ("ok", "GPU 0 (Fake H100), 600B of 16.0G used; CUDA_VISIBLE_DEVICES='0' leaves no other"),
        ("ok", f"not of sessions here: process {app.pid} 600B of GPU 0"),
    ]


def test_a_driver_that_does_not_know_the_pids_of_a_container(tmp_path: Path, fake: FakeGpus) -> None:
    fake.show_processes(False)
    _, (level, text) = told(host(tmp_path, WARMD_GPU_DRIVER=DRIVER))
    assert level == "warn" and "does not know the pids of this container" in text and "(gpu = ...)" in text


@pytest.mark.parametrize("fault", ["unavailable", "crash"])
def test_a_driver_that_fails(tmp_path: Path, fake: FakeGpus, fault: str) -> None:
    fake.fault(fault, "look")
    ((level, text),) = told(host(tmp_path, WARMD_GPU_DRIVER=DRIVER))
    assert level == "bad" and text.startswith("the GPUs cannot be looked at (")
    assert "gpu_driver = 'off'" in text


def test_a_driver_that_hangs(fake: FakeGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpuchecks, "LOOK_SECONDS", 0.05)
    fake.fault("hang", "look")
    with pytest.raises(GpuError, match="has not answered within"):
        gpuchecks.looked(DRIVER)


def test_memory_of_no_session(tmp_path: Path) -> None:
    with gpu_box(tmp_path / "box") as box, box.client.session("llama") as session:
        run_dir, daemon = str(box.client.run_dir), str(box.client.daemon_pid)
        env: dict[str, Any] = {"WARMD_RUN_DIR": run_dir, "WARMD_DAEMON_PID": daemon}
        left, stray = App("a" * 64, **env), App("b" * 64, **{**env, "WARMD_DAEMON_PID": "999999999"})
        with running(left, stray):
            for app in (left, stray):
                app.ask("alloc", "w", "x" * 600)
            at = host(tmp_path, WARMD_GPU_DRIVER=DRIVER)
            found = told(Host(box.client.address, at.environ, at.root))
        assert session.run().output is True
    bad = sorted(text for level, text in found if level == "bad")
    assert [int(re.findall(r"kill -9 (\d+)", text)[0]) for text in bad] == sorted([left.pid, stray.pid])
    assert all("belongs to no session any more" in text for text in bad)
    assert not any("not of sessions" in text for _, text in found)
