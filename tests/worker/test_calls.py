from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.worker.daemon import FakeDaemon
from warmd.protocol.messages import NOTHING, CallId
from warmd.protocol.values import pack, unpack
from warmd.protocol.work import Declined, Finish, Invoke, Ordinal, Progressed, Raised, Ready, Returned


@pytest.fixture
def good(daemon: FakeDaemon) -> FakeDaemon:
    assert isinstance(daemon.start("Good"), Ready)
    return daemon


def raised(daemon: FakeDaemon, function: str, value: Any = None) -> Raised:
    """The reply of a call that raises; the worker and its state live on."""
    before = daemon.value("alive")
    reply = daemon.call(function, value)
    assert isinstance(reply, Raised), reply
    assert daemon.value("alive") == before + 1
    return reply


def test_calls_keep_state_and_process(good: FakeDaemon) -> None:
    first, second = good.value("run", {"x": 1}), good.value("run", [2])
    assert first == {"n": 1, "pid": good.pid, "input": {"x": 1}}
    assert second == {"n": 2, "pid": good.pid, "input": [2]}
    assert good.value("add", {"b": 1, "a": 3}) == 4
    assert good.value("reset") == "reset"
    assert good.value("static", 4) == 4


def test_many_calls_in_one_write_are_answered_in_order(good: FakeDaemon) -> None:
    ordinals = [good.invoke("echo", n) for n in range(50)]
    replies = [good.reply() for _ in ordinals]
    assert [(reply.ordinal, unpack(reply.value)) for reply in replies] == list(
        zip(ordinals, range(50), strict=True)
    )


def test_large_values_go_both_ways(daemon: FakeDaemon) -> None:
    daemon.start("Good", max_message_bytes=2**26)
    blob = bytes(range(256)) * 40_000
    assert daemon.value("echo", {"blob": blob}) == {"blob": blob}


def test_the_page_shows_the_last_call_that_was_entered(good: FakeDaemon) -> None:
    before = good.page.entered
    good.value("echo", 1)
    assert good.page.entered == before + 1


def test_context_in_a_call(daemon: FakeDaemon) -> None:
    daemon.start("Good", setup={"x": 1})
    seen = daemon.value("seen")
    assert len(seen.pop("call")) == 32
    assert seen == {
        "session": "sess_" + "0" * 32, "request": None, "app": "zoo", "cancelled": False, "config": {"x": 1},
    }  # fmt: skip


def test_progress_precedes_the_result(good: FakeDaemon) -> None:
    ordinal = good.invoke("steps", 3)
    said = [good.next() for _ in range(4)]
    assert [type(message) for message in said] == [Progressed] * 3 + [Returned]
    assert [unpack(message.value) for message in said] == [{"step": 0}, {"step": 1}, {"step": 2}, 3]
    assert {message.ordinal for message in said} == {ordinal}


def test_unusable_progress_is_the_apps_error(raises: FakeDaemon) -> None:
    reply = raised(raises, "bad_progress")
    assert "progress" in reply.message
    assert "bad_progress" in reply.traceback


def test_the_logger_writes_to_the_log(good: FakeDaemon) -> None:
    good.value("log", "hello from the app")
    good.tell(Finish("ended"))
    assert good.exit_code() == 0
    assert "INFO hello from the app" in good.log_text()


def test_the_logger_names_the_request_of_its_call(good: FakeDaemon) -> None:
    call = Invoke(Ordinal(1), CallId(b"x" * 16), "log", None, pack({"text": "told"}), request_id="req-1")
    good.tell(call)
    assert isinstance(good.next(), Returned)
    good.tell(replace(call, ordinal=Ordinal(2), function="seen", input=NOTHING))
    assert unpack(good.reply().value)["request"] == "req-1"
    good.tell(Finish("ended"))
    assert good.exit_code() == 0
    assert "INFO [req-1] told" in good.log_text()


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("value_error", "ValueError", "a plain error"),
        ("chained", "RuntimeError", "the outer one"),
        ("exit", "SystemExit", "3"),
        ("keyboard", "KeyboardInterrupt", ""),
        ("base", "zoo.OwnBaseError", "not an Exception"),
        ("generator_exit", "GeneratorExit", ""),
        ("stop_iteration", "StopIteration", "1"),
        ("group", "ExceptionGroup", "many (2 sub-exceptions)"),
        ("recurse", "RecursionError", "maximum recursion depth exceeded"),
        ("memory", "MemoryError", ""),
    ],
)
def test_whatever_is_raised_is_told(raises: FakeDaemon, function: str, kind: str, message: str) -> None:
    reply = raised(raises, function)
    assert (reply.type, reply.message) == (kind, message)
    assert "zoo.py" in reply.traceback
    assert f"in {function}" in reply.traceback
    assert "daemon/worker" not in reply.traceback


