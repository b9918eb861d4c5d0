"""Sessions that somebody parks, or brings back, without a call; and how long parked ones live."""

from __future__ import annotations

import pytest

from tests.core.test_gpus import GEMMA, GIB, LLAMA, moved, opened, starts, world
from tests.core.test_parking import HELD, WORKER, fails, in_phase, keeps
from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.protocol import gpus
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.messages import Failure
from warmd.protocol.work import Asks


def last(world: World) -> fx.Answer | Failure | None:
    """What was answered to the latest request."""
    return world.requests[max(world.requests)]


def test_who_asks_for_a_park_is_answered_when_it_is_over() -> None:
    w, session, _ = in_phase("parking")
    assert last(w) is None
    moved(w, WORKER)
    w.tell(w.seen_cards(w.looks.pop()))
    answer = last(w)
    assert isinstance(answer, fx.Answer) and answer.sessions == (session,)


def test_those_who_ask_for_the_same_are_answered_together() -> None:
    w, session, _ = in_phase("parking")
    assert w.park(session) is None
    moved(w, WORKER)
    w.tell(w.seen_cards(w.looks.pop()))
    assert all(isinstance(answer, fx.Answer) for answer in w.requests.values())
    assert isinstance(w.park(session), fx.Answer), "and at once where it is parked already"


def test_and_who_asks_for_its_return_when_it_works_again() -> None:
    w, session, _ = in_phase("unparking")
    assert last(w) is None and w.unpark(session) is None
    moved(w, WORKER)
    assert all(isinstance(answer, fx.Answer) for answer in w.requests.values())
    assert isinstance(w.unpark(session), fx.Answer), "and at once where it does"


def test_a_return_may_be_asked_for_before_the_park_is_over() -> None:
    w, session, _ = in_phase("parking")
    assert w.unpark(session) is None
    moved(w, WORKER)
    w.tell(w.seen_cards(w.looks.pop()))
    assert w.state(session) == "unparking"
    moved(w, WORKER)
    assert isinstance(last(w), fx.Answer) and w.state(session) == "idle"


def test_and_has_come_true_where_the_park_comes_to_nothing() -> None:
    w, session, _ = in_phase("parking")
    w.unpark(session)
    keeps(w)
    asked_to_park, asked_back = list(w.requests.values())
    assert isinstance(asked_to_park, Failure) and isinstance(asked_back, fx.Answer)
    assert asked_to_park.message == f"session {session} could not be parked: its weights are shared"


def test_a_return_waits_in_the_line_like_a_call() -> None:
    w = world(gpu_wait_seconds=30.0)
    first = opened(w)
    w.park(first)
    second = opened(w, GEMMA)
    w.call(second)
    w.unpark(first)
    assert last(w) is None
    w.returns(worker=2)
    w.wait(0.2)
    assert isinstance(last(w), fx.Answer) and w.state(second) == "parked"


def test_and_is_refused_like_one() -> None:
    w = world(gpu_wait_seconds=30.0)
    first = opened(w)
    w.park(first)
    w.call(opened(w, GEMMA))
    w.unpark(first)
    w.wait(30.1)
    answer = last(w)
    assert isinstance(answer, Failure) and answer.code == "NO_ROOM" and "(gpu_wait)" in answer.message
    assert w.state(first) == "parked"


def test_it_is_not_forgotten_when_the_call_that_waited_with_it_is_cancelled() -> None:
    w = world()
    first = opened(w)
    w.park(first)
    w.call(opened(w, GEMMA))
    w.unpark(first)
    w.cancel(w.call(first))
    w.returns(worker=2)
    w.wait(0.2)
    assert isinstance(last(w), fx.Answer) and w.state(first) == "idle"


def test_a_move_that_ends_the_session_is_told_to_who_asked_for_it() -> None:
    w, session, _ = in_phase("parking")
    w.unpark(session)
    fails(w, harmed=True)
    assert [getattr(answer, "code", "") for answer in w.requests.values()] == ["SESSION_DIED"] * 2


def refusal(world: World, session: str) -> tuple[str, str]:
    answer = world.park(session)
    assert isinstance(answer, Failure)
    return answer.code, answer.message


def test_a_session_that_is_wanted_is_not_parked() -> None:
    w, session, _ = in_phase("busy")
    text = f"session {session} is busy: only one that nobody waits for can be parked"
    assert refusal(w, session) == ("INVALID", text)


@pytest.mark.parametrize("phase", ["parking", "parked", "unparking"])
def test_nor_one_that_a_call_waits_for(phase: str) -> None:
    w, session, _ = in_phase(phase)
    w.call(session)
    code, text = refusal(w, session)
    assert code == "INVALID" and "only one that nobody waits for" in text


