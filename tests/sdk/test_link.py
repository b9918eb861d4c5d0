"""Threads on one link: what comes for the one that polls while another looks."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

import warmd.link
from tests.faults.watch import until
from tests.sdk.conftest import zoo
from tests.sdk.fakedaemon import SESSION, FakeDaemon
from warmd.link import done
from warmd.protocol.messages import Call

PATIENCE_SECONDS = 10.0
MANY_CALLS = 200


class HeldPoll:
    """The leader's poll, which the kernel does not get to before `go`."""

    def __init__(self, poll: Any) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self._poll = poll

    def poll(self, milliseconds: float | None) -> Any:
        self.begun.set()
        assert self.go.wait(PATIENCE_SECONDS)
        return self._poll.poll(milliseconds)


def looked_for(call: warmd.Submitted) -> Any:
    """Its output if it is there: who sleeps until it is would wait for the one who polls."""
    with contextlib.suppress(TimeoutError):
        return call.result(timeout=0.05).output
    return None


def test_who_looks_for_his_own_answer_takes_the_pollers_too(faked: warmd.Client, fake: FakeDaemon) -> None:
    # What is left in the socket by one who looked makes no new edge for the one who polls.
    faked.run(app="x", function="echo", session=SESSION)
    link = faked._connected()
    held = link._poll = HeldPoll(link._poll)  # type: ignore[assignment]
    ends: list[BaseException] = []

    def wait_for_the_silent() -> None:
        with pytest.raises(warmd.CallCancelled) as caught:
            faked.run(app="x", function="silent", session=SESSION)
        ends.append(caught.value)

    thread = threading.Thread(target=wait_for_the_silent)
    thread.start()
    try:
        assert held.begun.wait(PATIENCE_SECONDS)
        fake.wait_for(Call, 2)
        free = faked.submit(app="x", function="free", input=1, session=SESSION)
        assert until(lambda: looked_for(free), PATIENCE_SECONDS) == 1
        held.go.set()
        thread.join(PATIENCE_SECONDS)
        assert ends, "the thread that polled was not told"
    finally:
        held.go.set()
        faked.close()
        thread.join(PATIENCE_SECONDS)


def test_who_only_begins_calls_takes_all_that_has_come(client: warmd.Client, address: str) -> None:
    with client.session(zoo("Hangs")) as session, warmd.Client(address) as other:
        # The first one holds up the answers until all have been begun.
        inputs = [{"seconds": 0.5 * (n == 0), "value": n} for n in range(MANY_CALLS)]
        calls = [session.submit("echo_after", input) for input in inputs]
        until(lambda: other.sessions.get(session.id).state == "idle")
        more: list[warmd.Submitted] = []

        def all_have_ended_after_one_more() -> bool:
            more.append(session.submit("echo_after", {"seconds": 0, "value": 0}))
            return all(done(call._pending) for call in calls)

        until(all_have_ended_after_one_more)
        # One message for each call that is begun would take as many calls.
        assert len(more) < MANY_CALLS // 2


@pytest.mark.parametrize("longest_seconds", [None, 0.01])
def test_a_time_out_may_be_farther_away_than_the_kernel_can_wait(
    client: warmd.Client, monkeypatch: pytest.MonkeyPatch, longest_seconds: float | None
) -> None:
    """Both for the thread that polls and for one that sleeps; who looks up in between waits on."""
    if longest_seconds is not None:
        monkeypatch.setattr(warmd.link, "LONGEST_WAIT_SECONDS", longest_seconds)
    outputs: list[Any] = []

    def run(timeout: object) -> None:
        with client.session(zoo("Hangs")) as session:
            told = session.call("echo_after", {"seconds": 0.1, "value": timeout}, timeout=timeout)
            outputs.append(told.output)
            call = session.submit("echo_after", {"seconds": 0.1, "value": timeout})
            outputs.append(call.result(timeout).output)

    threads = [threading.Thread(target=run, args=(timeout,)) for timeout in ("25d", 10**11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert sorted(map(str, outputs)) == sorted(["25d", "25d", str(10**11), str(10**11)])
