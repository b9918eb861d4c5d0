"""Orders about GPUs become requests to the devices, and what comes of these becomes events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakegpu import DRIVER, FakeGpus
from tests.gpu.conftest import FIRST, Daemon
from warmd.daemon import devices, gpuorders
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.devices import Gpu, GpuError, GpuProcess, Moved
from warmd.daemon.gpuorders import GpuOrders
from warmd.protocol.work import WorkerId

WORKER = WorkerId(7)
TOKEN = "7" * 64
SECONDS = 46.0


class Asked:
    """In place of `Devices`: keeps what it is asked, to be answered by the test."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.asked: list[tuple[str, float, Callable[[Any], object]]] = []

    def available(self) -> str:
        return self.why

    def look(self, done: Callable[[Any], object]) -> None:
        self.asked.append(("look", 0.0, done))

    def checkpoint(self, token: str, lock: float, seconds: float, done: Callable[[Any], object]) -> None:
        assert (token, lock) == (TOKEN, gpuorders.LOCK_SECONDS)
        self.asked.append(("checkpoint", seconds, done))

    def restore(self, token: str, seconds: float, done: Callable[[Any], object]) -> None:
        assert token == TOKEN
        self.asked.append(("restore", seconds, done))


class Orders:
    def __init__(self, why: str = "") -> None:
        self.devices = Asked(why)
        self.events: list[Any] = []
        self.orders = GpuOrders(
            self.devices,  # type: ignore[arg-type]
            lambda worker: TOKEN if worker == WORKER else None,
            lambda token: WORKER if token == TOKEN else None,
            self.events.append,
        )

    def answers(self, do: str, answer: Any) -> None:
        """What was asked last is answered so."""
        asked, _, done = self.devices.asked.pop()
        assert asked == do and not self.devices.asked
        done(answer)


@pytest.fixture
def orders() -> Orders:
    made = Orders()
    made.answers("look", ())
    made.events.clear()
    return made


def gpu(*processes: GpuProcess, used: int = 600) -> Gpu:
    return Gpu("GPU-1", 0, "Fake", 1000, used, None, processes)


def test_processes_are_told_by_their_workers(orders: Orders) -> None:
    orders.orders.look(fx.Look(3))
    mine, child, stranger = GpuProcess(1, 400, TOKEN), GpuProcess(2, 100, TOKEN), GpuProcess(3, 50, "")
    orders.answers("look", (gpu(mine, child, stranger),))
    (event,) = orders.events
    assert event.look == 3 and event.gpus[0].of == {WORKER: 500} and event.gpus[0].exact
    (shown,) = orders.orders.infos(lambda worker: f"session of {worker}")
    assert shown["sessions"] == {"session of 7": 500} and shown["others"] == [{"pid": 3, "memory": 50}]


def test_what_the_driver_does_not_tell_is_not_exact(orders: Orders) -> None:
    orders.orders.look(fx.Look(3))
    orders.answers("look", (gpu(GpuProcess(1, None, TOKEN)),))
    assert orders.events[0].gpus[0].of == {WORKER: 0} and not orders.events[0].gpus[0].exact


def test_what_it_does_not_tell_of_strangers_is_no_matter(orders: Orders) -> None:
    orders.orders.look(fx.Look(3))
    orders.answers("look", (gpu(GpuProcess(1, 400, TOKEN), GpuProcess(3, None, "")),))
    assert orders.events[0].gpus[0].of == {WORKER: 400} and orders.events[0].gpus[0].exact


def test_where_the_driver_knows_no_pids_of_here_nothing_is_exact(orders: Orders) -> None:
    orders.orders.look(fx.Look(3))
    orders.answers("look", (replace(gpu(GpuProcess(99, 600, "")), shows_processes=False),))
    assert not orders.events[0].gpus[0].exact
    (shown,) = orders.orders.infos(str)
    assert not shown["shows_processes"] and shown["others"] == [], "it may be a session's"


def test_what_is_not_to_be_seen_says_why(orders: Orders) -> None:
    orders.orders.look(fx.Look(3))
    orders.answers("look", GpuError("unavailable", "it is asleep"))
    orders.orders.look(fx.Look(4))
    orders.answers("look", ())
    assert [(event.look, event.gpus, event.why_none) for event in orders.events] == [
        (3, (), "it is asleep"),
        (4, (), "the driver shows no GPU"),
    ]


