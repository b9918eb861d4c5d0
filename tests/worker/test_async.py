from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.worker.daemon import PATIENCE_SECONDS, FakeDaemon
from warmd.protocol.values import unpack
from warmd.protocol.work import Finish, Interrupted, Ordinal, Raised, Returned, StartFailed


def test_calls_keep_state_and_loop(app: FakeDaemon) -> None:
    n = app.value("run", 0)["n"]
    assert app.value("run", 1) == {"n": n + 1, "input": 1, "same_loop": True}
    assert app.value("run", 2) == {"n": n + 2, "input": 2, "same_loop": True}
    assert app.value("sync", [3]) == [3]


def test_calls_that_come_together_run_one_after_another(app: FakeDaemon) -> None:
    ordinals = [app.invoke("slow_echo", n) for n in range(20)]
    replies = [app.reply() for _ in ordinals]
    assert [(reply.ordinal, unpack(reply.value)) for reply in replies] == list(
        zip(ordinals, range(20), strict=True)
    )


def test_background_tasks_run_between_calls(app: FakeDaemon) -> None:
    before = app.value("how_many_beats")
    assert app.is_silent(0.3)
    assert app.value("how_many_beats") >= before + 5


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("raises", "ValueError"),
        ("exit", "SystemExit"),
        ("keyboard", "KeyboardInterrupt"),
        ("cancelled", "CancelledError"),
    ],
)
def test_whatever_is_raised_is_told(app: FakeDaemon, function: str, kind: str) -> None:
    reply = app.call(function)
    assert isinstance(reply, Raised)
    assert reply.type.endswith(kind)
    assert f"in {function}" in reply.traceback
    assert "daemon/worker" not in reply.traceback
    assert app.value("run", 0)["same_loop"]


def test_an_exit_in_a_background_task_costs_nothing(app: FakeDaemon) -> None:
    assert app.value("exit_in_task") == "left behind"
    beats = app.value("how_many_beats")
    assert app.value("until_beats", beats + 3) >= beats + 3
    assert "SystemExit" in app.log_text()


def test_cancelling_all_tasks_ends_the_call_only(daemon: FakeDaemon) -> None:
    daemon.start("Async")
    reply = daemon.call("cancel_all_tasks")
    assert isinstance(reply, Raised)
    assert reply.type.endswith("CancelledError")
    assert daemon.value("echo", 1) == 1


def test_stopping_the_loop_does_not_stop_it(app: FakeDaemon) -> None:
    assert app.value("stop_loop") == "stopped and going on"


FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in ')

INTERRUPTIBLE = [
    "sleep",
    "gather",
    "task_group",
    "loop_in_task",
    "loop_in_coroutine",
    "loop_in_sync",
    "in_thread",
    "wait_for",
    "swallow_twice",
    "slow_clean_up",
]


@pytest.mark.parametrize("function", INTERRUPTIBLE)
def test_an_interrupt_takes_and_the_state_stays(app: FakeDaemon, function: str) -> None:
    n = app.value("run", 1)["n"]
    ordinal = app.entered(function)
    reply = app.interrupt_until_reply(ordinal)
    assert isinstance(reply, Interrupted), reply
    assert app.value("run", 2) == {"n": n + 1, "input": 2, "same_loop": True}
    beats = app.value("how_many_beats")
    assert app.value("until_beats", beats + 2) >= beats + 2, "the background task was hit"
    if function == "slow_clean_up":
        assert "cleaned up" in app.log_text()


def test_a_swallowed_cancellation_lets_the_function_return(app: FakeDaemon) -> None:
    reply = app.interrupt_until_reply(app.entered("swallow_once"))
    assert isinstance(reply, Returned)
    assert unpack(reply.value) == "swallowed"


def test_a_late_interrupt_spares_the_next_call(app: FakeDaemon) -> None:
    first = app.entered("sleep")
    app.interrupt_until_reply(first)
    second = app.entered("sleep")
    for _ in range(20):
        app.interrupt(first)
    assert app.is_silent()
    assert app.interrupt_until_reply(second).ordinal == second


