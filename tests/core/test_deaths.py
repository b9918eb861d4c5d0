"""Workers die or fall silent: who is told what, and that nothing starts again by itself."""

from __future__ import annotations

import pytest

from tests.core.world import World
from warmd.daemon.core import effects as fx
from warmd.daemon.core.events import OutOfMemory
from warmd.daemon.core.policy import Limits
from warmd.protocol import work
from warmd.protocol.messages import Failure
from warmd.protocol.work import Ordinal


def failure(heard) -> Failure:
    assert isinstance(heard.final, Failure), heard.final
    return heard.final


@pytest.mark.parametrize(
    ("how", "details", "says"),
    [
        ({"signal": "SIGSEGV"}, {"signal": "SIGSEGV"}, "its worker was killed by SIGSEGV"),
        ({"code": 3}, {"exit_code": 3}, "its worker exited with code 3"),
        ({"code": 0}, {"exit_code": 0}, "its worker exited with code 0"),
    ],
)
def test_a_death_ends_the_running_call_and_those_behind_it(how, details, says) -> None:
    world = World()
    session = world.session()
    running, waiting, last = world.call(session), world.call(session, by="bob"), world.call(session)
    world.exits(log="Fatal: out of cheese", **how)
    assert (running.code, failure(running).ran) == ("WORKER_DIED", "maybe")
    assert says in failure(running).message
    assert "Fatal: out of cheese" in failure(running).message
    assert failure(running).details == {**details, "log_tail": "Fatal: out of cheese"}
    for heard in (waiting, last):
        assert (heard.code, failure(heard).ran) == ("SESSION_DIED", "no")
        assert failure(heard).details["reason"] == says
    assert world.call(session).code == "SESSION_DIED"
    assert len(world.ordered(fx.Spawn)) == 1, "nothing is started again by itself"
    world.assert_over()


LIMIT_DETAILS = {"signal": "SIGKILL", "out_of_memory": True, "used": 300 * 2**20, "limit": 256 * 2**20}


@pytest.mark.parametrize(
    ("found", "details", "says"),
    [
        (
            OutOfMemory("limit", 300 * 2**20, 256 * 2**20),
            LIMIT_DETAILS,
            "out of memory: 300 MiB used, limit 256 MiB (worker_memory, or the app's own memory)",
        ),
        (
            OutOfMemory("kernel"),
            {"signal": "SIGKILL", "out_of_memory": True},
            "most likely by the kernel because memory ran out",
        ),
    ],
)
def test_a_death_out_of_memory_says_so_and_how_sure_it_is(found, details, says) -> None:
    world = World()
    session = world.session()
    running, waiting = world.call(session), world.call(session)
    world.exits(signal="SIGKILL", out_of_memory=found)
    assert (running.code, failure(running).ran, failure(running).details) == ("WORKER_DIED", "maybe", details)
    assert failure(running).message.startswith("its worker was killed by SIGKILL")
    assert says in failure(running).message
    assert (waiting.code, failure(waiting).ran) == ("SESSION_DIED", "no")
    assert says in failure(world.call(session)).message


def test_an_idle_death_is_noticed_at_once() -> None:
    world = World()
    session = world.session()
    world.exits(signal="SIGKILL")
    assert world.state(session) == "died"
    assert world.broker.deadline() is None


def test_after_every_exit_what_it_left_behind_is_killed() -> None:
    world = World(holds=(fx.Kill,))
    world.session()
    world.exits(code=0)
    assert len(world.ordered(fx.Kill)) == 1
    assert not world.worker().forgotten, "not before its tree is gone"
    world.tree_ends()
    assert world.worker().forgotten


def test_a_place_is_free_when_the_tree_is_gone_and_not_before() -> None:
    world = World(Limits(max_sessions=1), holds=(fx.Kill,))
    world.session()
    world.exits(signal="SIGKILL")
    assert world.call().code == "NO_ROOM"
    world.tree_ends()
    assert world.call("new", "").code == "ok"


def test_a_lost_link_is_a_death_that_waits_for_the_exit() -> None:
    """The exit says more than the lost link, so the running call hears of that."""
    world = World(holds=(fx.Kill,))
    session = world.session()
    running, waiting = world.call(session), world.call(session)
    world.loses_link(message="closed its link")
    assert len(world.ordered(fx.Kill)) == 1
    assert (waiting.code, running.code) == ("SESSION_DIED", "")
    assert world.call(session).code == "SESSION_DIED"
    world.exits(signal="SIGKILL")
    assert running.code == "WORKER_DIED"
    assert "closed its link and was killed" in failure(running).message
    world.tree_ends()
    world.assert_over()


def test_a_link_that_ends_on_the_way_to_a_crash_names_the_crash() -> None:
    world = World(holds=(fx.Kill,))
    running = world.call(world.session())
    world.loses_link()
    world.exits(signal="SIGABRT")
    assert "SIGABRT" in failure(running).message
    assert failure(running).details["signal"] == "SIGABRT"


def test_the_end_of_the_link_after_finish_is_in_order() -> None:
    world = World(holds=(work.Finish, fx.Kill))
    session = world.session()
    world.end(session)
    world.loses_link()
    assert world.ordered(fx.Kill) == [], "unload has its grace still"
    world.exits(code=0)
    world.tree_ends()
    assert world.state(session) == "ended"