def test_without_a_driver_nothing_is_asked() -> None:
    orders = Orders("there is no driver")
    assert orders.devices.asked == [] and orders.orders.why_none == "there is no driver"


def test_the_driver_has_less_time_than_the_rule_book_waits(orders: Orders) -> None:
    """What is left of a move that was cut off is to be put right before the session is given up."""
    settled = devices.SETTLE_SECONDS + devices.GRACE_SECONDS
    for order in (orders.orders.checkpoint, orders.orders.restore):
        order(effect(order.__name__))
        ((_, seconds, _),) = orders.devices.asked
        assert SECONDS / 2 < seconds <= SECONDS - settled
        orders.devices.asked.clear()


def effect(do: str) -> Any:
    return (fx.Checkpoint if do == "checkpoint" else fx.Restore)(WORKER, 5, SECONDS)


@pytest.mark.parametrize("answer", [Moved((1,), 1.0), Moved((), 0.0), GpuError("gone", "it has ended")])
def test_what_was_moved_is_told(orders: Orders, answer: Any) -> None:
    orders.orders.checkpoint(effect("checkpoint"))
    orders.answers("checkpoint", answer)
    orders.orders.restore(effect("restore"))
    orders.answers("restore", answer)
    assert orders.events == [ev.Checkpointed(WORKER, 5), ev.Restored(WORKER, 5)]


@pytest.mark.parametrize("do", ["checkpoint", "restore"])
@pytest.mark.parametrize(
    ("kind", "harm", "harmed", "lasting"),
    [
        ("busy", "none", False, False),
        ("no_memory", "none", False, False),
        ("unsupported", "none", False, True),
        ("illegal", "none", False, True),
        ("unavailable", "none", False, False),
        ("failed", "lost", True, False),
    ],
)
def test_what_has_failed_is_told(
    orders: Orders, do: str, kind: Any, harm: Any, harmed: bool, lasting: bool
) -> None:
    getattr(orders.orders, do)(effect(do))
    orders.answers(do, GpuError(kind, "so it is", harm))
    assert orders.events == [ev.MoveFailed(WORKER, 5, "so it is", harmed, lasting)]


def test_what_was_moved_in_part_is_brought_back_first(orders: Orders) -> None:
    orders.orders.checkpoint(effect("checkpoint"))
    orders.answers("checkpoint", GpuError("busy", "one of two", "mixed"))
    assert orders.events == []
    orders.answers("restore", Moved((1,), 0.1))
    assert orders.events == [ev.MoveFailed(WORKER, 5, "one of two", False, False)]


def test_where_that_fails_too_it_is_lost(orders: Orders) -> None:
    orders.orders.checkpoint(effect("checkpoint"))
    orders.answers("checkpoint", GpuError("busy", "one of two", "mixed"))
    orders.answers("restore", GpuError("no_memory", "no room", "mixed"))
    text = "one of two; and it could not be undone: no room"
    assert orders.events == [ev.MoveFailed(WORKER, 5, text, True, False)]


def test_a_worker_that_is_gone_is_not_moved(orders: Orders) -> None:
    orders.orders.checkpoint(fx.Checkpoint(WorkerId(8), 5, SECONDS))
    orders.orders.restore(fx.Restore(WorkerId(8), 5, SECONDS))
    assert orders.devices.asked == [] and orders.events == []


def test_a_driver_that_wakes_up_slowly_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not killed for it, so that it would begin anew each time."""
    gpus = FakeGpus(tmp_path / "gpus", {FIRST: 1000})
    for name, value in gpus.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(devices, "LOOK_SECONDS", 0.2)
    gpus.fault("slow", "look", seconds=0.5)
    daemon = Daemon(DRIVER)
    try:
        (found,) = daemon.ask(daemon.devices.look)
        assert found.id == FIRST
        gpus.fault("slow", "look", seconds=5)
        assert "within 0.2 s" in daemon.ask(daemon.devices.look).message
    finally:
        daemon.devices.close()
        daemon.loop.close()
