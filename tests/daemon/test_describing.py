"""Describing apps: one process for all who ask, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.describing import (
    KEPT_SECONDS,
    MAX_ASKING,
    MAX_ATTEMPTS,
    MAX_BYTES,
    MAX_DYING,
    MAX_PROCESSES,
    Describer,
)
from warmd.daemon.loop import Timer
from warmd.protocol import work
from warmd.protocol.errors import Problem
from warmd.protocol.messages import Body
from warmd.protocol.work import NO_WORKER, AppSpec, Asks, WorkerId

SPEC = AppSpec("demo", "demo:App")
START_SECONDS = 600.0
FIRST = WorkerId(-1)


class World:
    """A fleet that only writes down its orders, and a clock that goes when it is told to."""

    def __init__(self) -> None:
        self.orders: list[object] = []
        self.packed: list[AppSpec] = []
        self.timers: list[Timer] = []
        self.now = 0.0
        self.answers: list[bytes | Problem] = []
        self.describer = Describer(self, self, START_SECONDS, self.pack)
        self.prepare = self.kill = self.forget = self.orders.append

    def pack(self, spec: AppSpec, said: Body) -> Body:
        self.packed.append(spec)
        if spec.name == "unspeakable":
            raise TypeError("no such type")
        return said

    def tell(self, worker: WorkerId, message: object) -> None:
        self.orders.append((worker, message))

    def call_in(self, seconds: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(self.now + seconds, callback)
        self.timers.append(timer)
        return timer

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for timer in list(self.timers):
            callback = timer.callback
            if timer.when <= self.now and callback is not None:
                timer.cancel()
                callback()

    def ask(self, spec: AppSpec = SPEC) -> None:
        self.describer.describe(spec, self.answers.append)

    def spawned(self, worker: WorkerId = FIRST) -> None:
        self.describer.told(ev.WorkerSpawned(worker, 100))

    def says(self, message: ev.Word, worker: WorkerId = FIRST) -> None:
        self.describer.told(ev.WorkerSaid(worker, message))

    def up(self, worker: WorkerId = FIRST) -> None:
        self.spawned(worker)
        self.says(work.Prepared(0.1, 1000, ""), worker)

    def killed(self, worker: WorkerId = FIRST) -> bool:
        return fx.Kill(worker) in self.orders

    def problem(self) -> Problem:
        (answer,) = self.answers
        assert isinstance(answer, Problem)
        return answer


@pytest.fixture
def world() -> World:
    return World()


def test_all_who_ask_are_answered_by_one_process(world: World) -> None:
    world.ask()
    world.ask()
    (order,) = world.orders
    assert isinstance(order, fx.Prepare)
    assert (order.worker, order.spec) == (FIRST, SPEC)
    assert str(order.log).startswith("desc_")
    world.up()
    world.ask()
    world.says(work.Described(4, b"what"))
    assert world.answers == [b"what"] * 3
    assert world.packed == [SPEC], "once for all of them"
    assert world.orders[1:] == [(FIRST, work.Describe(MAX_BYTES))]


def test_it_is_kept_for_the_next_question_and_then_ended(world: World) -> None:
    world.ask()
    world.up()
    world.says(work.Described(4, b"what"))
    world.wait(KEPT_SECONDS - 1)
    world.ask()
    world.says(work.Described(5, b"again"))
    assert world.answers == [b"what", b"again"]
    world.wait(KEPT_SECONDS - 1)
    assert not world.killed()
    world.wait(2)
    assert world.killed()
    world.describer.told(ev.WorkerExited(FIRST, None, "SIGKILL", ""))
    world.describer.told(ev.TreeGone(FIRST))
    assert isinstance(world.orders[-1], fx.Forget)
    world.ask()
    assert isinstance(world.orders[-1], fx.Prepare)
    assert world.answers == [b"what", b"again"]


def test_what_has_changed_is_imported_anew(world: World) -> None:
    world.ask()
    world.up()
    world.says(work.Outdated(NO_WORKER))
    assert world.killed()
    assert world.answers == []
    world.up(WorkerId(-2))
    world.says(work.Described(3, b"new"), WorkerId(-2))
    assert world.answers == [b"new"]


def test_an_import_that_fails_is_told_with_its_traceback(world: World) -> None:
    world.ask()
    world.spawned()
    world.says(work.StartFailed("imports", "ImportError", "no torch", "Traceback ..."))
    problem = world.problem()
    assert (problem.code, problem.ran) == ("START_FAILED", "no")
    assert problem.message.endswith("not be described: importing the app failed: ImportError: no torch")
    assert problem.details == {"type": "ImportError", "traceback": "Traceback ..."}
    assert world.killed()


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (ev.WorkerExited(FIRST, None, "SIGSEGV", "last words"), "its worker was killed by SIGSEGV"),
        (ev.LinkLost(FIRST, "closed its link"), "its process closed its link"),
        (ev.WorkerSaid(FIRST, work.Returned(work.Ordinal(1), 0.0)), "its process spoke nonsense"),
    ],
)
def test_a_process_that_falls_over(world: World, event: ev.AboutWorker, text: str) -> None:
    world.ask()
    world.spawned()
    world.describer.told(event)
    assert text in world.problem().message
    assert world.killed()
    world.describer.told(ev.TreeGone(FIRST))
    world.describer.told(ev.TreeGone(FIRST))
    assert sum(isinstance(order, fx.Forget) for order in world.orders) == 1


def test_a_fleet_that_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_order: object) -> None:
        raise ValueError("no such log")

    world.prepare = fail  # type: ignore[method-assign, assignment]
    world.ask()
    world.wait(0.0)
    assert "the process could not be started: ValueError('no such log')" in world.problem().message
    assert "no such log" in caplog.text


def test_a_process_that_never_comes(world: World) -> None:
    world.ask()
    world.describer.told(ev.SpawnFailed(FIRST, "no memory"))
    assert "the process could not be started: no memory" in world.problem().message
    assert not world.killed()
    assert isinstance(world.orders[-1], fx.Forget)


@pytest.mark.parametrize(("asks", "seconds"), [(Asks(), START_SECONDS), (Asks(start_seconds=5.0), 5.0)])
def test_an_import_that_takes_too_long(world: World, asks: Asks, seconds: float) -> None:
    world.ask(SPEC._replace(asks=asks))
    world.wait(seconds - 1)
    assert world.answers == []
    world.wait(2)
    assert f"longer than start_timeout ({seconds:g} s)" in world.problem().message
    assert not world.killed()  # there is no process yet
    world.spawned()
    assert world.killed()


def test_a_process_that_does_not_answer(world: World) -> None:
    world.ask()
    world.up()
    world.wait(START_SECONDS + 1)
    assert "not described within 600 s" in world.problem().message
    assert world.killed()


def test_no_more_than_so_many_at_one_time(world: World) -> None:
    for number in range(MAX_PROCESSES):
        world.ask(SPEC._replace(name=str(number)))
    world.ask()
    assert world.problem().code == "QUEUE_FULL"


def test_a_description_that_is_too_large(world: World) -> None:
    world.ask()
    world.up()
    world.says(work.Described(MAX_BYTES + 1))
    assert "has 1048577 bytes, the most are 1048576" in world.problem().message


def test_a_process_that_could_not_even_be_ordered(world: World) -> None:
    """The fleet may say so before it returns."""

    def fail(order: fx.Prepare) -> None:
        world.describer.told(ev.SpawnFailed(order.worker, "no descriptors"))

    world.prepare = fail  # type: ignore[method-assign, assignment]
    world.ask()
    assert "the process could not be started: no descriptors" in world.problem().message


def test_one_that_is_only_kept_makes_way(world: World) -> None:
    for number in range(1, MAX_PROCESSES + 1):
        world.ask(SPEC._replace(name=str(number)))
        world.up(WorkerId(-number))
        world.says(work.Described(1, b"x"), WorkerId(-number))
    world.ask()
    assert world.killed(FIRST)
    assert not world.killed(WorkerId(-2))
    world.up(WorkerId(-MAX_PROCESSES - 1))
    world.says(work.Described(4, b"what"), WorkerId(-MAX_PROCESSES - 1))
    assert world.answers[-1] == b"what"


def test_those_that_cannot_be_killed_are_bounded(world: World) -> None:
    for number in range(1, MAX_DYING + 1):
        world.ask()
        world.spawned(WorkerId(-number))
        world.describer.told(ev.LinkLost(WorkerId(-number), "closed its link"))
    world.answers.clear()
    world.ask()
    assert world.problem().code == "QUEUE_FULL"


def test_no_more_than_so_many_wait(world: World) -> None:
    for _ in range(MAX_ASKING):
        world.ask()
    assert world.answers == []
    world.ask()
    assert world.problem().code == "QUEUE_FULL"


def test_files_that_change_again_and_again(world: World) -> None:
    world.ask()
    for number in range(1, MAX_ATTEMPTS + 1):
        assert world.answers == []
        world.up(WorkerId(-number))
        world.says(work.Outdated(NO_WORKER), WorkerId(-number))
    assert "its files have changed 5 times" in world.problem().message
    assert len([order for order in world.orders if isinstance(order, fx.Prepare)]) == MAX_ATTEMPTS


def test_its_last_words_are_told(world: World) -> None:
    world.ask()
    world.spawned()
    world.describer.told(ev.WorkerExited(FIRST, 3, None, "no such library"))
    assert "no such library" in world.problem().message


def test_what_cannot_be_told_is_told_so(world: World) -> None:
    world.ask(SPEC._replace(name="unspeakable"))
    world.up()
    world.says(work.Described(4, b"what"))
    assert "what it says of itself cannot be told: TypeError('no such type')" in world.problem().message
    assert world.killed()
