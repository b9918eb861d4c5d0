"""`why`, in the world of the rule book: each situation is staged, and its one line is told."""

from __future__ import annotations

import doctest
import re

import pytest

from tests.core.stage import EVERYTHING
from tests.daemon.told import Told
from warmd.daemon import sentences
from warmd.daemon.core import effects as fx
from warmd.daemon.core.policy import Limits
from warmd.protocol.errors import Invalid, Problem
from warmd.protocol.messages import CallId


def test_idle() -> None:
    world = Told()
    id = world.session()
    world.wait(12)
    assert world.line(id) == "session ID of app 'counter' is idle for 12 s, expires in 48 s unless called"
    assert not world.looked, "nobody's sleep is disturbed for what does not run"


def test_idle_for_ever() -> None:
    world = Told(Limits(max_session_timeout_seconds=float("inf")))
    id = world.session(idle_seconds=float("inf"), name="mine")
    assert world.line(id).startswith("session ID 'mine' of app 'counter' is idle, never expires by itself")


def test_busy_and_who_waits() -> None:
    world = Told()
    id = world.session()
    world.call(id)
    world.returns(seconds=0.2)
    world.call(id)
    world.call(id)
    world.wait(4)
    assert world.line(id) == (
        "session ID of app 'counter' is busy: 'run' has run for 4 s at app.py:12 in run (in "
        "/usr/lib/python3.13/selectors.py:3 in select), usually 0.2 s; 1 call waits behind it"
    )


def test_a_call_that_began_just_now_is_not_disturbed_for_a_stack() -> None:
    world = Told()
    id = world.session()
    heard = world.call(id)
    world.wait(0.2)
    assert world.line(heard) == (
        "call ID: 'run' has run for 0.2 s in session ID; its deadline comes in 59 min"
    )
    assert not world.looked


def test_a_slow_call() -> None:
    world = Told()
    id = world.session()
    for seconds in (0.1, 0.2, 9.0):
        world.call(id)
        world.returns(seconds=seconds)
    heard = world.call(id, timeout_seconds=60.0)
    world.wait(31)
    assert world.line(heard) == (
        "call ID: 'run' has run for 31 s at app.py:12 in run (in /usr/lib/python3.13/selectors.py:3 in "
        "select), usually 0.2 s in session ID; its deadline comes in 29 s"
    )


def test_starting_phase_by_phase() -> None:
    world = Told(holds=EVERYTHING)
    heard = world.call("new")
    id = world.broker.views()[0].id
    world.wait(0.2)
    assert world.line(id) == (
        "session ID of app 'counter' is starting: its app is looked up, for 0.2 s of start_timeout "
        "10 min; 1 call waits for it"
    )
    world.found()
    assert "its process is being started" in world.line(id)
    world.spawned()
    world.wait(20)
    assert world.line(id) == (
        "session ID of app 'counter' is starting: its app is imported and set up, for 20 s of "
        "start_timeout 10 min at app.py:12 in run (in /usr/lib/python3.13/selectors.py:3 in select); "
        "1 call waits for it"
    )
    assert world.line(heard).startswith(
        "call ID to 'run' has waited for 20 s for the start of session ID: its app is imported and set up"
    )


def test_a_queued_call() -> None:
    world = Told()
    id = world.session()
    world.call(id, "count")
    second, third = world.call(id), world.call(id)
    world.wait(3)
    assert world.line(second) == (
        "call ID to 'run' has waited for 3 s in session ID: 'count' has run for 3 s, then it is its turn"
    )
    assert world.line(third) == (
        "call ID to 'run' has waited for 3 s in session ID: 'count' has run for 3 s, and 1 call waits "
        "before it"
    )


def test_a_call_that_waits_for_the_pool() -> None:
    world = Told(Limits(max_pool_workers=1))
    world.call(None)
    heard = world.call(None)
    world.wait(2)
    assert world.line(heard) == (
        "call ID to 'run' has waited for 2 s for a worker of the shared pool of 'counter'; no call before it"
    )


def test_expired() -> None:
    world = Told()
    id = world.session()
    world.wait(65)
    assert world.line(id) == (
        "session ID of app 'counter' expired 5 s ago: nothing called it for 60 s (session_timeout)"
    )


