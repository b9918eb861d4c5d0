"""A daemon on fake GPUs of 1000 bytes each, and apps for it: one for all tests of a module."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.fakegpu import FakeGpus
from tests.faults.hastygpu import VARIABLE
from tests.faults.watch import open_all, until
from tests.zoo_gpus import changed, made
from warmd import plan
from warmd.owndaemon import LocalClient
from warmd.result import Info

ROOT = Path(__file__).parents[2]
DRIVER = "tests.faults.hastygpu"
TOTAL = 1000
A, B, C = "GPU-aaaaaaaa", "GPU-bbbbbbbb", "GPU-cccccccc"


class Stage:
    """A daemon, its GPUs and the folder that its apps are in."""

    def __init__(self, client: LocalClient, gpus: FakeGpus, apps: Path) -> None:
        self.client = client
        self.gpus = gpus
        self.apps = apps
        self.kept: set[str] = set()
        """Sessions of all tests: without any nobody looks at the GPUs."""

    def app(self, entry: str, **manifest: object) -> str:
        """The name of an app, a class of `tests/zoo_gpus.py`, with a manifest like that."""
        lines = [f'entry = "zoo_gpus:{entry}"', f'paths = ["{ROOT}", "{ROOT / "tests"}"]']
        lines += [f"{key} = {spelled(value)}" for key, value in sorted(manifest.items())]
        name = "-".join([entry.lower(), *(f"{key}{value}" for key, value in sorted(manifest.items()))])
        name = "".join(letter for letter in name if letter.isalnum() or letter in "-_")[:60]
        folder = self.apps / name
        if not folder.exists():
            folder.mkdir()
            (folder / "app.toml").write_text("\n".join(lines))
        return name

    def open(self, entry: str, setup: Mapping[str, Any] | None = None, **manifest: object) -> Any:
        return self.client.session(self.app(entry, **manifest), setup=setup, timeout=20)

    def submit_open(self, entry: str, setup: Mapping[str, Any] | None = None, **manifest: object) -> Any:
        """A call that opens a session, which has perhaps to wait for it."""
        app = self.app(entry, **manifest)
        return self.client.submit(app=app, session="new", function="pid", setup=setup, timeout=20)

    def only(self, *devices: str) -> None:
        """Have no room on the others."""
        for device in self.ids():
            self.gpus.stranger(device, 0 if device in devices else TOTAL)
        until(lambda: all(self.seen(device) >= TOTAL for device in set(self.ids()) - set(devices)))

    def seen(self, device: str) -> int:
        """The bytes in use, as the daemon has seen them last."""
        return next(int(gpu["used"]) for gpu in self.client.status().gpus if gpu["id"] == device)

    def ids(self) -> list[str]:
        return [device["id"] for device in self.gpus.folder.devices()]

    def await_state(self, session: Any, state: str) -> Info:
        return until(lambda: info if (info := session.info()).state == state else None)

    def begin_park(self, session: Any) -> None:
        """Ask for it, and do not wait."""
        self.client._begin(plan.request("sessions.park", {"session": session.id}))

    def placing(self) -> list[Info]:
        """Those that wait for their place."""
        return [info for info in self.client.sessions.list() if info.state == "placing"]

    def keep_all(self) -> None:
        """What is there by now is of all tests."""
        self.kept.update(self.sessions())

    def sessions(self) -> list[str]:
        return [info.id for info in self.client.sessions.list() if info.id not in self.kept]

    def clear(self) -> None:
        """All as before: no session, no fault, no memory in use."""
        self.gpus.clear()
        for session in self.sessions():
            self.client.sessions.end(session)
        self.gpus.return_slowly(0)
        self.gpus.tell_bytes(True)
        self.gpus.show_processes(True)
        for device in self.ids():
            self.gpus.stranger(device, 0)
        until(lambda: self.client.status().sessions == len(self.kept))
        until(lambda: sum(map(self.gpus.used, self.ids())) == 0)


def spelled(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {spelled(one)}" for key, one in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


@contextlib.contextmanager
def staged(
    folder: Path,
    devices: int = 1,
    driver: str = DRIVER,
    move_seconds: float = 6.0,
    keeper: bool = True,
    **settings: object,
) -> Iterator[Stage]:
    """A stage with a daemon of its own, which serves until the end of the block.

    `move_seconds`: after so long a move is given up.  `keeper`: there is a session all the while.
    """
    gpus = FakeGpus(folder / "gpus", dict.fromkeys([A, B, C][:devices], TOTAL))
    apps = folder / "apps"
    apps.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        path = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{path}" if path else str(ROOT))
        for name, value in {**gpus.environment, VARIABLE: str(move_seconds)}.items():
            patch.setenv(name, value)
        given = {"session_timeout": 60, "end_grace": 5, "gpu_wait": 20, **settings}
        with warmd.testing.daemon(gpu_driver=driver, app_folders=str(apps), **given) as client:
            open_all(client)
            stage = Stage(client, gpus, apps)
            if keeper:
                stage.kept.add(stage.open("Plain").id)
            yield stage


def after(seed: int, calls: int, size: int = 600) -> bytes:
    """The weights of a session that was called so often, had it never been moved."""
    weights = made(seed, size)
    for _ in range(calls):
        weights = changed(weights)
    return weights
