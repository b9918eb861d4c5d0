"""What the property tests share: a world in which nothing is obliging, and ways to pick from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition

from tests.core.cards import Way
from tests.core.fakes import FakeWorker, Heard
from tests.core.stage import EVERYTHING
from tests.core.world import World
from warmd.daemon.core.policy import Limits
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.work import Asks

LIMITS = Limits(
    max_sessions=3,
    max_queue=3,
    max_pool_workers=2,
    max_queued_bytes=70,
    max_client_queued_bytes=50,
    max_stream_window=5,
    session_timeout_seconds=5.0,
    max_lifetime_seconds=60.0,
    max_hold_seconds=10.0,
    max_session_timeout_seconds=50.0,
    call_timeout_seconds=20.0,
    template_bytes=2500,
    template_seconds=20.0,
    start_timeout_seconds=10.0,
    end_grace_seconds=3.0,
    cancel_grace_seconds=4.0,
    detached_keep_seconds=30.0,
    detached_max_bytes=3500,
    gpu_wait_seconds=8.0,
    park_bytes=150,
)
SHARES = [GpuAsk(bytes=60), GpuAsk(bytes=30), GpuAsk(share=0.5), GpuAsk(whole=1), GpuAsk(whole=2)]
PICK = st.integers(0, 99)
SELDOM = st.sampled_from([False, False, False, True])
LAG_SECONDS = 0.2
"""How long a word of a worker may lie unread, and a withdrawal unsettled."""

up = precondition(lambda self: not self.world.stopped)


def running(fake: FakeWorker) -> bool:
    return fake.linked and fake.running is not None


def starting(fake: FakeWorker) -> bool:
    return fake.alive and not (fake.spawned and fake.ready) and fake.linked


def behind(fake: FakeWorker) -> bool:
    """The daemon has not read what it said, or it has not turned to its next call."""
    return bool((fake.unread and not fake.paused) or (fake.inbox and not fake.running and fake.alive))


def awaited(fake: FakeWorker) -> bool:
    """The world owes the daemon a fact: a stack, an exit, the end of a tree."""
    dying = fake.kills or fake.finish or not fake.linked
    exits = fake.spawned and fake.alive and dying
    settles = fake.unsettled and not fake.forgotten
    return bool(fake.captures or settles or exits or (fake.kills and not fake.tree_gone))


class Scene(RuleBasedStateMachine):
    @initialize(
        on_cancel=st.booleans(),
        warm=st.sampled_from(["", "new", "new", "pool"]),
        ahead=st.sampled_from([0, 2]),
        lags=st.booleans(),
        templates=st.sampled_from([0, 1, 2]),
        asks=st.sampled_from([Asks(), Asks(), Asks(3.0, 30.0, 6.0, spares=1), Asks(template=False)]),
        cards=st.sampled_from([0, 0, 1, 1, 2]),
        gpu=st.sampled_from([*SHARES, None]),
        way=st.sampled_from(["app", "driver"]),
        park=st.sampled_from([True, True, True, False]),
        blind=st.sampled_from([False, False, True]),
    )
    def begin(
        self,
        on_cancel: bool,
        warm: str,
        ahead: int,
        lags: bool,
        templates: int,
        asks: Asks,
        cards: int,
        gpu: GpuAsk | None,
        way: Way,
        park: bool,
        blind: bool,
    ) -> None:
        """`ahead`: calls are sent before their turn.  `lags`: what workers say is not read at once.
        `blind`: the driver does not say who has how much."""
        limits = replace(LIMITS, dispatch_ahead=ahead, max_templates=templates)
        self.world = World(limits, holds=EVERYTHING, on_cancel=on_cancel)
        self.world.lags = lags
        self.world.asks = asks._replace(gpu=gpu if cards else None, park=park)
        self.world.way, self.world.blind = way, blind
        if cards:
            self.world.insert_cards(**{f"card{number}": 100 for number in range(cards)})
        self.lag_since: float | None = None
        self.clients = ["ann", "bob", "cat"]
        self.left = 0
        if warm:
            self.world.call(None if warm == "pool" else "new")
            self.bring_all_up()

    def bring_all_up(self) -> None:
        """Every start goes well from where it is."""
        for session in list(self.world.lookups):
            self.world.found(session)
        self.world.oblige_templates()
        for fake in self.workers(starting):
            if not fake.spawned:
                self.world.spawned(fake.spawn.worker)
            if not fake.ready and not fake.kills:
                self.world.ready(fake.spawn.worker)
        self.world.oblige_cards()
        self.world.catch_up()
        for fake in self.world.workers.values():
            fake.turn()

    def workers(self, wanted: Callable[[FakeWorker], object]) -> list[FakeWorker]:
        return [fake for fake in self.world.workers.values() if wanted(fake)]

    def one(self, pick: int, wanted: Callable[[FakeWorker], object]) -> int:
        """The number of one such worker, or 0."""
        found = self.workers(wanted)
        return found[pick % len(found)].spawn.worker if found else 0

    def open_call(self, pick: int) -> Heard | None:
        """One that was not answered; every other pick is of those that run."""
        found = [heard for heard in self.world.calls.values() if heard.open]
        entered = [heard for heard in found if heard.entered]
        found = entered if entered and pick % 2 else found
        return found[pick // 2 % len(found)] if found else None

    def client(self, pick: int) -> str:
        return self.clients[pick % len(self.clients)]

    def any_session(self, pick: int) -> str:
        """One that lives, or lived, or never was; or a worker of the pool."""
        views = [view.id for view in self.world.broker.views(include_dead=True)]
        return [*views, "sess_unknown"][pick % (len(views) + 1)]

    def let_pass(self, seconds: float) -> None:
        until = self.world.now + seconds
        while (due := self.world.broker.deadline()) is not None and due < until:
            self.before_time_passes(due - self.world.now)
            self.world.wait(max(0.0, due - self.world.now))
        self.before_time_passes(until - self.world.now)
        self.world.wait(until - self.world.now)

    def before_time_passes(self, seconds: float) -> None:
        """What workers said is read, and withdrawals are settled, within a few milliseconds."""
        owing = self.workers(lambda f: ((f.unread and not f.paused) or f.unsettled) and not f.forgotten)
        self.lag_since = (self.lag_since or self.world.now) if owing else None
        if self.lag_since is not None and self.world.now + seconds > self.lag_since + LAG_SECONDS:
            self.world.catch_up()
            self.lag_since = None
