"""A daemon on a fake GPU of 16 GiB, and apps that ask for a part of it: for tests of what users see."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import warmd
from tests.fakegpu import DRIVER, FakeGpus

ROOT = Path(__file__).parents[2]
GPU = "GPU-aaaa"
GIB = 2**30
APP = """
import os
import time
from pathlib import Path

from tests.fakegpu import FakeCuda

class App:
    def setup(self):
        self.cuda = FakeCuda()
        self.data = os.urandom(1000)
        self.cuda.alloc("weights", self.data)

    def run(self):
        return self.cuda.read("weights") == self.data

    def wait_for(self, path):
        while not Path(path).exists():
            time.sleep(0.01)
"""
APPS = {"llama": 'gpu = "10GiB"', "gemma": 'gpu = "9GiB"', "keeper": 'gpu = "2GiB"\npark = "never"'}


class Box:
    """`client` of the daemon, `gpus` that the test has go wrong."""

    def __init__(self, client: warmd.testing.LocalClient, gpus: FakeGpus) -> None:
        self.client = client
        self.gpus = gpus


@contextmanager
def gpu_box(path: Path, **settings: Any) -> Iterator[Box]:
    """The apps are `llama`, `gemma` and `keeper`, which is never parked; without a GPU there is `counter`."""
    gpus = FakeGpus(path / "gpus", {GPU: 16 * GIB})
    for name, asks in APPS.items():
        folder = path / "apps" / name
        folder.mkdir(parents=True)
        (folder / "app.py").write_text(APP)
        (folder / "app.toml").write_text(f"{asks}\n")
    # Where the driver is found, by the helper and by the apps.
    found = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    settings = {"app_folders": str(path / "apps"), "session_timeout": 60, **settings}
    with (
        patch.dict(os.environ, {**gpus.environment, "PYTHONPATH": found}),
        warmd.testing.daemon(gpu_driver=DRIVER, **settings) as client,
    ):
        client.status()
        yield Box(client, gpus)
