"""What all parts work with: a card, a daemon with apps, and waiting until memory is back."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import warmd
from benchmarks.gpuparts.cards import ROOT, Card
from warmd.owndaemon import LocalClient

TICK_SECONDS = 0.002
CALL_SECONDS = 300.0
SLACK_GIB = 1.5
"""What a process has on a GPU beside its tensors: its context, and what libraries keep."""


class Bench:
    """One GPU, and what is asked of it.  `full`: also what takes more than the ten minutes of all."""

    def __init__(self, card: Card, *, full: bool = False, rounds: int = 3) -> None:
        self.card = card
        self.full = full
        self.rounds = rounds

    @property
    def is_real(self) -> bool:
        return self.card.driver_name == "nvidia"

    def bytes(self, gib: float) -> int:
        return int(gib * self.card.gib)

    def gib(self, size_bytes: float) -> float:
        return size_bytes / self.card.gib

    @contextlib.contextmanager
    def daemon(self, apps: dict[str, tuple[str, str]], **settings: Any) -> Iterator[LocalClient]:
        """One that has apps: by name the class, of the card's module, and the lines of its app.toml."""
        with tempfile.TemporaryDirectory() as folder:
            for name, (kind, asks) in apps.items():
                path = Path(folder, name)
                path.mkdir()
                base = f"from {self.card.apps} import {kind}\n\n\nclass App({kind}):\n    pass\n"
                (path / "app.py").write_text(base)
                (path / "app.toml").write_text(f"{asks}\n")
            found = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
            own = {"app_folders": folder, "session_timeout": "1h", "gpu_driver": self.card.driver_name}
            with (
                patch.dict(os.environ, {"PYTHONPATH": found}),
                warmd.local(**{**own, **settings}) as client,
            ):
                yield client

    def asks(self, gib: float) -> str:
        """The line of an app.toml, for so much and what comes with it."""
        return f'gpu = "{self.bytes(gib + SLACK_GIB) // 1024}KiB"'

    def until(self, what: str, condition: Any, seconds: float) -> float:
        """Seconds until that is so.  Raises TimeoutError."""
        begun = time.perf_counter()
        while not condition():
            if time.perf_counter() - begun > seconds:
                raise TimeoutError(f"{what}: not within {seconds:g} s")
            time.sleep(TICK_SECONDS)
        return time.perf_counter() - begun


def timed(work: Any) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begun = time.perf_counter()
    found = work()
    return time.perf_counter() - begun, found


def called(session: Any, function: str, input: Any = None) -> Any:
    """What a function gives."""
    return session.call(function, input, timeout=CALL_SECONDS).output
