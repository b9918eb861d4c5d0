"""Six models on one GPU under a recorded trace: warmd's choice of whom to park against two that are usual."""

from __future__ import annotations

from contextlib import AbstractContextManager as Manager
from itertools import groupby

import pytest

from tests.core import trace
from tests.core.replacement import first_in_first_out, least_recently_used, our_own
from tests.core.trace import MAX_RUN_SECONDS, MODELS, Request, recorded
from tests.core.trace_machine import DRIVER, HOOKS, TOTAL_BYTES, Machine, Outcome, Speeds, bound_seconds
from warmd.daemon.core import policy


@pytest.fixture(autouse=True)
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are most of what these tests cost; what is told of moves and ends orders its own."""
    monkeypatch.setattr(policy, "LOOK_OFTEN_SECONDS", 2.0)


def played(how: Manager[None], speeds: Speeds, requests: list[Request]) -> Outcome:
    with how:
        return Machine(speeds).play(requests)


def test_the_trace_is_what_it_says() -> None:
    requests = recorded()
    assert requests == recorded() != recorded(seed=9)
    assert len(requests) == 645 and requests[0] == Request(0.857, "d", 0.072)
    assert sum(model.share for model in MODELS) == pytest.approx(1.5)
    asked = [sum(request.model == model.name for request in requests) for model in MODELS]
    assert max(asked) == asked[0] and min(asked) > 50
    runs = [len(list(run)) for _, run in groupby(requests, key=lambda request: request.model)]
    assert max(runs) >= 7, "bursts"
    assert all(0 < request.run_seconds <= MAX_RUN_SECONDS for request in requests)
    assert requests[-1].at_seconds < trace.SECONDS + 30.0


@pytest.mark.parametrize(
    ("speeds", "requests"),
    [
        (HOOKS, recorded()),
        (HOOKS, recorded(seconds=240.0, rate=1.0)),
        (DRIVER, recorded(seconds=400.0, rate=0.2)),
    ],
    ids=["the trace", "three times as many", "by the driver"],
)
def test_it_moves_less_than_plain_replacement_and_nobody_waits_too_long(
    speeds: Speeds, requests: list[Request]
) -> None:
    ours = played(our_own(), speeds, requests)
    recent = played(least_recently_used(), speeds, requests)
    first = played(first_in_first_out(), speeds, requests)
    for outcome in (ours, recent, first):
        assert set(outcome.answers) == {"ok"} and not outcome.out_of_memory
    assert ours.parks < min(recent.parks, first.parks)
    assert ours.most_reserved <= TOTAL_BYTES
    for stay in ours.stays:
        assert stay.seconds <= bound_seconds(speeds, stay.before)


def test_calls_that_wait_for_the_same_model_run_together() -> None:
    """A B A A C A B C, of which one fits at a time: in their order that would be six moves."""
    machine = Machine(shares=dict.fromkeys("ABC", 0.6))
    requests = [Request(at * 0.05, model, 0.2) for at, model in enumerate("ABAACABC")]
    outcome = machine.play(requests)
    assert "".join(outcome.ran) == "AAAABBCC"
    assert outcome.parks == 3, "of the one that was there, A and B"


def test_but_nobody_waits_for_ever_for_that() -> None:
    """The same, with calls for A that never cease."""
    machine = Machine(shares=dict.fromkeys("ABC", 0.6))
    requests = [Request(at * 0.15, "A", 0.2) for at in range(200)]
    others = [Request(3.0 + at, model, 0.2) for at in range(20) for model in "BC"]
    outcome = machine.play(sorted([*requests, *others]))
    assert set(outcome.answers) == {"ok"}
    for stay in outcome.stays:
        assert stay.seconds <= bound_seconds(HOOKS, stay.before, share=0.6, run_seconds=0.2)
