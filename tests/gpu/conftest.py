"""Two fake GPUs of 1000 bytes, a worker's process with 600 bytes on the first, and the daemon's end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakegpu import DRIVER, FakeGpus
from tests.gpu.apps import App
from warmd.daemon.devices import Devices
from warmd.daemon.loop import Loop

FIRST, SECOND = "GPU-aaaa-1", "GPU-bbbb-2"
WEIGHTS = "weights" * 85 + "12345"
PATIENCE_SECONDS = 20.0
TICK_SECONDS = 0.01


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    found = FakeGpus(tmp_path / "gpus", {FIRST: 1000, SECOND: 1000})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def token() -> str:
    return secrets.token_hex(32)


@pytest.fixture
def app(gpus: FakeGpus, token: str) -> Iterator[App]:
    made = App(token, **gpus.environment)
    try:
        assert made.ask("alloc", "weights", WEIGHTS) is None
        yield made
    finally:
        made.end()


class Daemon:
    """A loop, and what it has of GPUs."""

    def __init__(self, driver: str) -> None:
        self.loop = Loop()
        self.devices = Devices(self.loop, driver)

    def begin(self, ask: Callable[..., None], *arguments: Any) -> list[Any]:
        """Where the answer will be; a second one fails the test."""
        answers: list[Any] = []

        def done(answer: Any) -> None:
            answers.append(answer)
            assert len(answers) == 1, f"{ask.__name__} was answered more than once: {answers}"

        ask(*arguments, done)
        assert not answers, "the answer comes later, in a turn of its own"
        return answers

    def until(self, condition: Callable[[], object]) -> None:
        """Turn the loop until it has come to that."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            tick = self.loop.call_in(TICK_SECONDS, int)
            self.loop.turn()
            tick.cancel()
            assert time.monotonic() < give_up_at, f"it did not come to that within {PATIENCE_SECONDS:g} s"

    def ask(self, ask: Callable[..., None], *arguments: Any) -> Any:
        answers = self.begin(ask, *arguments)
        self.until(lambda: answers)
        return answers[0]

    @property
    def helper_pid(self) -> int | None:
        return self.devices._held.process.pid if self.devices._held else None


@pytest.fixture
def daemon(gpus: FakeGpus) -> Iterator[Daemon]:
    made = Daemon(DRIVER)
    assert gpus.left() == []
    try:
        yield made
    finally:
        made.devices.close()
        made.loop.close()
