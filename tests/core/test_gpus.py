"""GPU memory at the start of a session: what it asks for, what it gets, and when it gets none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import Limits
from warmd.protocol import gpus
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import AppRef, SessionId
from warmd.protocol.work import Asks, WorkerId

LLAMA, GEMMA, QWEN = AppRef("llama"), AppRef("gemma"), AppRef("qwen")
GIB = 2**30


def world(bytes: int = 60, way: str = "app", cards: int = 1, size: int = 100, **limits: Any) -> World:
    """A machine with GPUs of 100 bytes, and apps that ask for so many of them."""
    made = World(Limits(**{"session_timeout_seconds": 100.0, **limits}))
    made.asks = Asks(gpu=GpuAsk(bytes=bytes))
    made.way = way  # type: ignore[assignment]
    made.insert_cards(**{f"card{number}": size for number in range(cards)})
    return made


def opened(world: World, app: AppRef = LLAMA, **ask: Any) -> SessionId:
    """A session that is up; `ask`: for another amount than the others."""
    if ask:
        world.asks = Asks(gpu=GpuAsk(**ask))
    return world.session(app=app)


def starts(world: World, app: AppRef = GEMMA, **ask: Any) -> Any:
    """The call that opens a session, whether or not that is up by now."""
    if ask:
        world.asks = Asks(gpu=GpuAsk(**ask))
    return world.call("new", "", app=app)


def moved(world: World, worker: int) -> None:
    """The move of this worker's memory, which is under way, goes well."""
    world.tell(world.moves(WorkerId(worker)))


def text_of(heard: Any) -> str:
    return str(heard.final.message)


@pytest.mark.parametrize(
    ("ask", "home"),
    [
        ({"bytes": 60}, {"card0": 60}),
        ({"share": 0.5}, {"card0": 50}),
        ({"whole": 1}, {"card0": 100}),
        ({"whole": 2}, {"card0": 100, "card1": 100}),
    ],
)
def test_it_gets_what_its_app_asks_for(ask: dict[str, Any], home: dict[str, int]) -> None:
    w = world(cards=2)
    session = opened(w, **ask)
    view = w.broker.view(session)
    assert view is not None and view.gpu is not None and view.gpu.reserved == home
    (spawn,) = w.ordered(fx.Spawn)
    assert spawn.gpus == tuple(home)


def test_two_that_fit_are_both_there() -> None:
    w = world(bytes=50)
    assert [w.state(session) for session in (opened(w), opened(w, GEMMA))] == ["idle", "idle"]
    assert not w.ordered(gpus.Park)


def test_each_goes_where_there_is_the_most_room() -> None:
    w = world(bytes=30, cards=2)
    for _ in range(4):
        opened(w)
    assert [spawn.gpus for spawn in w.ordered(fx.Spawn)] == [("card0",), ("card1",), ("card0",), ("card1",)]


def test_what_is_reserved_counts_before_it_is_taken() -> None:
    w = world()
    w.holds = frozenset({fx.Spawn})
    starts(w)
    w.asks = Asks(gpu=GpuAsk(bytes=50))
    second = starts(w, QWEN)
    assert len(w.ordered(fx.Spawn)) == 1
    assert w.state(second.session) == "placing"


def test_who_took_more_than_it_asked_for_counts_as_large_as_it_is() -> None:
    w = world(bytes=30)
    opened(w)
    w.hosted[w.worker().spawn.worker].bytes["card0"] = 80
    w.wait(2.0)
    w.asks = Asks(gpu=GpuAsk(bytes=30))
    opened(w, GEMMA)
    assert len(w.ordered(fx.Tell)) == 1, "the first was parked"


def test_what_other_programs_have_is_not_given_away() -> None:
    w = world(bytes=50)
    w.strangers["card0"] = 60
    start = starts(w)
    assert start.open and w.state(start.session) == "placing"
    w.strangers["card0"] = 0
    w.wait(0.2)
    assert start.code == "ok"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ({"bytes": 81 * GIB}, "it asks for 81.0 GiB, and the largest of the machine's 2 GPUs has 80.0 GiB"),
        ({"whole": 3}, "it asks for 3 GPUs, and the machine has 2: ask for less"),
    ],
)
def test_what_is_impossible_fails_at_once(ask: dict[str, Any], said: str) -> None:
    w = world(cards=2, size=80 * GIB)
    start = starts(w, **ask)
    assert start.code == "START_FAILED"
    assert said in text_of(start)
    assert "ask for less (gpu, in its manifest)" in text_of(start)
    w.wait(200.0)
    w.assert_over()


