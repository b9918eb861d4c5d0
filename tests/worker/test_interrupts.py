from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.worker.daemon import PATIENCE_SECONDS, FakeDaemon
from warmd.daemon.worker.page import INTERRUPT_SIGNAL
from warmd.protocol.messages import CallId
from warmd.protocol.values import unpack
from warmd.protocol.work import Interrupted, Invoke, Ordinal, Progressed, Ready, Returned

LATER = Ordinal(10**9)
"""Of a call that no test comes to by counting."""


@pytest.mark.parametrize(
    "function", ["sleep", "loop", "lock", "regex", "c_sleep", "subprocess", "own_handlers"]
)
def test_an_interrupt_takes_and_the_state_stays(hangs: FakeDaemon, function: str) -> None:
    before = hangs.value("alive")
    ordinal = hangs.entered(function)
    reply = hangs.interrupt_until_reply(ordinal)
    assert isinstance(reply, Interrupted)
    assert (reply.ordinal, reply.run_seconds > 0) == (ordinal, True)
    assert hangs.value("alive") == before + 1


def test_finally_runs(hangs: FakeDaemon, tmp_path: Path) -> None:
    ordinal = hangs.entered("clean_up", str(tmp_path / "note"))
    assert isinstance(hangs.interrupt_until_reply(ordinal), Interrupted)
    assert (tmp_path / "note").read_text() == "cleaned up\n"


def test_clean_up_code_is_spared_the_next_interrupts(hangs: FakeDaemon, tmp_path: Path) -> None:
    ordinal = hangs.entered("slow_clean_up", str(tmp_path / "note"))
    assert isinstance(hangs.interrupt_until_reply(ordinal, 0.02), Interrupted)
    assert (tmp_path / "note").read_text() == "cleaned up\n"


def test_a_swallowed_interrupt_lets_the_function_return(hangs: FakeDaemon) -> None:
    reply = hangs.interrupt_until_reply(hangs.entered("swallow_once"))
    assert isinstance(reply, Returned)
    assert unpack(reply.value) == "swallowed"


def test_a_late_interrupt_spares_the_next_call(hangs: FakeDaemon) -> None:
    first = hangs.entered("swallow_once")
    hangs.interrupt_until_reply(first)
    second = hangs.entered("swallow_once")
    for _ in range(20):
        hangs.interrupt(first)
    hangs.cancel(first, with_signal=True)
    assert hangs.is_silent()
    assert isinstance(hangs.interrupt_until_reply(second), Returned)


def test_interrupts_between_calls_do_nothing(hangs: FakeDaemon) -> None:
    before = hangs.value("alive")
    for ordinal in (0, 1, 2, LATER - 1):
        hangs.interrupt(Ordinal(ordinal))
    assert hangs.page.interrupt == LATER - 1
    assert hangs.value("alive") == before + 1


def test_a_call_that_was_cancelled_before_it_began_is_not_entered(hangs: FakeDaemon) -> None:
    before = hangs.value("alive")
    hangs.page.request_cancel(LATER)
    hangs.tell(Invoke(LATER, CallId(b"x" * 16), "alive", None))
    assert hangs.next() == Interrupted(LATER, 0.0)
    assert hangs.value("alive") == before + 1


def test_interrupts_never_cut_a_message_in_two(hangs: FakeDaemon) -> None:
    for _ in range(5):
        ordinal = hangs.invoke("progress_loop")
        for _ in range(20):
            assert isinstance(hangs.next(), Progressed)
        assert isinstance(hangs.interrupt_until_reply(ordinal, 0.0), Interrupted)
    assert isinstance(hangs.call("alive"), Returned)


def test_interrupts_as_fast_as_possible_lose_no_reply(hangs: FakeDaemon) -> None:
    for n in range(300):
        ordinal = hangs.invoke("alive")
        hangs.interrupt(ordinal)
        hangs.signal(INTERRUPT_SIGNAL)
        assert hangs.reply().ordinal == ordinal, n


