"""The GPU that is measured: a real one, or one of files, on which the same parts are tried.

Nothing here touches CUDA: a context of this process would be among what is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from benchmarks.gpuparts.rows import Missing
from warmd.daemon.gpu.driver import GpuError
from warmd.daemon.gpu.nvidia import open_driver

ROOT = Path(__file__).parents[2]
GIB = 2**30
MIB = 2**20
ONCE = "benchmarks.gpuparts.once"
START_SECONDS = 120.0


class Card(Protocol):
    id: str
    total_bytes: int
    driver_name: str
    apps: str
    """The module of the apps that use it."""
    gib: int
    """Bytes that stand for a GiB in the sizes of the parts."""
    ways: tuple[str, ...]
    """How its apps can be parked."""
    environment: dict[str, str]

    def used_bytes(self) -> int:
        """By all, as the driver tells."""

    def pids(self) -> set[int]:
        """Those that have memory there."""

    def ballast(self, size_bytes: int) -> contextlib.AbstractContextManager[None]:
        """Somebody else uses so much."""

    def facts(self) -> dict[str, Any]: ...


class Nvidia:
    """The first visible GPU, as NVML shows it."""

    driver_name = "nvidia"
    apps = "benchmarks.gpuparts.apps"
    gib = GIB
    ways = ("driver", "offload")

    def __init__(self) -> None:
        """Raises GpuError where there is none."""
        self._driver = open_driver()
        devices = self._driver.devices()
        if not devices:
            raise GpuError("unavailable", "no GPU is visible (CUDA_VISIBLE_DEVICES)")
        self.id, self.total_bytes, self._name = devices[0].id, devices[0].total_bytes, devices[0].name
        self.environment = {"CUDA_VISIBLE_DEVICES": self.id}

    def used_bytes(self) -> int:
        return self._device().used_bytes

    def pids(self) -> set[int]:
        return set(self._device().processes)

    def _device(self) -> Any:
        return next(one for one in self._driver.devices() if one.id == self.id)

    @contextlib.contextmanager
    def ballast(self, size_bytes: int) -> Iterator[None]:
        if size_bytes <= 0:
            yield
            return
        with once("ballast", str(size_bytes)):
            yield

    def facts(self) -> dict[str, Any]:
        nvml: Any = self._driver._nvml
        cuda = nvml.nvmlSystemGetCudaDriverVersion()
        return {
            "device": f"{self._name}, {self.total_bytes / GIB:.1f} GiB",
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "CUDA": f"{cuda // 1000}.{cuda % 1000 // 10}",
            **{name: version_of(name) for name in ("torch", "transformers", "cuda-bindings")},
        }


FAKE_DEVICE = "a fake one, whose figures mean nothing"


class Fake:
    """As large as 16 GiB, where a MiB stands for a GiB."""

    driver_name = "tests.fakegpu"
    apps = "benchmarks.gpuparts.fakeapps"
    gib = MIB
    ways = ("driver",)
    id = "GPU-fake"
    total_bytes = 16 * MIB

    def __init__(self, folder: Path) -> None:
        from tests.fakegpu import FakeGpus

        self._gpus = FakeGpus(folder / "gpus", {self.id: self.total_bytes})
        self.environment = dict(self._gpus.environment)

    def used_bytes(self) -> int:
        return self._gpus.used(self.id)

    def pids(self) -> set[int]:
        with self._gpus.folder.locked():
            return {process.pid for process in self._gpus.folder.processes() if process.on(self.id)}

    @contextlib.contextmanager
    def ballast(self, size_bytes: int) -> Iterator[None]:
        self._gpus.stranger(self.id, max(0, size_bytes))
        yield
        self._gpus.stranger(self.id, 0)

    def facts(self) -> dict[str, Any]:
        return {"device": FAKE_DEVICE}


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not there)"


def needs(*modules: str) -> None:
    """Raises Missing where one is not installed."""
    missing = [name for name in modules if find_spec(name.partition(".")[0]) is None]
    if missing:
        raise Missing(f"not installed: {', '.join(missing)}")


class Once:
    """A process of `once`, which has answered a line when it is made."""

    def __init__(self, process: subprocess.Popen[str], begun: float) -> None:
        self.process = process
        self.first = self._line()
        self.seconds = time.perf_counter() - begun
        """From its start to its first answer."""

    def ask(self) -> Any:
        """Its next answer."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.kill()
            raise RuntimeError(f"the process beside has failed:\n{self.process.communicate()[1][-3000:]}")
        return json.loads(line)


@contextlib.contextmanager
def once(*arguments: str) -> Iterator[Once]:
    """A process without warmd, up to the end of the block.  Raises RuntimeError where it fails."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", ONCE, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT, env={**os.environ},
    )  # fmt: skip
    try:
        yield Once(process, begun)
    finally:
        process.kill()
        process.communicate()
