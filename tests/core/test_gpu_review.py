"""Promises about GPU memory where facts are not as they were asked for: growth, stuck processes, failures."""

from __future__ import annotations

from tests.core.test_gpus import GEMMA, LLAMA, QWEN, opened, starts, world
from tests.core.world import World, client
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.events import GpuId
from warmd.daemon.core.placement import tenancy_of
from warmd.protocol import gpus
from warmd.protocol.work import Asks, Finish, WorkerId

WORKER = WorkerId(1)


def fails(w: World, **how: bool) -> None:
    w.hosted[WORKER].moving = ""
    w.tell(ev.MoveFailed(WORKER, w.broker._book.gpus.last_move, "CUDA_ERROR_X", **how))


def test_who_has_outgrown_what_it_asked_for_comes_back_where_all_of_it_fits() -> None:
    w = world(bytes=50)
    w.intruded = True
    first = opened(w)
    w.hosted[WORKER].bytes["card0"] = 80
    w.wait(1.5)
    second = opened(w, GEMMA, bytes=50)
    assert w.state(first) == "parked"
    w.wait(1.0)
    call = w.call(first)
    w.wait(2.0)
    assert (w.state(first), w.state(second)) == ("busy", "parked") and call.open
    w.returns(worker=1)
    assert call.code == "ok"


def test_what_a_process_has_that_cannot_be_killed_is_not_waited_for() -> None:
    w = world(bytes=50)
    opened(w)
    second = opened(w, GEMMA)
    w.wait(2.0)
    w.holds = frozenset({fx.Kill, gpus.Park})
    w.loses_link(1)
    w.tree_ends(1, stuck=(100,))
    w.holds = frozenset()
    start = starts(w, QWEN, bytes=49)
    w.wait(1.0)
    assert start.code == "ok" and w.state(second) == "parked"


def test_who_needs_several_gpus_has_no_more_parked_than_host_memory_holds() -> None:
    w = world(cards=2, park_bytes=100)
    sessions = [opened(w, LLAMA, bytes=60), opened(w, GEMMA, bytes=60)]
    w.wait(2.0)
    start = starts(w, QWEN, whole=2)
    w.wait(2.0)
    assert start.open and w.broker._book.gpus.parked_bytes() <= 100
    assert "idle" in {w.state(session) for session in sessions}


def test_an_app_that_uses_several_gpus_is_not_shown_one_alone() -> None:
    w = world(cards=2)
    w.asks = Asks()
    first = opened(w)
    w.takes_memory(WORKER, {"card0": 30})  # type: ignore[dict-item]
    w.wait(1.1)
    w.takes_memory(WORKER, {"card0": 30, "card1": 30})  # type: ignore[dict-item]
    w.wait(1.1)
    w.end(first)
    for _ in range(2):
        session = opened(w)
        assert w.ordered(fx.Spawn)[-1].gpus is None
        worker = w.ordered(fx.Spawn)[-1].worker
        w.takes_memory(worker, {"card0": 10})  # type: ignore[dict-item]
        w.wait(1.1)
        w.end(session)


def test_want_of_memory_may_last_and_says_nothing_of_the_session() -> None:
    long = 1e6
    w = world(way="driver", session_timeout_seconds=long, gpu_wait_seconds=long)
    session = opened(w)
    w.wait(1.0)
    w.park(session)
    w.holds = frozenset({fx.Restore})
    w.unpark(session)
    tenancy_of(w.broker._book.sessions[session]).failures = 2000
    fails(w)
    w.wait(6.0)
    fails(w)
    assert w.state(session) == "parked"


def test_a_call_that_has_left_while_its_session_came_back_has_kept_it_from_expiring() -> None:
    w = world(session_timeout_seconds=100.0)
    session = opened(w)
    w.wait(1.0)
    w.park(session)
    w.wait(98.0)
    w.holds = frozenset({gpus.Unpark})
    call = w.call(session)
    assert w.state(session) == "unparking"
    w.wait(5.0)
    w.cancel(call)
    w.holds = frozenset()
    w.oblige_cards()
    w.wait(50.0)
    assert w.state(session) == "idle"


def test_who_has_asked_for_a_session_and_left_keeps_it_in_no_line() -> None:
    w = world()
    first = opened(w)
    w.wait(1.0)
    w.park(first)
    second = opened(w, GEMMA)
    w.call(second, by="bob")
    w.unpark(first)
    assert w.broker._book.sessions[first].waits_for_room
    w.tell(ev.ClientGone(client("ann")))
    session = w.broker._book.sessions[first]
    assert not tenancy_of(session).unparks_for and not session.waits_for_room
    assert w.state(first) == "parked"


def test_what_the_dead_had_on_a_gpu_that_was_not_theirs_is_waited_for_too() -> None:
    w = world(cards=2)
    session = opened(w, LLAMA)
    w.hosted[WORKER].bytes["card1"] = 90
    w.wait(2.0)
    w.memory_lingers = True
    w.holds = frozenset({fx.Look})
    w.end(session)
    start = starts(w, GEMMA, bytes=50)
    assert start.open, "card1 still has 90 of it, card0 60"


def test_what_a_parked_session_has_on_another_gpu_is_not_free() -> None:
    w = world(cards=2)
    session = opened(w, LLAMA)
    w.wait(1.0)
    w.park(session)
    w.hosted[WORKER].where = "gpu"
    w.hosted[WORKER].bytes = {"card0": 0, "card1": 90}
    w.wait(2.0)
    assert w.broker._book.gpus.free_bytes(GpuId("card1")) == 10


def test_a_daemon_that_has_stopped_looks_no_more_beside_a_process_that_cannot_be_killed() -> None:
    w = world()
    opened(w)
    w.holds = frozenset({fx.Kill, Finish})
    w.drain(5.0)
    w.wait(20.0)
    w.tree_ends(1, stuck=(4711,))
    assert w.stopped
