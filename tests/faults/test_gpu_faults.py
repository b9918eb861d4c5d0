"""Whatever the GPU driver does, a session works on, or dies and says why; and nobody else notices."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults import hastygpu
from tests.faults.gpustage import A, Stage, after, staged
from tests.faults.watch import (
    AT_ONCE_SECONDS,
    await_tree_gone,
    error_of,
    token_of,
    undisturbed,
    until,
    within,
)

pytestmark = pytest.mark.alone

SIXTY = {"gpu": "600B"}
OTHERS = pytest.mark.usefixtures("others")
BOUND_SECONDS = hastygpu.MOVE_SECONDS + hastygpu.SETTLE_SECONDS + 6.0
"""For a move that hangs to be given up, what is left of it to be settled by another helper, and the load."""


@pytest.fixture(scope="module")
def whole_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("gpus")) as stage:
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    yield whole_stage
    whole_stage.clear()


@pytest.fixture(scope="module")
def others(whole_stage: Stage) -> Iterator[None]:
    """Another session is called from now on, and no call may take long."""
    with undisturbed(whole_stage.client.address):
        whole_stage.keep_all()
        yield


def works(session: Any, calls: int = 1) -> None:
    """It is as if nothing had been moved."""
    with within(BOUND_SECONDS):
        assert session.call("run").output == {"n": calls, "weights": after(0, calls)}


def is_dead(stage: Stage, session: Any, pid: int, *said: str) -> None:
    """It has died and says why; nothing is left of it, and its memory is somebody else's."""
    error = error_of(lambda: session.call("run"))
    assert (error.code, error.ran) == ("SESSION_DIED", "no")
    assert all(text in str(error) for text in said), error
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    stage.gpus.clear()
    assert stage.open("Weights", {"size": 1000}, gpu="1000B").call("weights").output == after(0, 0, size=1000)


# On the way out


@pytest.mark.parametrize(
    ("fault", "kept"),
    [
        ("no_memory@checkpoint", None),
        ("busy", None),
        ("illegal@checkpoint", "CUDA_ERROR_ILLEGAL_STATE"),
        ("unsupported@checkpoint", "CUDA_ERROR_NOT_SUPPORTED"),
        ("crash@checkpoint", None),
        ("crash@checkpoint.locked", None),
    ],
)
def test_what_cannot_be_parked_works_on(stage: Stage, fault: str, kept: str | None) -> None:
    session = stage.open("Weights", **SIXTY)
    stage.gpus.fault(*fault.split("@"))
    with within(BOUND_SECONDS):
        error = error_of(session.park)
    assert error.code == "INVALID" and f"session {session.id} could not be parked" in str(error)
    works(session)
    assert (session.info().gpu["kept"] or "").find(kept or "") >= 0
    if kept is None:
        assert session.park().state == "parked"
        works(session, 2)
    else:
        assert error_of(session.park).code == "NOT_ALLOWED"


@pytest.mark.parametrize("fault", ["crash@checkpoint.moved", "slow@checkpoint.moved"])
def test_what_was_moved_when_the_helper_died_is_parked(stage: Stage, fault: str) -> None:
    session = stage.open("Weights", **SIXTY)
    stage.gpus.fault(*fault.split("@"), seconds=0.3)
    with within(BOUND_SECONDS):
        assert session.park().state == "parked"
    assert stage.gpus.used(A) == 0
    works(session)


def test_what_the_driver_has_lost_on_the_way_out_is_dead(stage: Stage) -> None:
    session = stage.open("Weights", **SIXTY)
    pid = session.info().pid
    stage.gpus.fault("failed", "checkpoint")
    assert error_of(session.park).code == "SESSION_DIED"
    is_dead(stage, session, pid, "its GPU memory could not be handed back", "FAILED")


# And back


@pytest.mark.parametrize(
    "fault", ["crash@restore", "crash@restore.moved", "slow@restore", "hang@restore", "no_memory@restore"]
)
def test_what_fails_for_now_comes_back_later(stage: Stage, fault: str) -> None:
    session = stage.open("Weights", **SIXTY)
    session.park()
    stage.gpus.fault(*fault.split("@"), seconds=0.3)
    works(session)
    assert stage.gpus.left() == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("failed@restore", "FAILED"),
        ("illegal@restore", "CUDA_ERROR_ILLEGAL_STATE"),
        ("unsupported@restore", "CUDA_ERROR_NOT_SUPPORTED"),
    ],
)
def test_what_cannot_come_back_is_dead(stage: Stage, fault: str, said: str) -> None:
    session = stage.open("Weights", **SIXTY)
    pid = session.park().pid
    stage.gpus.fault(*fault.split("@"), times=None)
    with within(BOUND_SECONDS):
        error = error_of(lambda: session.call("run"))
    assert (error.code, error.ran) == ("SESSION_DIED", "no")
    is_dead(stage, session, pid, "its GPU memory could not be brought back", said)