def test_a_worker_that_cannot_be_killed_is_given_up_but_keeps_its_place() -> None:
    world = World(Limits(max_sessions=1), holds=(fx.Kill,))
    session = world.session()
    running = world.call(session)
    request = world.end(session, running="finish")
    world.loses_link()
    world.tree_ends(stuck=(4711,))
    assert running.code == "WORKER_DIED"
    assert "4711" in failure(running).message
    assert isinstance(world.requests[request], fx.Answer), "an end does not wait for ever"
    view = world.broker.view(session)
    assert view is not None
    assert (view.state, view.stuck) == ("died", (4711,)), "it is listed as what it is"
    assert "it was ended on request, but" in str(view.reason)
    assert world.call(session).code == "SESSION_DIED"
    assert world.call().code == "NO_ROOM", "its place stays taken"
    later = world.end(session)
    assert isinstance(world.requests[later], fx.Answer)
    world.exits(signal="SIGKILL")
    assert world.worker().forgotten
    world.assert_over()


@pytest.mark.parametrize("late", ["returned", "raised", "interrupted", "declined", "yielded"])
def test_late_words_about_an_old_call_are_dropped(late: str) -> None:
    """Of a call that was answered already: they must not end or feed the next one."""
    world = World()
    session = world.session()
    world.call(session)
    world.returns()
    current = world.call(session, window=5)
    words = {
        "returned": work.Returned(Ordinal(1), 0.1, 0, b"late"),
        "raised": work.Raised(Ordinal(1), 0.1, "E", "late", ""),
        "interrupted": work.Interrupted(Ordinal(1), 0.1),
        "declined": work.Declined(Ordinal(1), "late"),
        "yielded": work.Yielded(Ordinal(1), 0, b"late"),
    }
    assert world.says(words[late]) == []
    assert (current.code, current.parts) == ("", [])
    world.returns(b"right")
    assert current.final.value == b"right"


def test_an_app_that_raises_keeps_its_session() -> None:
    world = World()
    session = world.session()
    heard = world.call(session, "fail")
    world.raises(type="shop.OutOfStock", message="no cheese")
    assert (heard.code, failure(heard).ran) == ("APP_ERROR", "yes")
    assert failure(heard).message == "shop.OutOfStock: no cheese"
    assert failure(heard).details == {"type": "shop.OutOfStock", "traceback": "Traceback ..."}
    assert world.state(session) == "idle"
    again = world.call(session)
    world.returns()
    assert again.code == "ok"


def test_an_input_that_is_declined_was_not_run_and_the_session_lives_on() -> None:
    world = World()
    session = world.session()
    heard, behind = world.call(session), world.call(session)
    world.declines(message="run() takes no 'byy': did you mean 'by'?")
    assert (heard.code, failure(heard).ran) == ("INVALID", "no")
    assert failure(heard).message == "run() takes no 'byy': did you mean 'by'?"
    world.returns()
    assert behind.code == "ok"
    assert world.state(session) == "idle"


def test_a_call_that_is_to_stop_ends_as_such_though_its_input_is_declined() -> None:
    world = World(holds=[fx.CaptureStack])
    heard = world.call(world.session())
    world.cancel(heard)
    world.declines()
    assert (heard.code, failure(heard).ran) == ("CANCELLED", "maybe")


def test_an_input_that_is_declined_after_parts_is_nonsense() -> None:
    world = World()
    heard = world.call(world.session(), window=2)
    world.yields()
    world.declines()
    assert (heard.code, failure(heard).ran) == ("WORKER_DIED", "maybe")
    assert "nonsense" in failure(heard).message


def test_an_exception_without_a_text_is_named() -> None:
    world = World()
    heard = world.call(world.session())
    world.raises(type="AssertionError", message="")
    assert failure(heard).message == "AssertionError"


def test_a_worker_that_does_not_exit_after_finish_is_killed_after_its_grace() -> None:
    world = World(holds=(work.Finish,))
    world.session(idle_seconds=5.0)
    world.wait(5.0)
    assert world.worker().finish == "expired"
    world.wait(9.999)
    assert world.ordered(fx.Kill) == []
    world.wait(0.001)
    assert len(world.ordered(fx.Kill)) == 1
    world.assert_over()


@pytest.mark.parametrize(
    "word",
    [
        work.Returned(Ordinal(1), 0.01, 5, b"value"),
        work.Yielded(Ordinal(1), 3, b"part"),
        work.Raised(Ordinal(1), 0.01, "E" * 100_000, "text", ""),
        work.Declined(Ordinal(1), "é" * 40_000),
        work.Arrived(1, "0", "token", 7),
    ],
    ids=lambda word: type(word).__name__,
)
def test_a_worker_that_speaks_nonsense_is_killed_and_not_heard_any_more(word):
    world = World(holds=[fx.Kill])
    session = world.session()
    call = world.call(session, window=2)
    world.says(word)
    assert world.worker().kills == 1
    assert world.says(work.Returned(Ordinal(1), 0.01, 0, b"late")) == []
    world.exits(signal="SIGKILL")
    assert (call.code, call.final.ran) == ("WORKER_DIED", "maybe")
    assert "nonsense" in call.final.message
    world.tree_ends()
    assert world.state(session) == "died"