def test_ended_and_by_whom() -> None:
    world = Told()
    id, other = world.session(), world.session()
    world.broker.story.who = lambda _client: "somebody else"
    world.end(other)
    world.broker.story.who = lambda client: f"{client.decode()} (pid 42)"
    world.end(id)
    world.wait(1)
    assert world.line(id) == (
        "session ID of app 'counter' ended 1 s ago: it was ended on request, by ann (pid 42)"
    )


def test_ended_with_all_of_its_app() -> None:
    world = Told()
    world.end(app="counter")
    world.wait(1)
    id = world.session()
    world.end(app="other")
    world.wait(1)
    world.end()
    assert world.facts(id)["ended_by"] == "ann (pid 42)"


def test_ended_with_the_daemon() -> None:
    world = Told()
    id = world.session()
    world.drain(0)
    assert " ended " in world.line(id) and "the daemon was stopped" in world.line(id)
    assert world.facts(id)["ended_by"] is None


def test_died_of_a_signal_under_a_call() -> None:
    world = Told()
    id = world.session()
    heard = world.call(id, "count")
    world.exits(signal="SIGSEGV", log="loading\nsegment fault at 0x0\n")
    world.wait(2)
    assert world.line(id) == (
        "session ID of app 'counter' died 2 s ago: its worker was killed by SIGSEGV, while 'count' ran; "
        "its last output was: segment fault at 0x0"
    )
    assert world.line(heard).startswith(
        "call ID to 'count' ended when its worker died 2 s ago (WORKER_DIED, ran = maybe): its worker was "
        "killed by SIGSEGV"
    )
    assert world.facts(id)["signal"] == "SIGSEGV"


def test_a_death_is_told_before_all_its_processes_are_gone() -> None:
    world = Told(holds=(fx.Kill,))
    id = world.session()
    world.exits(signal="SIGKILL")
    assert world.state(id) == "stopping"
    assert " died 0.00 s ago: its worker was killed by SIGKILL" in world.line(id)


def test_died_by_an_exit() -> None:
    world = Told()
    id = world.session()
    world.exits(code=7)
    assert "its worker exited with code 7" in world.line(id)
    assert world.facts(id)["exit_code"] == 7


def test_a_start_that_failed() -> None:
    from warmd.protocol import work

    world = Told(holds=EVERYTHING)
    heard = world.call("new")
    id = world.broker.views()[0].id
    world.found()
    world.spawned()
    world.says(work.StartFailed("setup", "ValueError", "no such model", "Traceback ..."))
    world.exits(code=1)
    world.tree_ends()
    assert world.line(id) == (
        "session ID of app 'counter' died 0.00 s ago: app 'counter' did not start: setup failed: "
        "ValueError: no such model"
    )
    assert "(START_FAILED, ran = no)" in world.line(heard)


def test_an_app_that_is_not_there() -> None:
    world = Told(holds=EVERYTHING)
    heard = world.call("new")
    world.missing(Problem("APP_NOT_FOUND", "there is no app 'counter'"))
    assert world.line(heard) == (
        "call ID to 'run' was refused 0.00 s ago (APP_NOT_FOUND, ran = no): there is no app 'counter'"
    )


@pytest.mark.parametrize(
    ("limits", "code"),
    [(Limits(max_queue=1), "QUEUE_FULL"), (Limits(max_sessions=1), "NO_ROOM")],
)
def test_refused(limits: Limits, code: str) -> None:
    world = Told(limits)
    id = world.session()
    world.call(id)
    world.call(id)
    refused = world.call(id) if code == "QUEUE_FULL" else world.call("new")
    assert refused.code == code
    assert f"call ID to 'run' was refused 0.00 s ago ({code}, ran = no): " in world.line(refused)


def test_timed_out() -> None:
    world = Told()
    id = world.session()
    heard = world.call(id, timeout_seconds=5.0)
    world.wait(5)
    world.obeys()
    assert world.line(heard).startswith(
        "call ID to 'run' timed out after 5 s, 0.00 s ago (TIMEOUT, ran = maybe)"
    )
    assert "app.py:12 in run" in world.line(heard)


def test_being_stopped_and_then_cancelled() -> None:
    world = Told(holds=(*EVERYTHING,))
    world.oblige()
    id = world.session()
    heard = world.call(id)
    world.wait(1)
    world.cancel(heard)
    assert world.line(heard).endswith("; it is being stopped")
    world.obeys()
    assert "call ID to 'run' was cancelled after 1 s, 0.00 s ago (CANCELLED" in world.line(heard)


