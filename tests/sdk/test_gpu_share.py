"""`warmd.gpu.share` between real processes; memory files stand in for the GPU's memory."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.watch import until
from tests.sdk.shareusers import User, holders, sharing, users
from warmd import gpu, gpuholder
from warmd.gpulayout import fingerprint_of, layout, tensors_of, views
from warmd.gpushare import ShareError, Sharing

torch: Any = pytest.importorskip("torch")


@pytest.fixture
def user() -> Iterator[Callable[..., User]]:
    with users() as made:
        yield made


def weights() -> dict[str, Any]:
    a = torch.arange(1000, dtype=torch.float32).view(10, 100).to(torch.bfloat16)
    others = {"turned": a.t(), "none": torch.empty(0, 3), "one": torch.tensor(7)}
    return {"a": a, "tied": a, **others, "own": torch.tensor([os.getpid()])}


def other_weights() -> dict[str, Any]:
    return {"a": torch.zeros(1)}


def no_weights() -> dict[str, Any]:
    raise FileNotFoundError("no such model")


def slow_weights(seconds: float, begun: Any = None) -> dict[str, Any]:
    if begun is not None:
        begun.set()
    time.sleep(seconds)
    return weights()


def much() -> dict[str, Any]:
    return {"a": torch.empty(2**20, dtype=torch.uint8)}


def maker(tensors: Any) -> int:
    return int(tensors["own"])


def is_whole(tensors: Any) -> bool:
    return all(torch.equal(tensors[name], one) for name, one in weights().items() if name != "own")


def write(tensors: Any) -> None:
    tensors["one"].fill_(8)


def read(tensors: Any) -> int:
    return int(tensors["one"])


def exclusions(_tensors: Any) -> list[str]:
    return gpu.exclusions


# What is shared


def test_the_first_makes_and_the_others_map_the_same_memory(user: Callable[..., User]) -> None:
    shared = sharing("same")
    first = user(shared, "w", weights)
    assert first.answer() == "shares"
    others = [user(shared, "w", weights) for _ in range(2)]
    assert [one.answer() for one in others] == ["shares"] * 2
    for one in (first, *others):
        assert one.ask(is_whole)
        assert one.ask(maker) == first.process.pid
    first.ask(write)
    assert [one.ask(read) for one in others] == [8, 8]
    assert len(holders()) == 1


def test_two_first_ones_at_once_make_it_once(user: Callable[..., User]) -> None:
    shared = sharing("rush")
    make = functools.partial(slow_weights, 0.1)
    all = [user(shared, "w", make) for _ in range(6)]
    assert [one.answer() for one in all] == ["shares"] * 6
    assert len({one.ask(maker) for one in all}) == 1
    assert len(holders()) == 1


def test_the_driver_cannot_checkpoint_who_shares(user: Callable[..., User]) -> None:
    one = user(sharing("excluded"), "w", weights)
    one.answer()
    (reason,) = one.ask(exclusions)
    assert "shared with other sessions" in reason
    assert not gpu.exclusions


def test_keys_gpus_and_spaces_are_apart(user: Callable[..., User]) -> None:
    asked = [(sharing("x"), "w"), (sharing("x"), "v"), (sharing("y"), "w")]
    all = [user(shared, key, weights) for shared, key in asked]
    assert [one.answer() for one in all] == ["shares"] * 3
    assert len({one.ask(maker) for one in all}) == len(holders()) == 3
    one = sharing("x")
    assert one._address("GPU-1", "w") != one._address("GPU-2", "w")


def test_who_asks_twice_gets_the_same(user: Callable[..., User]) -> None:
    shared = sharing("twice")

    def both() -> dict[str, Any]:
        places = [shared.share("inner", weights)["a"].data_ptr() for _ in range(2)]
        return {"one": torch.tensor(len(set(places)))}

    one = user(shared, "outer", both)
    assert one.answer() == "shares"
    assert one.ask(read) == 1


# Who lives how long


def test_the_memory_outlives_who_has_made_it_and_ends_with_the_last(user: Callable[..., User]) -> None:
    shared = sharing("lives", linger_seconds=0.5)
    first, second = user(shared, "w", weights), user(shared, "w", weights)
    assert [first.answer(), second.answer()] == ["shares"] * 2
    made_by = second.ask(maker)
    first.kill()
    assert second.ask(is_whole)
    third = user(shared, "w", weights)
    assert third.answer() == "shares" and third.ask(maker) == made_by
    second.kill()
    third.kill()
    soon = user(shared, "w", weights)  # within the holder's last seconds
    assert soon.answer() == "shares" and soon.ask(maker) == made_by
    soon.kill()
    until(lambda: not holders())
    late = user(shared, "w", weights)
    assert late.answer() == "shares" and late.ask(maker) == late.process.pid


def test_who_uses_it_ends_with_the_holder(user: Callable[..., User]) -> None:
    shared = sharing("dies")
    all = [user(shared, "w", weights) for _ in range(2)]
    assert [one.answer() for one in all] == ["shares"] * 2
    os.kill(holders()[0], signal.SIGKILL)
    for one in all:
        assert "held the shared weights 'w' has died" in one.last_words()
        assert one.process.exitcode == 1
    again = user(shared, "w", weights)
    assert again.answer() == "shares" and again.ask(maker) == again.process.pid


# What goes wrong


def _slow(user: Callable[..., User], shared: Sharing) -> User:
    """One that is at it."""
    begun = multiprocessing.get_context("fork").Event()
    one = user(shared, "w", functools.partial(slow_weights, 30.0, begun))
    assert begun.wait(20.0)
    return one


def test_a_maker_that_fails_is_followed_by_the_next(user: Callable[..., User]) -> None:
    shared = sharing("fails")
    first = _slow(user, shared)
    second = user(shared, "w", functools.partial(slow_weights, 0.0))
    first.kill()
    assert second.answer() == "shares" and second.ask(maker) == second.process.pid
    third = user(sharing("fails too"), "w", no_weights)
    assert isinstance(third.answer(), FileNotFoundError)


def test_a_maker_that_dies_while_it_fills_leaves_nothing_half_filled(user: Callable[..., User]) -> None:
    shared = sharing("half")
    held = multiprocessing.get_context("fork").Event()
    shared._mapped.wait = lambda _place: (held.set(), time.sleep(30.0))  # type: ignore[assignment,func-returns-value]
    first = user(shared, "w", weights)
    assert held.wait(20.0)
    (half,) = holders()
    del shared._mapped.wait
    second = user(shared, "w", weights)
    first.kill()
    assert second.answer() == "shares" and second.ask(is_whole)
    assert second.ask(maker) == second.process.pid
    assert half not in holders()


def test_another_make_under_the_same_key_is_refused(user: Callable[..., User]) -> None:
    shared = sharing("other")
    assert user(shared, "w", weights).answer() == "shares"
    error = user(shared, "w", other_weights).answer()
    assert isinstance(error, ShareError)
    assert "the key 'w' stands for what another function has made" in str(error)


def test_too_little_memory_is_told_with_the_drivers_words(user: Callable[..., User]) -> None:
    shared = sharing("full", room_bytes=2**19)
    error = user(shared, "w", much).answer()
    assert isinstance(error, ShareError)
    assert "1048576 bytes for 'w' could not be had: cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY" in str(error)
    assert user(shared, "w", weights).answer() == "shares"


def test_waiting_has_an_end(user: Callable[..., User]) -> None:
    shared = sharing("late")
    _slow(user, shared)
    late = user(shared, "w", functools.partial(slow_weights, 30.0), seconds=0.3)
    error = late.answer()
    assert isinstance(error, ShareError) and "were not there in time" in str(error)


def test_a_holder_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = sharing("broken")
    shared._mapped.argument = "no number"
    with pytest.raises(ShareError, match="invalid literal for int"):
        shared.share("w", weights, seconds=5.0)
    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(ShareError, match=r"could not be started: .*/no/python"):
        sharing("broken too").share("w", weights, seconds=5.0)
    until(lambda: not holders())


def test_in_an_import_or_prepare_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMD_WORKER_TOKEN", "0" * 64)
    with pytest.raises(ShareError, match="call it in setup"):
        gpu.share("w", weights)


# What crosses


def test_the_same_memory_is_there_once() -> None:
    made = tensors_of(weights())
    size_bytes, described = layout(made)
    begins = {name: begin for name, _, _, begin in described}
    assert begins["a"] == begins["tied"]
    assert size_bytes == 2048 + 512 + 2048 + 512
    found = views(torch.zeros(size_bytes, dtype=torch.uint8), described)
    assert {name: (one.dtype, one.shape) for name, one in found.items()} == {
        name: (one.dtype, one.shape) for name, one in made.items()
    }


@pytest.mark.parametrize("made", [[1], {"a": 1}, {1: torch.ones(1)}, {"a": torch.eye(2).to_sparse()}])
def test_only_plain_tensors_are_shared(made: Any) -> None:
    with pytest.raises(TypeError, match="tensors"):
        tensors_of(made)


@pytest.mark.parametrize(("key", "make"), [(3, dict), ("w", 4)])
def test_a_key_is_a_text_and_what_makes_the_weights_a_function(key: Any, make: Any) -> None:
    with pytest.raises(TypeError, match=r"share\(key, make\) takes a text and a function"):
        gpu.share(key, make)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_there_is_no_gpu_that_is_said() -> None:
    with pytest.raises(RuntimeError, match="weights are shared on a GPU, and torch finds none here"):
        gpu.share("w", dict)


def test_a_module_gives_its_state() -> None:
    module = torch.nn.Linear(2, 3)
    assert set(tensors_of(module)) == {"weight", "bias"}


def test_functions_are_told_apart_by_their_code() -> None:
    def made(text: str) -> str:
        space: dict[str, Any] = {}
        exec(compile(f"\n\ndef make():\n  return {text}", "x", "exec"), space)
        return fingerprint_of(space["make"])

    assert made("{1: 2}") == made("{1: 2}") != made("{1: 3}")
    assert fingerprint_of(functools.partial(slow_weights, 1)) == fingerprint_of(slow_weights)
    states = [fingerprint_of(torch.nn.Linear(size, size).state_dict) for size in (1, 2)]
    assert states[0] == states[1]


def test_a_holder_leaves_the_cgroup_of_its_session(tmp_path: Path) -> None:
    for name, group in (("self", "/base/worker"), ("77", "/base/daemon")):
        (tmp_path / "proc" / name).mkdir(parents=True)
        (tmp_path / "proc" / name / "cgroup").write_text(f"0::{group}\n")
    (tmp_path / "proc/self/mountinfo").write_text("31 24 0:27 / /cg rw - cgroup2 cgroup2 rw\n")
    with pytest.raises(SystemExit, match="cannot leave its session's cgroup"):
        gpuholder._leave_cgroup("77", tmp_path)
    there = tmp_path / "cg/base/daemon"
    there.mkdir(parents=True)
    gpuholder._leave_cgroup("77", tmp_path)
    assert (there / "cgroup.procs").read_text() == str(os.getpid())