def test_the_cause_is_in_the_traceback(raises: FakeDaemon) -> None:
    text = raised(raises, "chained").traceback
    assert "ValueError: a plain error" in text
    assert "direct cause" in text


@pytest.mark.parametrize("kind", ["str", "exit", "not_a_str", "subclass", "notes", "cause", "type"])
def test_evil_exceptions(raises: FakeDaemon, kind: str) -> None:
    assert "zoo.py" in raised(raises, "evil", kind).traceback


@pytest.mark.parametrize("function", ["unpackable", "lambda_", "big_int", "deep", "cyclic"])
def test_results_that_cannot_travel(raises: FakeDaemon, function: str) -> None:
    assert "result" in raised(raises, function).message


def test_the_path_to_the_offending_value_is_named(raises: FakeDaemon) -> None:
    assert 'result["a"][1]' in raised(raises, "unpackable").message


def test_what_can_travel_is_told_without_the_runtimes_own_frames(raises: FakeDaemon) -> None:
    reply = raised(raises, "unpackable")
    assert (reply.type, "plain values" in reply.message) == ("TypeError", True)
    assert "File" not in reply.traceback


def test_a_result_over_the_limit(raises: FakeDaemon) -> None:
    reply = raised(raises, "large", 2**21)
    assert "the limit is 1048576" in reply.message
    assert reply.type == "ValueError"


def test_a_wrong_input_is_declined(good: FakeDaemon) -> None:
    reply = good.call("add", {"a": 1, "b": 2, "c": 3})
    assert (type(reply), reply.message) == (Declined, "add() takes no 'c': there is a, b")


def test_an_unknown_function(good: FakeDaemon) -> None:
    reply = good.call("ecko")
    assert isinstance(reply, Declined)
    assert "did you mean 'echo'?" in reply.message


def test_garbage_as_input(good: FakeDaemon) -> None:
    from warmd.protocol.messages import CallId
    from warmd.protocol.work import Invoke, Ordinal

    good.tell(Invoke(Ordinal(99), CallId(b"x" * 16), "echo", None, b"\xc1"))
    reply = good.next()
    assert isinstance(reply, Declined)
    assert reply.message.startswith("echo(): its input cannot be used: ValueError: not a packed value")


def test_a_coroutine_of_a_sync_app_is_refused(raises: FakeDaemon) -> None:
    assert "declare it with `async def`" in raised(raises, "coroutine").message


@pytest.mark.parametrize(
    ("function", "code"),
    [("hard_exit", 7), ("exec", 11), ("exit_in_thread", 5), ("segfault", -11), ("abort", -6)],
)
def test_deaths(daemon: FakeDaemon, function: str, code: int) -> None:
    daemon.start("Dies")
    daemon.invoke(function)
    with pytest.raises((EOFError, ConnectionResetError)):
        daemon.next()
    assert daemon.exit_code() == code


def test_a_segfault_leaves_its_trace_in_the_log(daemon: FakeDaemon) -> None:
    daemon.start("Dies")
    daemon.invoke("segfault")
    assert daemon.exit_code() == -11
    assert "Segmentation fault" in daemon.log_text()
    assert "in segfault" in daemon.log_text()


def test_output_before_a_hard_exit_is_in_the_log(daemon: FakeDaemon) -> None:
    daemon.start("Dies")
    daemon.invoke("hard_exit", {"code": 0})
    assert daemon.exit_code() == 0
    assert daemon.log_text() == "about to exit\n"


def test_closing_all_descriptors_ends_the_worker(daemon: FakeDaemon) -> None:
    daemon.start("Dies")
    daemon.invoke("close_fds")
    assert daemon.exit_code() == 70


def test_finish_runs_unload_with_its_reason(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.start("Good", setup={"unloaded": str(tmp_path / "note")})
    daemon.tell(Finish("expired"))
    assert daemon.exit_code() == 0
    assert (tmp_path / "note").read_text() == "unloaded expired\n"


def test_an_unload_that_raises_is_an_orderly_end(daemon: FakeDaemon) -> None:
    daemon.start("UnloadRaises")
    daemon.tell(Finish("ended"))
    assert daemon.exit_code() == 0
    assert "unload does not want to" in daemon.log_text()


def test_the_end_of_the_link_ends_the_worker_without_unload(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.start("Good", setup={"unloaded": str(tmp_path / "note")})
    assert daemon.link is not None
    daemon.link.close()
    assert daemon.exit_code() == 70
    assert not (tmp_path / "note").exists()