def test_progress_from_a_thread(hangs: FakeDaemon) -> None:
    hangs.invoke("progress_from_thread")
    said = hangs.next()
    assert (type(said), unpack(said.value)) == (Progressed, "from a thread")
    assert isinstance(hangs.next(), Returned)


def test_context_cancelled(hangs: FakeDaemon) -> None:
    ordinal = hangs.entered("polite")
    hangs.cancel(ordinal)
    reply = hangs.reply()
    assert isinstance(reply, Returned)
    assert unpack(reply.value) == "stopped"


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("sleep", "time.sleep(seconds)"),
        ("loop", "while True:"),
        ("lock", "lock.acquire()"),
        ("c_loop", "sum(range(10**15))"),
    ],
)
def test_the_stack_names_the_line_of_the_hang(daemon: FakeDaemon, function: str, line: str) -> None:
    daemon.start("Hangs")
    daemon.entered(function)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        # The first ones may still show it on its way out of progress().
        first = next(text for text in daemon.stack().splitlines() if text.startswith("  File"))
        path, number = first.split('"')[1], int(first.split("line ")[1].split()[0])
        if line in Path(path).read_text().splitlines()[number - 1]:
            break
        assert time.monotonic() < deadline, first
    assert first.endswith(f"in {function}")


def test_a_stack_costs_the_call_nothing(hangs: FakeDaemon) -> None:
    ordinal = hangs.entered("sleep", {"seconds": 0.5})
    for _ in range(5):
        hangs.stack()
    reply = hangs.reply()
    assert (type(reply), reply.ordinal) == (Returned, ordinal)
    assert reply.run_seconds >= 0.5


def test_deaf_code_is_left_to_sigkill(daemon: FakeDaemon) -> None:
    daemon.start("Hangs")
    ordinal = daemon.entered("ignore_signals")
    daemon.interrupt(ordinal)
    assert daemon.is_silent()


@pytest.mark.parametrize("config", [None, "raise"])
def test_on_cancel_is_told_once(daemon: FakeDaemon, config: str | None) -> None:
    ready = daemon.start("OnCancel", setup=config)
    assert ready.on_cancel
    for n in (1, 2):
        ordinal = daemon.entered("run")
        daemon.cancel(ordinal, with_signal=True)
        daemon.signal(INTERRUPT_SIGNAL)
        reply = daemon.reply()
        assert isinstance(reply, Returned)
        assert unpack(reply.value) == "stopped by on_cancel"
        assert daemon.value("how_often") == n
    assert ("on_cancel fails" in daemon.log_text()) == (config == "raise")


def test_an_interrupt_follows_an_on_cancel_that_did_not_help(daemon: FakeDaemon) -> None:
    daemon.start("OnCancel")
    ordinal = daemon.entered("deaf")
    daemon.cancel(ordinal, with_signal=True)
    assert daemon.is_silent()
    assert isinstance(daemon.interrupt_until_reply(ordinal), Interrupted)
    assert daemon.value("how_often") == 1


def test_an_on_cancel_that_hangs_is_interrupted_too(daemon: FakeDaemon) -> None:
    daemon.start("OnCancel", setup="hang")
    ordinal = daemon.entered("deaf")
    daemon.cancel(ordinal, with_signal=True)
    assert daemon.is_silent()
    assert isinstance(daemon.interrupt_until_reply(ordinal), Interrupted)
    assert daemon.value("how_often") == 1


def test_signals_blocked_or_ignored_by_the_daemon_work(daemon: FakeDaemon) -> None:
    import signal

    before = signal.getsignal(signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, [INTERRUPT_SIGNAL])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(INTERRUPT_SIGNAL, signal.SIG_IGN)
    try:
        daemon.spawn(restore_signals=False)
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(INTERRUPT_SIGNAL, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [INTERRUPT_SIGNAL])
    daemon.admit()
    daemon.begin("zoo:Hangs")
    assert isinstance(daemon.next(), Ready)
    assert isinstance(daemon.interrupt_until_reply(daemon.entered("sleep")), Interrupted)
    assert daemon.call("sleep", {"seconds": 0.0}).ordinal == 2