def test_interrupts_as_fast_as_possible_lose_no_reply(app: FakeDaemon) -> None:
    for n in range(300):
        ordinal = app.invoke("run", n)
        app.interrupt(ordinal)
        app.interrupt(ordinal)
        assert app.reply().ordinal == ordinal, n


def test_interrupts_between_calls_do_nothing(app: FakeDaemon) -> None:
    for ordinal in (0, 1, 2, 10**9):
        app.interrupt(Ordinal(ordinal))
    assert app.value("sync", 1) == 1


def test_the_stack_of_blocking_code(app: FakeDaemon) -> None:
    ordinal = app.entered("loop_in_coroutine")
    assert "in loop_in_coroutine" in app.stack()
    app.interrupt_until_reply(ordinal)


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("sleep", "await asyncio.sleep(FOREVER)"),
        ("gather", "await asyncio.gather("),
        ("inner", "await asyncio.sleep(FOREVER)"),
        ("wait_for", "await asyncio.sleep(FOREVER)"),
        ("stream_that_waits", "await asyncio.sleep(FOREVER)"),
    ],
)
def test_the_stack_of_a_coroutine_that_waits(app: FakeDaemon, function: str, line: str) -> None:
    ordinal = app.entered(function)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        # The first ones may still show it on its way to the wait.
        stack = app.stack().splitlines()
        first = FRAME.match(stack[0])
        if first and line in Path(first["file"]).read_text().splitlines()[int(first["line"]) - 1]:
            break
        assert time.monotonic() < deadline, stack
    app.interrupt_until_reply(ordinal)
    assert [text for text in stack if "zoo_async.py" in text][-1].endswith(f"in {function}")


def test_an_async_on_cancel(daemon: FakeDaemon) -> None:
    assert daemon.start("AsyncOnCancel").on_cancel
    for n, with_signal in ((1, True), (2, False)):
        ordinal = daemon.entered("run")
        daemon.cancel(ordinal, with_signal)
        daemon.cancel(ordinal, with_signal)
        assert unpack(daemon.reply().value) == "stopped by on_cancel"
        assert daemon.value("how_often") == n


def test_finish_awaits_unload_and_ends_background_tasks(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.start("Async", setup={"unloaded": str(tmp_path / "note")})
    daemon.tell(Finish("stopped"))
    assert daemon.exit_code() == 0
    assert (tmp_path / "note").read_text() == "unloaded stopped\n"
    assert daemon.log_text() == ""


def test_the_end_of_the_link_ends_the_worker(daemon: FakeDaemon) -> None:
    assert not daemon.start("Async").on_cancel
    daemon.entered("sleep")
    assert daemon.link is not None
    daemon.link.close()
    assert daemon.exit_code() == 70


@pytest.mark.parametrize(
    ("name", "kind"), [("AsyncSetupRaises", "ValueError"), ("AsyncSetupExits", "SystemExit")]
)
def test_a_failing_async_setup(daemon: FakeDaemon, name: str, kind: str) -> None:
    failed = daemon.start(name)
    assert isinstance(failed, StartFailed)
    assert (failed.phase, failed.type) == ("setup", kind)
    assert "in setup" in failed.traceback
    assert daemon.exit_code() == 1


def test_a_forked_child_that_comes_back_ends(app: FakeDaemon, tmp_path: Path) -> None:
    assert app.value("return_in_child", str(tmp_path / "note")) == app.pid
    child = int((tmp_path / "note").read_text().split()[1])
    assert not Path(f"/proc/{child}").exists()
    assert app.value("echo", 1) == 1


def test_large_values(daemon: FakeDaemon) -> None:
    daemon.start("Async", max_message_bytes=2**26)
    blob: Any = bytes(range(256)) * 40_000
    assert daemon.value("echo", blob) == blob
