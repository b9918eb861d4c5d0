"""Sessions that take turns on GPUs which have not room for all: real daemon and workers, a fake driver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.gpustage import A, B, C, Stage, after, staged
from tests.faults.watch import begun, carriers, error_of, together, token_of, until

SIXTY = {"gpu": "600B"}
QUEUED = 20


@pytest.fixture(scope="module")
def whole_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("gpus"), devices=3) as stage:
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    yield whole_stage
    whole_stage.clear()


@pytest.fixture
def one_gpu(stage: Stage) -> Stage:
    stage.only(A)
    return stage


def test_two_of_sixty_percent_in_turn_give_the_same_as_alone(stage: Stage) -> None:
    """A pair on each GPU: moved by the driver, by hooks, and by `warmd.gpu.offload`."""
    ways = ["Weights", "Hooked", "Offloads"]
    first = [stage.open(way, {"seed": seed}, **SIXTY) for seed, way in enumerate(ways)]
    second = [stage.open(way, {"seed": seed + 3}, **SIXTY) for seed, way in enumerate(ways)]

    def in_turn(way: int) -> None:
        for calls in range(1, 11):
            for session, seed in ((first[way], way), (second[way], way + 3)):
                found = session.call("run").output
                assert found == {"n": calls, "weights": after(seed, calls)}

    together(in_turn, range(3))
    homes = [list(session.info().gpu["gpus"]) for session in first + second]
    assert homes[:3] == homes[3:] and sorted(homes[:3]) == [[A], [B], [C]]
    assert [session.info().gpu["moves"] for session in first + second] == [11] * 3 + [10] * 3
    assert [session.info().gpu["kept"] for session in first + second] == [None] * 6


def test_a_busy_session_is_not_parked(one_gpu: Stage, tmp_path: Path) -> None:
    busy = one_gpu.open("Weights", **SIXTY)
    done = tmp_path / "done"
    call = begun(busy.submit("compute", {"until": str(done)}))
    error = error_of(busy.park)
    assert error.code == "INVALID" and "is busy" in str(error)
    other = one_gpu.submit_open("Weights", **SIXTY)
    waiting = until(one_gpu.placing)
    until(lambda: waiting[0].id and one_gpu.client.sessions.get(waiting[0].id).gpu["waits_seconds"] > 1.2)
    info = busy.info()
    assert (info.state, info.gpu["moves"], one_gpu.gpus.state(info.pid)) == ("busy", 0, "running")
    done.touch()
    assert call.result(20).output > 10
    assert other.result(20).output != info.pid
    assert busy.info().state == "parked"


@pytest.mark.parametrize("entry", ["Weights", "Hooked", "AsyncHooked"])
def test_calls_during_a_transition_wait_in_order(one_gpu: Stage, entry: str) -> None:
    slow = {"parked": "sleep 0.2", "unpark": "sleep 0.2"}
    session = one_gpu.open(entry, {"fail": slow}, **SIXTY)
    one_gpu.gpus.fault("slow", "checkpoint.locked", seconds=0.2)
    one_gpu.gpus.fault("slow", "restore.moved", seconds=0.2)
    other = one_gpu.submit_open(entry, {"seed": 1}, **SIXTY)
    one_gpu.await_state(session, "parking")
    calls = [session.submit("run") for _ in range(QUEUED)]
    other.result(20)
    one_gpu.await_state(session, "unparking")
    calls += [session.submit("run") for _ in range(QUEUED)]
    found = [call.result(20).output for call in calls]
    assert [one["n"] for one in found] == list(range(1, 2 * QUEUED + 1))
    assert found[-1]["weights"] == after(0, 2 * QUEUED)


def test_a_kernel_that_is_left_running_keeps_its_session_where_it_is(one_gpu: Stage, tmp_path: Path) -> None:
    session, done = one_gpu.open("Weights", **SIXTY), tmp_path / "done"
    session.call("leave_kernel", {"until": str(done)})
    busy = one_gpu.gpus.folder.process(session.info().pid)
    assert busy is not None
    until((busy.path / "busy").exists)
    error = error_of(session.park)
    assert error.code == "INVALID" and "CUDA_ERROR_NOT_READY" in str(error)
    assert session.call("run").output["weights"] == after(0, 1)
    done.touch()
    until(lambda: not (busy.path / "busy").exists())
    assert session.park().state == "parked"
    assert session.info().gpu["kept"] is None


@pytest.mark.parametrize("how", ["fork", "setsid", "double"])
def test_a_child_with_memory_of_its_own_goes_with_its_parent(
    one_gpu: Stage, tmp_path: Path, how: str
) -> None:
    """It is parked with it, comes back with it, and ends with it before the memory is given away."""
    died = tmp_path / "died"
    session = one_gpu.open("Weights", {"size": 400}, gpu="900B")
    pid = session.info().pid
    child = session.call("leave_child", {"size": 500, "how": how, "died": str(died)}).output
    until(lambda: session.info().gpu["memory"] == 900)
    session.park()
    assert one_gpu.gpus.used(A) == 0
    assert (one_gpu.gpus.state(pid), one_gpu.gpus.state(child)) == ("checkpointed", "checkpointed")
    assert session.call("run").output["weights"] == after(0, 1, size=400)
    assert one_gpu.gpus.used(A) == 900
    token = token_of(pid)
    one_gpu.gpus.return_slowly(0.3)
    waits = one_gpu.submit_open("Weights", {"size": 900}, gpu="900B", park="never")
    session.end()
    assert not carriers(token) and not died.exists()
    assert waits.result(20).output not in (pid, child)


def test_a_session_that_is_never_parked_stays_and_others_wait(one_gpu: Stage) -> None:
    stays = one_gpu.open("Weights", park="never", **SIXTY)
    error = error_of(stays.park)
    assert error.code == "NOT_ALLOWED" and 'park = "never"' in str(error)
    assert stays.info().gpu["kept"] == 'its app says so (park = "never")'
    waits = one_gpu.submit_open("Weights", **SIXTY)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 0.5)
    assert (stays.info().state, stays.info().gpu["moves"]) == ("idle", 0)
    stays.end()
    assert waits.result(20).output


def test_what_an_app_has_used_is_kept_for_the_next_of_its_kind(one_gpu: Stage) -> None:
    first = one_gpu.open("Weights", park="never")
    until(lambda: first.info().gpu)
    assert first.call("visible").output["variable"] is None
    alike = one_gpu.submit_open("Weights", park="never")
    until(one_gpu.placing)
    small = one_gpu.open("Weights", {"size": 100}, park="never")
    assert small.call("weights").output == after(0, 0, size=100)
    first.end()
    assert alike.result(20).output
    info = one_gpu.client.sessions.get(alike.session_id)
    assert info.gpu["reserved"] == 600


def test_a_start_waits_for_what_another_program_has(one_gpu: Stage) -> None:
    one_gpu.gpus.stranger(A, 500)
    until(lambda: one_gpu.seen(A) == 500)
    waits = one_gpu.submit_open("Weights", **SIXTY)
    (info,) = until(one_gpu.placing)
    until(lambda: one_gpu.client.sessions.get(info.id).gpu["waits_seconds"] > 0.3)
    one_gpu.gpus.stranger(A, 400)
    assert waits.result(20).output


def test_by_hand(one_gpu: Stage) -> None:
    session = one_gpu.open("Weights", {"seed": 4}, **SIXTY)
    assert session.unpark().state == "idle"
    info = session.park()
    assert (info.state, info.gpu["parked"], info.gpu["memory"], info.gpu["moves"]) == ("parked", 600, 0, 1)
    assert one_gpu.gpus.used(A) == 0 and one_gpu.gpus.state(info.pid) == "checkpointed"
    assert session.park().gpu["moves"] == 1
    info = session.unpark()
    assert (info.state, info.gpu["parked"], one_gpu.gpus.used(A)) == ("idle", 0, 600)
    until(lambda: session.info().gpu["memory"] == 600)
    assert info.gpu["park_seconds"] > 0 and info.gpu["unpark_seconds"] > 0
    assert session.call("run").output["weights"] == after(4, 1)
    plain = one_gpu.open("Plain")
    error = error_of(plain.park)
    assert error.code == "INVALID" and "has no GPU memory" in str(error)


@pytest.mark.parametrize("hidden", ["bytes", "processes"])
def test_a_driver_that_does_not_tell_whose_memory_is_whose(one_gpu: Stage, hidden: str) -> None:
    """As in a container: what is reserved counts, and what has come free."""
    one_gpu.gpus.tell_bytes(hidden != "bytes")
    one_gpu.gpus.show_processes(hidden != "processes")
    first = one_gpu.open("Weights", {"seed": 1}, **SIXTY)
    second = one_gpu.open("Hooked", {"seed": 2}, **SIXTY)
    for calls in range(1, 4):
        assert first.call("run").output["weights"] == after(1, calls)
        assert second.call("run").output["weights"] == after(2, calls)
    assert first.info().gpu["kept"] is None and first.info().gpu["moves"] == 4
