"""The reactor: descriptors, timers, threads, signals, and what a broken callback costs."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.turning import turn_until
from warmd.daemon import loop as loop_module
from warmd.daemon.loop import READ, WRITE, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield ends
    for fd in ends:
        os.close(fd)


def test_timers_come_in_their_order_and_never_early(loop: Loop) -> None:
    came: list[tuple[str, float]] = []
    start = time.monotonic()
    loop.call_at(start + 0.02, lambda: came.append(("second", time.monotonic())))
    loop.call_at(start + 0.01, lambda: came.append(("first", time.monotonic())))
    loop.call_at(start + 0.015, lambda: came.append(("cancelled", 0))).cancel()
    turn_until(loop, lambda: len(came) == 2)
    assert [name for name, _ in came] == ["first", "second"]
    assert came[0][1] >= start + 0.01
    assert came[1][1] >= start + 0.02


def test_a_timer_may_be_farther_away_than_the_kernel_can_wait(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[int] = []
    far = loop.call_in(30 * 86400, lambda: came.append(0))
    loop.post(lambda: came.append(1))
    loop.turn()
    assert came == [1]
    far.cancel()
    # Who wakes in between has only lost a turn.
    monkeypatch.setattr(loop_module, "LONGEST_WAIT_SECONDS", 0.001)
    due = time.monotonic() + 0.02
    loop.call_at(due, lambda: came.append(2))
    while came != [1, 2]:
        assert time.monotonic() < due + 10
        loop.turn()
    assert time.monotonic() >= due


def test_what_cannot_be_watched_is_not_half_watched(loop: Loop, tmp_path: Path) -> None:
    with open(tmp_path / "plain", "wb") as file:
        with pytest.raises(PermissionError):
            loop.watch(file.fileno(), lambda _mask: None)
        loop.unwatch(file.fileno())


def test_readiness_is_level_triggered(loop: Loop, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    masks: list[int] = []
    loop.watch(reader, masks.append)
    os.write(writer, b"x")
    loop.turn()
    loop.turn()
    assert masks == [READ, READ]
    loop.unwatch(reader)
    loop.unwatch(reader)


def test_interest_can_be_changed(loop: Loop, pipe: tuple[int, int]) -> None:
    masks: list[int] = []
    loop.watch(pipe[1], masks.append, READ)
    loop.change(pipe[1], READ | WRITE)
    loop.turn()
    assert masks == [WRITE]


def test_a_descriptor_unwatched_in_the_same_turn_is_not_called(loop: Loop) -> None:
    ends = [os.pipe2(os.O_NONBLOCK) for _ in range(2)]
    called = []

    def first_come(fd: int, other: int) -> None:
        called.append(fd)
        loop.unwatch(other)

    for (fd, writer), (other, _) in zip(ends, reversed(ends), strict=True):
        loop.watch(fd, lambda _mask, fd=fd, other=other: first_come(fd, other))  # type: ignore[misc]
        os.write(writer, b"x")
    loop.turn()
    assert len(called) == 1
    for pair in ends:
        for fd in pair:
            os.close(fd)


def test_posts_of_threads_wake_the_loop_and_keep_their_order(loop: Loop) -> None:
    came: list[int] = []
    thread = threading.Thread(target=lambda: [loop.post(lambda i=i: came.append(i)) for i in range(500)])  # type: ignore[misc]
    thread.start()
    turn_until(loop, lambda: len(came) == 500)
    thread.join()
    assert came == list(range(500))


def test_a_post_from_a_post_waits_for_the_next_turn(loop: Loop) -> None:
    turns: list[int] = []

    def again() -> None:
        turns.append(len(turns))
        loop.post(again)

    loop.post(again)
    loop.turn()
    assert turns == [0]
    loop.turn()
    assert turns == [0, 1]


def test_a_post_after_the_end_is_harmless() -> None:
    loop = Loop()
    loop.close()
    loop.post(lambda: None)


def test_a_callback_that_raises_costs_only_itself(
    loop: Loop, pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    came: list[str] = []

    def bad(*_: object) -> None:
        came.append("bad")
        raise ValueError("planted")

    os.write(pipe[1], b"x")
    loop.watch(pipe[0], bad)
    loop.before_wait.append(bad)  # type: ignore[arg-type]
    loop.post(bad)
    loop.call_in(0, bad)
    loop.call_in(0.001, lambda: came.append("good"))
    with caplog.at_level(logging.ERROR, "warmd.loop"):
        turn_until(loop, lambda: "good" in came)
    loop.before_wait.clear()
    assert came.count("bad") >= 4
    assert caplog.text.count("planted") >= 4


def test_who_is_busy_before_the_wait_is_not_made_to_wait(loop: Loop) -> None:
    asked: list[int] = []

    def busy() -> bool:
        asked.append(1)
        return len(asked) < 50

    loop.before_wait.append(busy)
    start = time.monotonic()
    loop.call_in(5, lambda: None)
    while len(asked) < 50:
        loop.turn() if len(asked) < 49 else busy()
    assert time.monotonic() - start < 2


def test_signals_arrive_on_the_loop_and_the_old_handlers_return() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    loop = Loop()
    came: list[int] = []
    loop.on_signal(signal.SIGUSR1, lambda: came.append(1))
    os.kill(os.getpid(), signal.SIGUSR1)
    turn_until(loop, lambda: came)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_run_ends_with_stop(loop: Loop) -> None:
    loop.call_in(0.01, loop.stop)
    loop.run()


def test_a_loop_that_closes_gives_handlers_back_or_leaves_the_signal_without_meaning() -> None:
    for ignore, left in ((False, signal.default_int_handler), (True, signal.SIG_IGN)):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            loop = Loop()
            loop.on_signal(signal.SIGINT, lambda: None)
            loop.close(ignore_signals=ignore)
            assert signal.getsignal(signal.SIGINT) is left
        finally:
            signal.signal(signal.SIGINT, before)