def test_done_cold_and_warm() -> None:
    world = Told(holds=(fx.Spawn,))
    cold = world.call("new")
    world.wait(0.7)
    world.spawned()
    world.ready()
    world.returns(seconds=2.5)
    id = world.broker.views()[0].id
    warm = world.call(id)
    world.returns(seconds=0.3)
    world.wait(60)
    assert re.fullmatch(
        r"call ID to 'run' is done .* ago in session ID; cold: started for 0.7 s, waited 0.00 s, ran 2.5 s",
        world.line(cold),
    )
    assert world.line(warm) == (
        "call ID to 'run' is done 60 s ago in session ID; warm: waited 0.00 s, ran 0.3 s"
    )


def test_an_error_of_the_app() -> None:
    world = Told()
    heard = world.call("new")
    world.raises()
    assert "ended with an error of the app after 0.00 s" in world.line(heard)
    assert "(APP_ERROR, ran = yes): KeyError: 'x'" in world.line(heard)


def test_a_client_that_left() -> None:
    world = Told()
    heard = world.call("new", by="bob")
    world.leave("bob")
    assert "has run for" in world.line(heard), "it still runs"
    world.returns()
    world.wait(3)
    assert world.line(heard) == (
        "call ID to 'run': its client went away 3 s ago, so nobody was told how it ended, and that is not "
        "kept"
    )


def test_a_detached_call_is_kept_for_a_client_that_left() -> None:
    world = Told()
    heard = world.call("new", by="bob", detach=True)
    world.leave("bob")
    world.returns()
    world.wait(3)
    assert world.line(heard) == (
        "call ID to 'run' is done 3 s ago; what it gave is kept for those who ask for it"
    )


@pytest.mark.parametrize("id", ["sess_" + "0" * 32, "f" * 32, "nonsense", "zz" * 16])
def test_unknown(id: str) -> None:
    world = Told()
    facts = world.facts(id)
    assert facts["state"] == "unknown"
    assert facts["text"] == (
        f"nothing is known of {id!r}: this daemon was started 5 min ago and has not seen it, or too long "
        "ago to be remembered; sessions do not survive a restart, and workers of the shared pool are "
        "forgotten when they end"
    )


def test_by_name_and_by_the_beginning_of_an_id() -> None:
    world = Told()
    id = world.session(name="mine")
    heard = world.call(id, id=CallId(bytes.fromhex("c0ffee" + "0" * 26)))
    world.returns()
    world.call(id, id=CallId(bytes.fromhex("c0ffff" + "0" * 26)))
    world.returns()
    assert world.facts("mine")["id"] == id
    assert world.facts(heard.call.id.hex()[:8])["kind"] == "call"
    world.end(id)
    assert world.facts("mine")["state"] == "ended", "also when it is over"
    world.session()
    world.session()
    with pytest.raises(Invalid, match="2 sessions begin with"):
        world.facts("sess_")
    with pytest.raises(Invalid, match="calls begin with"):
        world.facts("C0FF")


def test_a_long_text_makes_one_line() -> None:
    world = Told()
    heard = world.call("new")
    world.raises(message="line\n" * 500)
    assert len(world.facts(heard)["text"]) < 2000


def test_of_a_crash_the_line_is_told_with_which_it_begins() -> None:
    world = Told()
    id = world.session()
    world.exits(signal="SIGSEGV", log="Fatal Python error: Aborted\n\nExtension modules: x\n")
    assert world.facts(id)["last_line"] == "Fatal Python error: Aborted"


def test_a_fault_of_the_story_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: object) -> None:
        raise RuntimeError

    world = Told()
    monkeypatch.setattr(world.broker.story, "saw", fail)
    heard = world.call(world.session())
    world.returns()
    assert heard.code == "ok"


def test_memory_is_bounded() -> None:
    world = Told()
    id = world.session()
    for _ in range(1100):
        world.call(id)
        world.returns()
        world.call("sess_unknown")
    assert len(list(world.broker.story.call_ids())) == 2000
    assert not world.broker.story._open


def test_open_calls_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmd.daemon.story.MAX_OPEN_CALLS", 3)
    world = Told()
    id = world.session()
    calls = [world.call(id) for _ in range(5)]
    assert len(world.broker.story._open) == 3
    for _ in calls:
        world.returns()
    assert [world.facts(call)["state"] for call in calls] == ["unknown"] * 2 + ["done"] * 3


def test_the_examples_hold() -> None:
    assert doctest.testmod(sentences).failed == 0
