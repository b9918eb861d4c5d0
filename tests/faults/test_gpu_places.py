"""Which GPUs a session gets, and what it is told when there are none: a real daemon, a fake driver."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.gpustage import A, B, Stage, after, staged
from tests.faults.watch import error_of, until, within

WAIT_SECONDS = 0.7
SIXTY = {"gpu": "600B"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `Prepared` notes that it has prepared."""
    return tmp_path_factory.mktemp("prepared") / "pids"


@pytest.fixture(scope="module")
def whole_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("gpus"), devices=2, gpu_wait=WAIT_SECONDS) as stage:
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    yield whole_stage
    whole_stage.clear()


def seen_by(session: Any) -> list[str]:
    """The GPUs that its process may use; their UUIDs stand in its environment."""
    found = session.call("visible").output
    assert found["variable"] == ",".join(found["devices"])
    return list(found["devices"])


def test_gpus_by_number_share_and_amount(stage: Stage) -> None:
    half = stage.open("Weights", {"size": 400}, gpu=0.5)
    amount = stage.open("Weights", {"size": 400}, gpu="500B")
    (first,), (second,) = seen_by(half), seen_by(amount)
    assert {first, second} == {A, B}
    assert half.info().gpu["reserved"] == amount.info().gpu["reserved"] == 500
    more = stage.open("Weights", {"size": 400}, gpu=0.5)
    assert more.info().state == half.info().state == amount.info().state == "idle"
    more.end()
    whole = stage.open("Weights", {"size": 900}, gpu=1)
    assert whole.info().gpu["reserved"] == 1000 and len(seen_by(whole)) == 1
    assert {half.info().state, amount.info().state} == {"idle", "parked"}
    both = stage.open("Weights", {"size": 900}, gpu=2)
    assert sorted(seen_by(both)) == [A, B]
    assert {one.info().state for one in (half, amount, whole)} == {"parked"}


@pytest.mark.parametrize("how", ["fork", "spawn", "interpreter"])
def test_however_it_is_started_it_sees_its_gpu(stage: Stage, tmp_path: Path, how: str) -> None:
    more: dict[str, object] = {"template": False} if how == "spawn" else {}
    if how == "interpreter":
        more["python"] = str(interpreter(tmp_path))
    stage.gpus.stranger(A, 600)
    until(lambda: stage.seen(A) == 600)
    session = stage.open("Weights", **SIXTY, **more)
    assert seen_by(session) == [B]
    assert session.info().origin.startswith("spawn" if how == "spawn" else "fork")
    if how == "interpreter":
        assert session.call("visible").output["python"] == more["python"]
    session.park()
    assert session.call("run").output["weights"] == after(0, 1)


def interpreter(folder: Path) -> Path:
    """An environment that has no packages."""
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    (folder / "pyvenv.cfg").write_text(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    return python


def test_who_chooses_by_the_environment_gets_that(stage: Stage) -> None:
    app = stage.app("Weights", **SIXTY)
    session = stage.client.session(app, env={"CUDA_VISIBLE_DEVICES": "1"})
    assert session.call("visible").output["devices"] == [B]


def test_without_room_it_is_told_what_is_in_the_way(stage: Stage) -> None:
    stage.gpus.stranger(B, 700)
    stage.gpus.stranger(A, 100)
    until(lambda: (stage.seen(A), stage.seen(B)) == (100, 700))
    stays = stage.open("Weights", park="never", **SIXTY)
    with within(WAIT_SECONDS + 2):
        error = error_of(lambda: stage.open("Weights", **SIXTY))
    assert (error.code, error.ran) == ("NO_ROOM", "no")
    text = str(error)
    assert f"{stays.id} of app" in text and 'not parked: its app says so (park = "never")' in text
    assert text.count("other programs with") == 2 and "(gpu_wait)" in text
    assert text.endswith("End one of these, ask for less, or wait longer")


def test_what_would_never_fit_is_told_at_once(stage: Stage) -> None:
    for ask, there in (("2000B", "the machine's 2 GPUs"), (3, "the machine has 2")):
        with within(WAIT_SECONDS + 2):
            error = error_of(lambda ask=ask: stage.open("Weights", gpu=ask))  # type: ignore[misc]
        assert (error.code, error.ran) == ("START_FAILED", "no")
        assert there in str(error) and "ask for less (gpu, in its manifest)" in str(error)


def test_a_parked_session_without_room_stays_parked(stage: Stage) -> None:
    session = stage.open("Weights", **SIXTY)
    (home,) = session.info().gpu["gpus"]
    session.park()
    stage.gpus.stranger(home, 500)
    until(lambda: stage.seen(home) == 500)
    with within(WAIT_SECONDS + 2):
        error = error_of(lambda: session.call("run"))
    assert (error.code, error.ran) == ("NO_ROOM", "no") and "other programs with" in str(error)
    assert error_of(session.unpark).code == "NO_ROOM"
    assert session.info().state == "parked"
    stage.gpus.stranger(home, 400)
    assert session.call("run").output == {"n": 1, "weights": after(0, 1)}


def test_spares_are_not_started_without_room(stage: Stage) -> None:
    there = [stage.open("Weights", {"seed": seed}, **SIXTY) for seed in range(2)]
    error = error_of(lambda: stage.client.warm(stage.app("Hooked", **SIXTY)))
    assert error.code == "NO_ROOM" and "a spare parks nobody" in str(error)
    assert [session.info().gpu["moves"] for session in there] == [0, 0]
    there[0].end()
    stage.client.warm(stage.app("Hooked", **SIXTY))
    spare = next(info for info in stage.client.sessions.list() if info.kind == "spare")
    assert spare.gpu["reserved"] == 600


def test_what_is_prepared_is_shared_by_sessions_on_their_gpus(stage: Stage, prepared: Path) -> None:
    env = {"PREPARED": str(prepared)}
    app = stage.app("Prepared", env=env, gpu=0.5)
    described = stage.client.describe(app)
    assert "weights" in [function["name"] for function in described["functions"]]
    assert not prepared.exists(), "an app is described without its prepare"
    sessions = [stage.client.session(app, setup={"size": 500}) for _ in range(4)]
    pids = sessions[0].call("prepared").output
    assert [session.call("prepared").output for session in sessions] == [pids] * 4
    assert prepared.read_text().split() == [str(pid) for pid in pids] and len(pids) == 1
    assert sorted(gpu for session in sessions for gpu in seen_by(session)) == [A, A, B, B]
    assert {session.info().origin for session in sessions} == {"fork"}
