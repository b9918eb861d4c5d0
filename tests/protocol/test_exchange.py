"""The client's half of a conversation, driven without sockets: messages in, messages out."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.conversing import LIMIT, SESSION, Wire, call
from warmd.protocol.exchange import PATIENCE_SECONDS
from warmd.protocol.messages import (
    PROTOCOL,
    Accepted,
    CallId,
    Cancel,
    Failure,
    FromDaemon,
    Goodbye,
    Hello,
    Part,
    Refused,
    Request,
    Result,
    Welcome,
)
from warmd.protocol.pending import Pending
from warmd.protocol.wire import WireError


def test_nothing_but_hello_goes_out_before_the_welcome() -> None:
    wire = Wire(welcomed=False)
    message = call()
    pending = wire.exchange.begin(message, 0.0, None)
    assert [type(one) for one in wire.sent()] == [Hello]
    assert not pending.sent
    wire.say(Welcome(PROTOCOL, "1.2.3", "boot", 1, LIMIT))
    assert wire.sent() == [message]
    assert pending.sent


def test_each_answer_finds_its_call() -> None:
    wire = Wire()
    calls = [wire.call() for _ in range(3)]
    for index in (2, 0, 1):
        wire.say(Result(calls[index].id, SESSION, value=b"%d" % index))
    assert [bytes(one.result.value) for one in calls if one.result] == [b"0", b"1", b"2"]
    assert all(one.done for one in calls)


def test_an_answer_to_nobody_is_ignored() -> None:
    wire = Wire()
    wire.say(Result(CallId(b"x" * 16), None))
    wire.say(Part(CallId(b"x" * 16), 0))
    assert wire.sent() == []


def test_accepted_tells_the_session_before_the_end() -> None:
    wire = Wire()
    pending = wire.call(session="new")
    wire.say(Accepted(pending.id, SESSION))
    assert (pending.accepted, pending.session, pending.done) == (True, SESSION, False)


def test_a_failure_carries_all_its_facts() -> None:
    wire = Wire()
    pending = wire.call()
    wire.say(Failure(pending.id, SESSION, "WORKER_DIED", "killed", "maybe", {"signal": "SIGKILL"}), now=2.0)
    assert pending.problem is not None
    assert (pending.problem.code, pending.problem.ran, pending.problem.details) == (
        "WORKER_DIED", "maybe", {"signal": "SIGKILL"},
    )  # fmt: skip
    assert (pending.session, pending.ended) == (SESSION, 2.0)


def test_watchers_hear_of_the_admission_each_part_and_the_end() -> None:
    wire = Wire()
    pending = wire.stream(session="new")
    heard: list[str] = []
    pending.watchers.append(lambda: heard.append("x"))
    wire.say(Accepted(pending.id, SESSION))
    wire.say(Part(pending.id, 0, b"a"))
    wire.say(Result(pending.id, SESSION, parts=1))
    assert len(heard) == 3


def test_too_large_an_input_is_refused_before_it_is_sent_and_the_next_call_works() -> None:
    wire = Wire()
    pending = wire.exchange.begin(call(input=b"x" * 600, setup=b"x" * 401), 0.0, None)
    assert pending.problem is not None
    assert (pending.problem.code, pending.problem.ran) == ("TOO_LARGE", "no")
    assert "1001 bytes" in pending.problem.message
    assert "1000" in pending.problem.message
    assert wire.sent() == []
    assert not wire.exchange.begin(call(input=b"x" * 1000), 0.0, None).done


def test_a_header_over_its_limit_is_refused_before_it_is_sent() -> None:
    wire = Wire()
    pending = wire.exchange.begin(call(function="f" * 70_000), 0.0, None)
    assert pending.problem is not None
    assert (pending.problem.code, pending.problem.ran) == ("INVALID", "no")
    assert wire.sent() == []


def test_a_lost_connection_says_who_may_have_run() -> None:
    wire = Wire()
    sent = wire.call()
    unsent = wire.exchange.begin(call(), 0.0, None)
    wire.exchange.connection_lost("it was killed", 1.0)
    assert [(p.problem.code, p.problem.ran) for p in (sent, unsent) if p.problem] == [
        ("DAEMON_LOST", "maybe"), ("DAEMON_LOST", "no"),
    ]  # fmt: skip
    assert not sent.unsent
    assert unsent.unsent
    after = wire.exchange.begin(call(), 2.0, None)
    assert after.unsent
    assert wire.sent() == []


def test_a_goodbye_is_quoted_when_the_connection_goes() -> None:
    wire = Wire()
    pending = wire.call()
    wire.say(Goodbye("stopped by `warmd stop`"))
    wire.exchange.connection_lost("it went away", 1.0)
    assert pending.problem is not None
    assert "warmd stop" in pending.problem.message


@pytest.mark.parametrize(
    "answer", [Welcome(99, "9.9", "boot", 1, LIMIT), Refused(99, "9.9", "it speaks protocol 99")]
)
def test_another_protocol_is_a_clear_error_with_both_versions(answer: FromDaemon) -> None:
    wire = Wire(welcomed=False)
    pending = wire.exchange.begin(call(), 0.0, None)
    wire.say(answer)
    assert pending.problem is not None
    assert (pending.problem.code, pending.problem.ran) == ("DAEMON_UNAVAILABLE", "no")
    for said in ("9.9", "protocol 99", "1.2.3", f"protocol {PROTOCOL}", "warmd stop"):
        assert said in pending.problem.message


def test_another_daemon_on_the_same_connection_is_no_conversation() -> None:
    wire = Wire()
    with pytest.raises(WireError, match="another daemon"):
        wire.say(Welcome(PROTOCOL, "1.2.3", "another boot", 1, LIMIT))
    with pytest.raises(WireError, match="another daemon"):
        wire.say(Welcome(PROTOCOL, "1.2.3", "boot", 1, 0))


def test_garbage_is_an_error() -> None:
    with pytest.raises(WireError):
        Wire().exchange.received([b"\xc1"], 0.0)


def test_a_call_is_given_up_after_its_time_out_and_the_daemons_margin() -> None:
    wire = Wire()
    pending = wire.call(patience=10.0)
    assert wire.exchange.deadline() == 10.0 + PATIENCE_SECONDS
    wire.exchange.time_passed(10.0 + PATIENCE_SECONDS - 0.01)
    assert not pending.done
    wire.exchange.time_passed(10.0 + PATIENCE_SECONDS)
    assert pending.problem is not None
    assert (pending.problem.code, pending.problem.ran) == ("TIMEOUT", "maybe")
    assert "10 s" in pending.problem.message
    assert wire.sent() == [Cancel(pending.id)]
    assert wire.exchange.deadline() is None


def test_no_deadline_is_left_when_calls_have_ended() -> None:
    wire = Wire()
    short, long = wire.call(patience=1.0), wire.call(patience=5.0)
    wire.say(Result(short.id, SESSION))
    assert wire.exchange.deadline() == 5.0 + PATIENCE_SECONDS
    wire.exchange.drop(long.id)
    assert wire.exchange.deadline() is None


def test_cancel_is_sent_and_the_call_still_answered() -> None:
    wire = Wire()
    pending = wire.call()
    wire.exchange.cancel(pending)
    assert wire.sent() == [Cancel(pending.id, "cancel")]
    wire.say(Failure(pending.id, SESSION, "CANCELLED", "cancelled", "maybe"))
    assert pending.done
    wire.exchange.cancel(pending)
    assert wire.sent() == []


def test_a_call_cancelled_before_the_welcome_is_never_sent() -> None:
    wire = Wire(welcomed=False)
    pending = wire.exchange.begin(call(), 0.0, None)
    wire.exchange.cancel(pending)
    wire.say(Welcome(PROTOCOL, "1.2.3", "boot", 1, LIMIT))
    assert [type(one) for one in wire.sent()] == [Hello]
    assert pending.problem is not None
    assert (pending.problem.code, pending.problem.ran) == ("CANCELLED", "no")


def test_what_comes_for_a_dropped_call_reaches_nobody() -> None:
    wire = Wire()
    pending = wire.stream()
    wire.exchange.drop(pending.id, "abandon")
    assert wire.sent() == [Cancel(pending.id, "abandon")]
    wire.say(Part(pending.id, 0, b"a"))
    wire.say(Failure(pending.id, SESSION, "CANCELLED", "", "maybe"))
    assert not pending.done
    assert not pending.parts


def test_requests_are_answered_like_calls() -> None:
    wire = Wire()
    request = Request(CallId(os.urandom(16)), "status")
    pending = wire.exchange.begin(request, 0.0, 30.0)
    assert wire.sent() == [request]
    wire.say(Result(request.id, None, value=b"\xc0"))
    assert pending.result is not None


@given(st.lists(st.sampled_from(["call", "answer", "fail", "drop", "late", "time", "lose"]), max_size=40))
def test_every_call_ends_exactly_once_and_no_deadline_stays(steps: list[str]) -> None:
    wire = Wire()
    now = 0.0
    ends: dict[CallId, int] = {}
    dropped: set[CallId] = set()
    begun: list[Pending] = []
    for step in steps:
        now += 1.0
        live = [one for one in begun if not one.done and one.id not in dropped]
        if step == "call":
            message = call()
            pending = wire.exchange.begin(message, now, 5.0)
            begun.append(pending)
            ends[message.id] = int(pending.done)
            pending.watchers.append(lambda id=message.id: ends.update({id: ends[id] + 1}))
        elif step == "time":
            wire.exchange.time_passed(now)
        elif step == "lose":
            wire.exchange.connection_lost("gone", now)
        elif step == "late" and begun:
            wire.say(Result(begun[0].id, SESSION), now)
        elif live:
            if step == "drop":
                dropped.add(live[0].id)
                wire.exchange.drop(live[0].id)
            elif step == "answer":
                wire.say(Result(live[0].id, SESSION), now)
            else:
                wire.say(Failure(live[0].id, SESSION, "APP_ERROR", "", "yes"), now)
        wire.sent()
    wire.exchange.connection_lost("gone", now)
    assert wire.exchange.deadline() is None
    for pending in begun:
        assert pending.id in dropped or (pending.done and ends[pending.id] == 1)