def test_without_a_gpu_it_fails_at_once_and_says_why_there_is_none() -> None:
    w = World()
    w.asks = Asks(gpu=GpuAsk(whole=1))
    start = starts(w)
    assert start.code == "START_FAILED"
    assert "it asks for a GPU, and none is to be seen here: no driver is here" in text_of(start)


def test_it_waits_for_the_first_look() -> None:
    w = World(holds=(fx.Look,))
    w.asks = Asks(gpu=GpuAsk(whole=1))
    start = starts(w)
    assert start.accepted and w.looks == [1]
    w.cards = {"card0": 100}  # type: ignore[dict-item]
    w.oblige_cards()
    assert start.code == "ok"


def test_a_driver_that_never_answers_costs_the_wait_and_no_more() -> None:
    w = World(Limits(gpu_wait_seconds=30.0), holds=(fx.Look,))
    w.asks = Asks(gpu=GpuAsk(whole=1))
    start = starts(w)
    w.wait(29.9)
    assert start.open
    w.wait(0.2)
    assert start.code == "NO_ROOM"
    assert "no GPU was to be seen within 30s (gpu_wait): its driver does not answer" in text_of(start)


def test_where_its_environment_chooses_the_daemon_does_not() -> None:
    w = world()
    opened(w)
    w.asks = Asks(gpu=GpuAsk(bytes=60))
    w.session(app=GEMMA, env={"CUDA_VISIBLE_DEVICES": "0"})
    assert [spawn.gpus for spawn in w.ordered(fx.Spawn)] == [("card0",), None]
    assert not w.ordered(gpus.Park)


def test_the_time_in_the_line_does_not_count_as_its_start() -> None:
    w = world(start_timeout_seconds=5.0)
    first = opened(w)
    w.call(first)
    start = starts(w)
    w.wait(20.0)
    w.returns(worker=1)
    assert start.code == "ok"


def test_what_is_learned_of_one_is_reserved_for_the_next_of_its_kind() -> None:
    w = world()
    w.asks = Asks()
    session = opened(w)
    w.takes_memory(w.worker().spawn.worker, {"card0": 70})  # type: ignore[dict-item]
    w.wait(2.0)
    assert w.broker.view(session).gpu.reserved == {"card0": 70}
    w.intruded = True
    second = w.session(app=LLAMA)
    assert w.state(session) == "parked"
    assert w.broker.view(second).gpu.reserved == {"card0": 70}
    assert w.session(app=GEMMA) and w.broker.view(second).state == "idle", "nothing is known of another"


def test_nothing_is_learned_of_who_uses_two() -> None:
    w = world(cards=2)
    w.asks = Asks()
    session = opened(w)
    w.takes_memory(w.worker().spawn.worker, {"card0": 30, "card1": 30})  # type: ignore[dict-item]
    w.wait(2.0)
    assert w.broker.view(session).gpu.reserved == {"card0": 30, "card1": 30}
    w.session(app=LLAMA)
    assert w.ordered(fx.Spawn)[-1].gpus in (None, ("card0",), ("card1",))


def test_only_so_much_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmd.daemon.core.policy.REMEMBERED_FOOTPRINTS", 1)
    w = world()
    w.asks = Asks()
    for app in (LLAMA, GEMMA):
        session = w.session(app=app)
        w.takes_memory(w.worker().spawn.worker, {"card0": 10})  # type: ignore[dict-item]
        w.wait(2.0)
        w.end(session)
    w.session(app=LLAMA)
    w.session(app=GEMMA)
    assert [spawn.gpus for spawn in w.ordered(fx.Spawn)][2:] == [None, ("card0",)]


def test_who_took_memory_before_the_first_look_can_be_parked_and_comes_back() -> None:
    w = World()
    session = w.session(app=LLAMA)
    w.takes_memory(w.worker().spawn.worker, {"card0": 70})  # type: ignore[dict-item]
    w.insert_cards(card0=100)
    assert w.broker.view(session).gpu.reserved == {"card0": 70}
    w.asks = Asks(gpu=GpuAsk(bytes=60))
    w.wait(1.0)
    second = opened(w, GEMMA)
    assert w.state(session) == "parked"
    w.wait(1.0)
    call = w.call(session)
    assert (w.state(session), w.state(second)) == ("busy", "parked")
    w.returns(worker=1)
    assert call.code == "ok"


def test_a_template_that_cannot_be_forked_is_not_given_away_to_who_has_its_gpus() -> None:
    w = world(bytes=40, max_templates=1)
    w.holds = frozenset({fx.Prepare})
    first, second = starts(w), starts(w)
    w.template_spawned()
    w.imported(unforkable="it has a thread")
    w.oblige()
    assert first.code == second.code == "ok"
    assert [spawn.gpus for spawn in w.ordered(fx.Spawn)] == [("card0",), ("card0",)]
    assert not w.ordered(fx.Fork)
