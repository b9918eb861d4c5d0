"""What can be counted on, whatever is asked for: how long a wait is, how long a stay, and what fits.

Random machines under random load; one of the models is asked for without a pause.
"""

from __future__ import annotations

import random

import pytest

from tests.core.trace import Request
from tests.core.trace_machine import GIB, TOTAL_BYTES, Machine, Outcome, Speeds, bound_seconds
from warmd.daemon.core import policy

LATE_SECONDS = 2.0
"""So much after its deadline a call has ended."""
CLOCK_SECONDS = 1e-6
SEEDS = pytest.mark.parametrize("seed", range(8))


@pytest.fixture(autouse=True)
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are most of what these tests cost; what is told of moves and ends orders its own."""
    monkeypatch.setattr(policy, "LOOK_OFTEN_SECONDS", 2.0)


class Box:
    """A machine, and calls for it, of one number."""

    def __init__(self, seed: int, longest_seconds: float = 3.0) -> None:
        chance = random.Random(seed)
        self.speeds = Speeds(30.0 * GIB, chance.choice([2, 10, 50]) * GIB, chance.choice([5, 50]) * GIB)
        self.shares = {name: chance.uniform(0.2, 0.9) for name in "ABCDEF"[: chance.randint(3, 6)]}
        self.longest_seconds = chance.choice([0.5, longest_seconds])
        busiest, *others = self.shares
        calls = [busiest] * chance.randint(40, 80) + chance.choices(others, k=30)
        work_seconds = 40 * self.longest_seconds / 2
        self.requests = sorted(
            Request(chance.uniform(0.0, work_seconds), model, chance.uniform(0.01, self.longest_seconds))
            for model in calls
        )

    def play(self, timeout_seconds: float = 3600.0, stubborn: bool = False) -> Outcome:
        machine = Machine(self.speeds, self.shares, stubborn=stubborn)
        return machine.play(self.requests, timeout_seconds)


@SEEDS
def test_all_waits_stays_and_reservations_are_within_their_bounds(seed: int) -> None:
    box = Box(seed)
    outcome = box.play()
    assert set(outcome.answers) == {"ok"}
    for stay in outcome.stays:
        most = bound_seconds(box.speeds, stay.before, max(box.shares.values()), box.longest_seconds)
        assert stay.seconds <= most, "somebody waits for longer than those before it explain"
    for residence in outcome.residences:
        least = max(policy.MIN_RESIDENT_SECONDS, residence.last_moves_seconds)
        assert residence.seconds >= least - CLOCK_SECONDS, "parked again too soon"
    assert outcome.most_reserved <= TOTAL_BYTES, "more is promised than there is"
    assert not outcome.out_of_memory


@SEEDS
@pytest.mark.parametrize("stubborn", [False, True])
def test_every_call_ends_soon_after_its_deadline(seed: int, stubborn: bool) -> None:
    box = Box(seed, longest_seconds=8.0)
    outcome = box.play(timeout_seconds=4.0, stubborn=stubborn)
    assert len(outcome.answers) == len(box.requests)
    assert outcome.latest <= LATE_SECONDS
    assert outcome.most_reserved <= TOTAL_BYTES
    assert not outcome.out_of_memory, "what a killed process had is given away when it is back"


def test_these_boxes_are_full_and_busy() -> None:
    """Else the bounds would say little."""
    outcomes = [Box(seed).play() for seed in range(4)]
    assert all(outcome.parks > 2 for outcome in outcomes)
    assert any(stay.before >= 2 for outcome in outcomes for stay in outcome.stays)
    assert sum(len(outcome.residences) for outcome in outcomes) > 10
    answers = {answer for seed in range(3) for answer in Box(seed, 8.0).play(4.0, stubborn=True).answers}
    assert {"ok", "TIMEOUT"} <= answers
