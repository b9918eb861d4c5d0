"""The heap of deadlines against the simplest model of it: a dictionary."""

from __future__ import annotations

from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from warmd.daemon.core.deadlines import Deadlines, Key

KEYS: st.SearchStrategy[Key] = st.tuples(st.sampled_from(["call", "idle"]), st.integers(0, 3))
TIMES = st.sampled_from([1.0, 2.0, 2.0, 3.0, 10.0, inf])


class AgainstADictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines()
        self.model: dict[Key, float] = {}

    @rule(key=KEYS, at=TIMES)
    def set(self, key: Key, at: float) -> None:
        self.deadlines.set(key, at)
        self.model[key] = at

    @rule(key=KEYS)
    def drop(self, key: Key) -> None:
        self.deadlines.drop(key)
        self.model.pop(key, None)

    @rule(now=TIMES)
    def pop(self, now: float) -> None:
        due = {key: at for key, at in self.model.items() if at <= now and at != inf}
        key = self.deadlines.pop_due(now)
        if not due:
            assert key is None
        else:
            assert key is not None
            assert due[key] == min(due.values())
            del self.model[key]

    @invariant()
    def agree(self) -> None:
        assert set(self.deadlines) == set(self.model)
        assert len(self.deadlines) == len(self.model)
        assert self.deadlines.next() == min((at for at in self.model.values() if at != inf), default=None)
        for key, at in self.model.items():
            assert key in self.deadlines
            assert self.deadlines.time_of(key) == at


TestDeadlines = AgainstADictionary.TestCase
TestDeadlines.settings = settings(max_examples=40, stateful_step_count=40)


def test_keys_that_are_due_at_once_come_in_the_order_in_which_they_were_set() -> None:
    deadlines = Deadlines()
    for number in (3, 1, 2):
        deadlines.set(("call", number), 5.0)
    assert [deadlines.pop_due(5.0) for _ in range(4)] == [("call", 3), ("call", 1), ("call", 2), None]


def test_millions_of_deadlines_that_never_came_due_cost_no_memory() -> None:
    """Each call has one an hour ahead, and is answered long before."""
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set(("call", number), 3600.0)
        deadlines.drop(("call", number))
    assert len(deadlines._heap) < 200
    assert deadlines.next() is None


def test_a_deadline_that_moves_again_and_again_costs_no_memory() -> None:
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set(("idle", 1), float(number))
    assert len(deadlines._heap) < 200
    assert deadlines.next() == 9999.0


def test_tidying_up_loses_no_deadline() -> None:
    deadlines = Deadlines()
    for number in range(10):
        deadlines.set(("call", number), 100.0 + number)
    for number in range(1000):
        deadlines.set(("idle", 1), float(number))
    deadlines.drop(("idle", 1))
    assert [deadlines.pop_due(1000.0) for _ in range(11)] == [
        *(("call", number) for number in range(10)),
        None,
    ]
