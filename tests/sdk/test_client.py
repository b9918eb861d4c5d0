"""The blocking client against a fake daemon: waiting, threads, interruptions, losses."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import warmd
from tests.sdk.fakedaemon import SESSION, FakeDaemon, fake_daemon
from tests.sdk.striker import Strike, Striker
from warmd.protocol.messages import Call, Cancel, Hello, Refused, Request
from warmd.result import infos


def test_a_call_gives_its_output_session_and_timing(faked: warmd.Client) -> None:
    result = faked.run({"app": "x", "function": "echo", "input": {"a": (1, 2)}, "session": "new"})
    assert result.output == result["output"] == {"a": (1, 2)}
    assert result.session_id == result["session_id"] == SESSION
    assert result.timing.run == result.timing["run"] == 0.001
    assert 0 < result.timing.total < 5
    assert dict(result).keys() == {"output", "session_id", "timing", "call_id"}
    with pytest.raises(KeyError, match="'a' is none of output, session_id, timing, call_id"):
        result["a"]


def test_the_dict_form_and_the_keyword_form_say_the_same(faked: warmd.Client, fake: FakeDaemon) -> None:
    options: dict[str, Any] = {
        "app": "x",
        "input": 1,
        "session": "new",
        "session_timeout": "5m",
        "timeout": 9,
    }
    faked.run(options)
    faked.run(**options)
    first, second = fake.of(Call)
    assert first.new == second.new
    assert first.new.idle_seconds == 300
    assert (first.app, first.input, first.timeout_seconds) == (
        second.app,
        second.input,
        second.timeout_seconds,
    )


def test_errors_are_raised_with_all_their_facts(faked: warmd.Client) -> None:
    with pytest.raises(warmd.AppError, match="ValueError: no") as caught:
        faked.run(app="x", function="raise", session=SESSION)
    error = caught.value
    assert (error.code, error.ran, error.session, error.type) == ("APP_ERROR", "yes", SESSION, "ValueError")
    assert error.call
    assert error.traceback.startswith("Traceback")
    assert faked.run(app="x", function="echo", session=SESSION, input=1).output == 1


def test_a_stream_yields_all_parts_in_order_over_many_windows(faked: warmd.Client) -> None:
    assert list(faked.stream(app="x", function="parts", input=1000)) == list(range(1000))


def test_a_stream_of_a_function_that_is_no_generator_yields_its_result_once(faked: warmd.Client) -> None:
    assert list(faked.stream(app="x", function="echo", input="v")) == ["v"]


def test_a_broken_stream_is_an_error_after_its_whole_parts(faked: warmd.Client) -> None:
    stream = faked.stream(app="x", function="torn")
    assert next(stream) == 0
    with pytest.raises(warmd.DaemonLost, match="broken"):
        next(stream)
    assert list(stream) == []


def test_a_part_that_is_no_value_is_an_error_of_ours(faked: warmd.Client) -> None:
    with pytest.raises(warmd.DaemonFailed, match="cannot be read"):
        next(faked.stream(app="x", function="spoilt"))


@pytest.mark.parametrize("answer", [5, True, "text", [["pairs", "too"]]])
def test_an_answer_that_is_no_map_is_an_error_of_ours(answer: object) -> None:
    with pytest.raises(warmd.DaemonFailed, match="tells nothing"):
        warmd.Info(answer)
    with pytest.raises(warmd.DaemonFailed, match="tells nothing"):
        infos(answer)


@pytest.mark.parametrize("leave", ["close", "with", "forget"])
def test_leaving_a_stream_early_abandons_it(faked: warmd.Client, fake: FakeDaemon, leave: str) -> None:
    stream = faked.stream(app="x", function="silent", session=SESSION)
    (call,) = fake.wait_for(Call)
    if leave == "close":
        stream.close()
        assert list(stream) == []
    elif leave == "with":
        with stream:
            pass
    else:
        del stream
        gc.collect()
    assert fake.wait_for(Cancel) == [Cancel(call.id, "abandon")]


def test_a_submitted_call_is_awaited_later(faked: warmd.Client) -> None:
    call = faked.submit(app="x", function="echo", input=5, session="new")
    assert call.session_id == SESSION
    assert call.result(timeout=10).output == 5
    assert call.done()
    assert call.status()["state"] == "done"
    assert not call.cancel()


def test_result_with_a_time_out_leaves_the_call_going(faked: warmd.Client) -> None:
    call = faked.submit(app="x", function="silent", session="new")
    with pytest.raises(TimeoutError, match="goes on") as caught:
        call.result(timeout=0.01)
    assert not isinstance(caught.value, warmd.WarmdError)
    assert not call.done()
    assert call.status()["verb"] == "calls.get"
    assert call.cancel()
    with pytest.raises(warmd.CallCancelled):
        call.result(timeout=10)


def test_too_large_an_input_is_refused_here_and_the_connection_lives(
    faked: warmd.Client, fake: FakeDaemon
) -> None:
    with pytest.raises(warmd.TooLarge, match="max_message_bytes") as caught:
        faked.run(app="x", function="echo", input=bytes(2 << 20))
    assert caught.value.ran == "no"
    assert fake.of(Call) == []
    assert faked.run(app="x", function="echo", input=1).output == 1
    assert fake.hellos == 1


def test_many_threads_share_one_connection(faked: warmd.Client, fake: FakeDaemon) -> None:
    def work(thread: int) -> bool:
        return all(
            faked.run(app="x", function="echo", input=[thread, n], session=SESSION).output == [thread, n]
            for n in range(200)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert fake.hellos == 1


def test_a_waiting_thread_takes_the_lead_when_the_leader_is_done(
    faked: warmd.Client, fake: FakeDaemon
) -> None:
    slow = faked.submit(app="x", function="silent", session=SESSION)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slow.result)
        for n in range(50):
            assert faked.run(app="x", function="echo", input=n, session=SESSION).output == n
        assert slow.cancel()
        assert isinstance(waiting.exception(10), warmd.CallCancelled)
    assert len(fake.of(Call)) == 51


def test_two_threads_may_wait_for_the_same_call(faked: warmd.Client) -> None:
    call = faked.submit(app="x", function="silent", session=SESSION)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(call.result, 10) for _ in range(2)]
        call.cancel()
        for one in waiting:
            assert isinstance(one.exception(10), warmd.CallCancelled)


def test_an_interrupted_run_cancels_its_call_and_the_client_works_on(
    faked: warmd.Client, fake: FakeDaemon
) -> None:
    def strike() -> None:
        fake.wait_for(Call)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    striker = threading.Thread(target=strike)
    striker.start()
    with pytest.raises(KeyboardInterrupt):
        faked.run(app="x", function="silent", session=SESSION)
    striker.join()
    (call,) = fake.of(Call)
    assert fake.wait_for(Cancel) == [Cancel(call.id, "cancel")]
    assert faked.run(app="x", function="echo", input=1, session=SESSION).output == 1


# One that strikes in a finalizer is only reported.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_at_any_line_leaves_the_client_consistent(faked: warmd.Client) -> None:
    def work() -> None:
        assert faked.run(app="x", function="echo", input=1, session=SESSION).output == 1
        stream = faked.stream(app="x", function="parts", input=70)
        for expected in range(70):
            assert next(stream) == expected
        stream.close()

    work()
    at, striker = 0, Striker(0)
    while striker.left <= 0:
        at += 1 if at < 250 else 29
        striker = Striker(at)
        with contextlib.suppress(Strike), striker:
            work()
        assert faked.run(app="x", function="echo", input=at, session=SESSION, timeout=5).output == at
    assert at > 250


def test_an_answer_that_came_before_the_daemons_end_is_not_lost() -> None:
    with fake_daemon() as fake, warmd.Client(str(fake.path)) as client:
        call = client.submit(app="x", function="echo", input=5, session=SESSION)
        fake.wait_for(Call)
        fake.close()
        assert client._link is not None
        end = select.poll()
        end.register(client._link.transport.monitor_descriptor)
        assert end.poll(5000)
        assert call.result(1).output == 5


def test_the_daemons_end_is_told_at_once_and_later_calls_find_none() -> None:
    with fake_daemon() as fake, warmd.Client(str(fake.path)) as client:
        call = client.submit(app="x", function="silent", session=SESSION)
        fake.wait_for(Call)
        stopping = threading.Thread(target=fake.close)
        began = time.monotonic()
        stopping.start()
        with pytest.raises(warmd.DaemonLost) as caught:
            call.result(10)
        assert time.monotonic() - began < 1
        assert caught.value.ran == "maybe"
        stopping.join()
        with pytest.raises(warmd.DaemonUnavailable) as later:
            client.run(app="x", session=SESSION)
        assert later.value.ran == "no"


def test_a_daemon_that_is_back_is_found_by_the_next_call(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = FakeDaemon(path)
    with warmd.Client(str(path)) as client:
        assert client.run(app="x", function="echo", input=1).output == 1
        first.close()
        second = FakeDaemon(path)
        try:
            assert client.run(app="x", function="echo", input=2).output == 2
        finally:
            second.close()


def test_a_silent_daemon_costs_the_time_out_and_its_margin(
    faked: warmd.Client, fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warmd.protocol.exchange.PATIENCE_SECONDS", 0.1)
    with pytest.raises(warmd.CallTimeout, match="stopped, overloaded or hangs") as caught:
        faked.run(app="x", function="silent", session=SESSION, timeout=0.05)
    assert caught.value.ran == "maybe"
    assert isinstance(caught.value, TimeoutError)
    fake.wait_for(Cancel)


def test_no_daemon_at_an_address_is_told_at_once_and_none_is_started(tmp_path: Path) -> None:
    with warmd.Client(f"unix://{tmp_path}/none.sock") as client:
        began = time.monotonic()
        with pytest.raises(warmd.DaemonUnavailable, match=r"no daemon at unix://.*none\.sock"):
            client.run(app="x")
        assert time.monotonic() - began < 1
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_never_says_welcome_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmd.connect.HANDSHAKE_SECONDS", 0.2)
    with fake_daemon(hello=lambda: None) as fake, warmd.Client(str(fake.path)) as client:
        with pytest.raises(warmd.DaemonUnavailable, match=r"did not answer within 0\.2 s"):
            client.run(app="x", timeout=60)
        assert fake.of(Hello)
        assert fake.of(Call) == []


def test_a_refusal_is_an_error_with_the_daemons_words() -> None:
    refused = Refused(7, "9.9.9", "it speaks protocol 7")
    with (
        fake_daemon(hello=lambda: refused) as fake,
        warmd.Client(str(fake.path)) as client,
        pytest.raises(warmd.DaemonUnavailable, match=r"9\.9\.9.*warmd stop"),
    ):
        client.run(app="x")


def test_garbage_from_the_daemon_ends_the_connection_and_a_new_one_is_made(
    faked: warmd.Client, fake: FakeDaemon
) -> None:
    with pytest.raises(warmd.DaemonLost, match="does not understand"):
        faked.run(app="x", function="garbage", session=SESSION)
    assert faked.run(app="x", function="echo", input=1).output == 1
    assert fake.hellos == 2


def test_closing_ends_what_other_threads_wait_for(fake: FakeDaemon) -> None:
    client = warmd.Client(str(fake.path))
    calls = [client.submit(app="x", function="silent", session=SESSION) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(call.result) for call in calls]
        fake.wait_for(Call, 3)
        client.close()
        for one in waiting:
            assert isinstance(one.exception(10), warmd.DaemonLost)
    with pytest.raises(warmd.Invalid, match="closed"):
        client.run(app="x")
    client.close()


def test_a_forgotten_client_leaves_nothing(fake: FakeDaemon) -> None:
    warmd.Client(str(fake.path)).run(app="x")
    gc.collect()  # the leak check of each test looks for its descriptors


def test_a_fork_gets_a_connection_of_its_own(faked: warmd.Client, fake: FakeDaemon) -> None:
    faked.run(app="x", function="echo", input=1)
    call = faked.submit(app="x", function="silent", session=SESSION)
    fake.wait_for(Call, 2)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            own = faked.run(app="x", function="echo", input="child").output == "child"
            try:
                call.result(timeout=1)
            except warmd.DaemonLost as error:
                code = 0 if own and "forked" in str(error) else 2
            faked.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert fake.hellos == 2
    assert faked.run(app="x", function="echo", input=2).output == 2
    assert call.cancel()


def test_administrative_verbs_travel_as_requests(faked: warmd.Client, fake: FakeDaemon) -> None:
    assert faked.sessions.get(SESSION).session == SESSION
    assert faked.sessions.keepalive(SESSION)["verb"] == "sessions.keepalive"
    faked.sessions.end(SESSION, running="finish")
    faked.stop(drain="5s")
    assert [(one.verb, one.arguments) for one in fake.of(Request)[2:]] == [
        ("sessions.end", {"running": "finish", "session": SESSION}),
        ("stop", {"drain_seconds": 5.0}),
    ]