def test_nor_one_that_waits_for_its_place() -> None:
    w = world()
    w.call(opened(w))
    code, text = refusal(w, starts(w).session)
    assert (code, "has no GPU memory, as far as is known" in text) == ("INVALID", True)


def test_nor_one_that_has_nothing_to_park() -> None:
    w = World()
    session = w.session()
    text = f"session {session} has no GPU memory, as far as is known"
    assert refusal(w, session) == ("INVALID", text)


def test_nor_one_whose_app_does_not_want_it() -> None:
    w = world()
    w.asks = Asks(gpu=GpuAsk(bytes=60), park=False)
    session = w.session(app=LLAMA)
    text = f'session {session} is not parked: its app says so (park = "never")'
    assert refusal(w, session) == ("NOT_ALLOWED", text)


def test_nor_where_host_memory_does_not_suffice() -> None:
    w = world(size=80 * GIB, bytes=30 * GIB, park_bytes=50 * GIB)
    first, second = opened(w), opened(w, GEMMA)
    w.park(first)
    text = "30.0 GiB more host memory would be over park_memory (50.0 GiB): end a parked session"
    assert refusal(w, second) == ("NO_ROOM", text)
    w.end(first)
    assert isinstance(w.park(second), fx.Answer)


def test_nor_what_is_not_there() -> None:
    w = world()
    session = opened(w)
    w.end(session)
    assert [refusal(w, name)[0] for name in (session, "sess_x")] == ["SESSION_ENDED", "SESSION_NOT_FOUND"]
    back = [w.unpark(name) for name in (session, "sess_x")]
    assert [getattr(answer, "code", "") for answer in back] == ["SESSION_ENDED", "SESSION_NOT_FOUND"]


# How long a parked session lives


def test_a_move_is_no_use_of_it() -> None:
    w = world(session_timeout_seconds=60.0)
    session = opened(w)
    w.wait(30.0)
    w.park(session)
    w.wait(20.0)
    w.unpark(session)
    w.wait(9.9)
    assert w.state(session) == "idle"
    w.wait(0.2)
    assert w.state(session) == "expired"


def test_it_expires_while_it_is_parked() -> None:
    w = world(session_timeout_seconds=60.0)
    session = opened(w)
    w.wait(30.0)
    w.park(session)
    w.wait(30.1)
    assert w.state(session) == "expired"
    assert "nothing called it for 60 s" in str(w.broker.view(session).reason)


def test_a_call_that_comes_to_nothing_was_a_use_of_it() -> None:
    w = world(session_timeout_seconds=60.0)
    session = opened(w)
    w.park(session)
    w.call(opened(w, GEMMA))
    w.wait(50.0)
    call = w.call(session)
    w.wait(5.0)
    w.cancel(call)
    w.wait(59.0)
    assert w.state(session) == "parked"
    w.wait(1.1)
    assert w.state(session) == "expired"


def test_it_does_not_expire_while_a_call_waits_for_it() -> None:
    w = world(session_timeout_seconds=60.0)
    session = opened(w)
    w.park(session)
    w.call(opened(w, GEMMA))
    w.wait(50.0)
    call = w.call(session)
    w.wait(10.1)
    assert w.state(session) == "parked" and call.open


@pytest.mark.parametrize("phase", ["parking", "parked", "unparking"])
def test_keepalive_counts_in_each_phase(phase: str) -> None:
    w, session, _ = in_phase(phase)
    w.wait(20.0)
    assert isinstance(w.keepalive(session), fx.Answer)
    w.holds = frozenset()
    w.oblige_cards()
    w.wait(99.0)
    assert w.state(session) in ("parked", "idle")
    w.wait(1.1)
    assert w.state(session) == "expired"


@pytest.mark.parametrize("phase", ["parking", "parked", "unparking"])
def test_a_hold_counts_in_each_phase(phase: str) -> None:
    w, session, _ = in_phase(phase)
    assert isinstance(w.hold(session, 150.0), fx.Answer)
    w.holds = frozenset()
    w.oblige_cards()
    w.wait(149.0)
    assert w.state(session) in ("parked", "idle")
    w.wait(1.1)
    assert w.state(session) == "expired"


def test_a_parked_session_without_anybody_is_left_alone() -> None:
    w, session, _ = in_phase("parked")
    w.holds = HELD - {fx.Look}
    w.wait(90.0)
    assert w.state(session) == "parked" and not w.ordered(fx.Restore)
    assert not [tell for tell in w.ordered(fx.Tell) if isinstance(tell.message, gpus.Unpark)]