def test_calls_wait_for_memory_that_comes_free(stage: Stage) -> None:
    session = stage.open("Weights", **SIXTY)
    session.park()
    stage.gpus.fault("no_memory", "restore", times=None)
    calls = [session.submit("run") for _ in range(3)]
    until(lambda: session.info().state == "unparking")
    until(lambda: session.info().state == "parked")
    stage.gpus.clear()
    assert [call.result(20).output["n"] for call in calls] == [1, 2, 3]


# While others are called all the time


@OTHERS
@pytest.mark.parametrize("fault", ["hang@checkpoint.locked", "hang@checkpoint.moved"])
def test_a_driver_that_hangs_while_it_moves_something(stage: Stage, fault: str) -> None:
    """It is settled by another helper: parked, or as it was."""
    session = stage.open("Weights", **SIXTY)
    stage.gpus.fault(*fault.split("@"))
    stage.begin_park(session)
    calls = [session.submit("run") for _ in range(2)]
    stage.await_state(session, "parking")
    with within(BOUND_SECONDS):
        assert [call.result(20).output["n"] for call in calls] == [1, 2]
    assert session.info().gpu["moves"] == int(fault.endswith("moved"))


@OTHERS
def test_a_driver_that_is_not_there_for_a_while_costs_nobody_anything(stage: Stage) -> None:
    session = stage.open("Weights", **SIXTY)
    stage.gpus.fault("unavailable", "look", times=None)
    until(lambda: stage.client.status().no_gpus)
    works(session)
    assert stage.client.status().no_gpus == "there is no driver (fake)"
    waits = stage.submit_open("Weights", **SIXTY)
    until(stage.placing)
    works(session, 2)
    stage.gpus.clear()
    assert waits.result(20).output
    works(session, 3)


@OTHERS
def test_a_driver_that_hangs_while_it_is_looked_at(stage: Stage) -> None:
    session = stage.open("Weights", **SIXTY)
    stage.gpus.fault("hang", "look")
    until(lambda: not stage.gpus.left())
    works(session)
    with within(BOUND_SECONDS):
        other = stage.open("Weights", **SIXTY)
    works(other)
    works(session, 2)


@OTHERS
def test_a_helper_that_dies_again_and_again(stage: Stage) -> None:
    """Nobody can say whether what it has begun was done."""
    session = stage.open("Weights", **SIXTY)
    pid = session.info().pid
    stage.gpus.fault("crash", "checkpoint.locked")
    stage.gpus.fault("crash", "look", times=None)
    with within(BOUND_SECONDS):
        error = error_of(session.park)
    if error.code == "INVALID":
        works(session)
    else:
        is_dead(stage, session, pid, "its GPU memory could not be handed back")


@OTHERS
def test_hooks_that_take_long_delay_nobody_but_who_waits_for_them(stage: Stage) -> None:
    session = stage.open("Hooked", {"fail": {"park": "sleep 0.3", "unpark": "sleep 0.3"}}, **SIXTY)
    other = stage.submit_open("Weights", **SIXTY)
    stage.await_state(session, "parking")
    call = session.submit("run")
    assert other.result(20).output
    assert call.result(20).output == {"n": 1, "weights": after(0, 1)}


@OTHERS
@pytest.mark.parametrize("when", ["parking", "parked", "unparking"])
def test_the_memory_of_one_that_is_killed_is_back_before_another_gets_it(stage: Stage, when: str) -> None:
    session = stage.open("Weights", **SIXTY)
    pid, token = session.info().pid, token_of(session.info().pid)
    stage.gpus.fault("slow", "checkpoint.locked" if when == "parking" else "restore.moved", seconds=0.4)
    stage.gpus.return_slowly(0.4)
    if when == "parking":
        stage.begin_park(session)
    else:
        session.park()
    calls = [session.submit("run") for _ in range(0 if when == "parked" else 2)]
    if calls:
        until(lambda: stage.gpus.state(pid) == "locked")
    assert session.info().state == when
    waits = stage.submit_open("Weights", {"size": 1000}, gpu="1000B")
    os.kill(pid, signal.SIGKILL)
    with within(AT_ONCE_SECONDS):
        errors = [error_of(call.result) for call in calls]
    assert [error.ran for error in errors] == ["no"] * len(calls)
    assert all(error.code == "SESSION_DIED" and "SIGKILL" in str(error) for error in errors)
    assert waits.result(20).output != pid
    await_tree_gone(token)
    later = error_of(lambda: session.call("run"))
    assert later.code == "SESSION_DIED" and "SIGKILL" in str(later)
