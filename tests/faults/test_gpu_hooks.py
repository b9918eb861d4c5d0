"""Apps whose own hooks fail when they are parked or brought back: real daemon and workers, a fake driver."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.faults.gpustage import A, Stage, after, staged
from tests.faults.watch import error_of, until, within

SIXTY = {"gpu": "600B"}
MOVE_SECONDS = 1.0
BOUND_SECONDS = MOVE_SECONDS + 4.0
KINDS = pytest.mark.parametrize("entry", ["Hooked", "AsyncHooked"])


@pytest.fixture(scope="module")
def whole_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("gpus"), move_seconds=MOVE_SECONDS) as stage:
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    yield whole_stage
    whole_stage.clear()


def opened(stage: Stage, entry: str, **fail: str) -> Any:
    return stage.open(entry, {"fail": fail}, **SIXTY)


def works(session: Any, calls: int = 1) -> None:
    assert session.call("run").output == {"n": calls, "weights": after(0, calls)}


def is_dead(stage: Stage, session: Any, pid: int, *said: str) -> None:
    """It has died and says why; nothing is left of it, and its memory is somebody else's."""
    error = error_of(lambda: session.call("run"))
    assert (error.code, error.ran) == ("SESSION_DIED", "no")
    assert all(text in str(error) for text in said), error
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert stage.open("Weights", {"size": 1000}, gpu="1000B").call("weights").output == after(0, 0, size=1000)


@KINDS
@pytest.mark.parametrize("how", ["raise", "exit", "memory"])
@pytest.mark.parametrize("at", ["park", "parked"])
def test_a_park_that_fails_is_undone(stage: Stage, entry: str, how: str, at: str) -> None:
    session = opened(stage, entry, **{at: how})
    error = error_of(session.park)
    assert error.code == "INVALID" and "could not be parked: park raised" in str(error)
    works(session)
    # It takes the GPU from nobody who can be parked, so it has what it had.
    assert session.info().gpu["reserved"] == stage.gpus.used(A) == 600


@pytest.mark.parametrize(
    ("entry", "fail", "said"),
    [
        ("Hooked", {"park": "raise", "unpark": "raise"}, "to undo that, unpark raised"),
        ("AsyncHooked", {"park": "raise", "unpark": "raise"}, "to undo that, unpark raised"),
        ("Hooked", {"park": "hang"}, "it took longer than 1 s"),
        ("AsyncHooked", {"park": "sleep 2"}, "it took longer than 1 s"),
        ("Hooked", {"park": "die"}, "exited with code 4"),
        ("AsyncHooked", {"park": "kill"}, "SIGKILL"),
    ],
)
def test_a_park_that_cannot_be_undone_is_a_death(
    stage: Stage, entry: str, fail: Mapping[str, str], said: str
) -> None:
    session = opened(stage, entry, **fail)
    pid = session.info().pid
    stage.begin_park(session)
    calls = [session.submit("run") for _ in range(2)]
    with within(BOUND_SECONDS):
        errors = [error_of(call.result) for call in calls]
    assert [(error.code, error.ran) for error in errors] == [("SESSION_DIED", "no")] * 2
    is_dead(stage, session, pid, said)


@pytest.mark.parametrize(
    ("entry", "fail", "said"),
    [
        ("Hooked", {"unpark": "raise"}, "unpark raised"),
        ("AsyncHooked", {"unpark": "raise"}, "unpark raised"),
        ("AsyncHooked", {"unpark": "hang"}, "it took longer than 1 s"),
        ("Hooked", {"unparked": "exit"}, "unpark raised SystemExit: 3"),
        ("Hooked", {"unpark": "die"}, "exited with code 4"),
    ],
)
def test_an_unpark_that_fails_is_a_death(
    stage: Stage, entry: str, fail: Mapping[str, str], said: str
) -> None:
    session = opened(stage, entry, **fail)
    pid = session.park().pid
    with within(BOUND_SECONDS):
        error = error_of(lambda: session.call("run"))
    assert (error.code, error.ran) == ("SESSION_DIED", "no")
    is_dead(stage, session, pid, said)


@KINDS
def test_an_unpark_without_memory_is_tried_again(stage: Stage, entry: str) -> None:
    session = opened(stage, entry, unpark="memory")
    session.park()
    calls = [session.submit("run") for _ in range(3)]
    assert [call.result(20).output["n"] for call in calls] == [1, 2, 3]
    assert session.info().gpu["moves"] == 1


def test_one_that_never_finds_memory_stays_parked_until_its_callers_have_left(stage: Stage) -> None:
    session = opened(stage, "Hooked", unpark="always memory")
    session.park()
    error = error_of(lambda: session.call("run", timeout=1))
    assert (error.code, error.ran) == ("TIMEOUT", "no")
    stage.await_state(session, "parked")
    assert stage.gpus.used(A) == 0
    other = stage.open("Weights", {"size": 1000}, gpu="1000B")
    assert other.call("weights").output == after(0, 0, size=1000)
