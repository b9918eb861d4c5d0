"""Whatever happens, in whatever order: the promises hold after each event, and everything ends.

The rules are what clients, workers, the system and the clock may do; `World` and its fakes object
when an order or an answer breaks a promise.  Nothing is obliging here until the end: lookups and
starts hang or fail, workers yield, die, ignore interrupts, speak out of turn, and leave children.
After a change of the rules, search longer: WARMD_TEST_EXAMPLES=5000 takes minutes.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.core.acts_of_clients import ActsOfClients
from tests.core.acts_of_fate import ActsOfFate
from tests.core.acts_of_gpus import ActsOfGpus
from tests.core.acts_of_readers import ActsOfReaders
from tests.core.acts_of_templates import ActsOfTemplates
from tests.core.acts_of_workers import ActsOfWorkers
from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core import policy

LATE_STEP_SECONDS = 0.1
"""How late `TimePassed` may come; every rule but those about time may happen in between."""


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of detached calls are told one part in one event, so that some wait for their turn."""
    monkeypatch.setattr(policy, "TOLD_AT_ONCE_BYTES", 1)


class Daemon(ActsOfClients, ActsOfFate, ActsOfGpus, ActsOfReaders, ActsOfTemplates, ActsOfWorkers):
    @rule(seconds=st.sampled_from([0.0, 0.05, 0.3, 2.0]))
    def pass_time(self, seconds: float) -> None:
        self.let_pass(seconds)

    @rule(patience=st.sampled_from([0.2, 0.2, 0.2, 5.0, 1000.0]), times=st.sampled_from([1, 1, 3, 10, 11]))
    def pass_time_until_something_is_due(self, patience: float, times: int) -> None:
        """So many times: ten interrupts and a kill are eleven."""
        for _ in range(times):
            due = self.world.broker.deadline()
            if due is not None and due - self.world.now <= patience:
                self.let_pass(max(0.0, due - self.world.now))

    @rule(seconds=st.floats(0.0, LATE_STEP_SECONDS))
    def be_late(self, seconds: float) -> None:
        """The clock goes on, but the daemon has not come round to its timers yet."""
        self.before_time_passes(seconds)
        due = self.world.broker.deadline()
        if due is not None and due + LATE_STEP_SECONDS < self.world.now + seconds:
            self.world.tell(ev.TimePassed())
        else:
            self.world.now += seconds

    @rule()
    def wake_too_early(self) -> None:
        self.world.sabotage = None
        due = self.world.broker.deadline()
        if due is None or due > self.world.now:
            assert self.world.tell(ev.TimePassed()) == []

    def teardown(self) -> None:
        """From any state, everything ends: by a drain, on request, or by time alone."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.sabotage = None
        world.tell(ev.TimePassed())
        world.oblige()
        way = len(world.history) % 3
        if not world.stopped and way == 0:
            world.drain(2.0)
        elif not world.stopped and way == 1:
            world.end(running="finish")
        world.wait(200.0)
        world.assert_over()
        assert way or world.stopped
        assert len(world.ordered(fx.Spawn)) + len(world.ordered(fx.Fork)) == len(world.workers)


TestDaemon = pytest.mark.timeout(400)(Daemon.TestCase)  # to find a small example takes minutes
TestDaemon.settings = settings(
    max_examples=int(os.environ.get("WARMD_TEST_EXAMPLES", "200")),
    stateful_step_count=60,
    report_multiple_bugs=False,
)
