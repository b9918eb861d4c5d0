"""Rules of the property tests: programs inside apps that call sessions, and the death of the daemon."""

from __future__ import annotations

from hypothesis.stateful import precondition, rule

from tests.core.circles import closes_a_circle
from tests.core.scene import PICK, SELDOM, Scene, up


class ActsOfFate(Scene):
    @up
    @rule(pick=PICK, which=PICK)
    def move_in(self, pick: int, which: int) -> None:
        """A client turns out to be a program inside an app."""
        live = [view.id for view in self.world.broker.views() if view.state != "stopping"]
        if live:
            self.world.sabotage = None
            self.world.live_inside(self.client(pick), live[which % len(live)])

    @up
    @precondition(lambda self: self.world.inside)
    @rule(pick=PICK, which=PICK)
    def call_from_inside(self, pick: int, which: int) -> None:
        """Refused exactly when the caller's session would wait for itself."""
        live = [view for view in self.world.broker.views() if view.state in ("starting", "idle", "busy")]
        targets = [view.id for view in live if view.kind == "session"]
        if not targets:
            return
        self.world.sabotage = None
        callers = list(self.world.inside)
        caller, target = callers[pick % len(callers)], targets[which % len(targets)]
        circle = closes_a_circle(self.world, caller, target)
        reads = caller not in self.world.behind
        heard = self.world.call(target, by=caller.decode())
        told = heard.code == "INVALID" and "wait for itself" in heard.final.message
        assert told == circle or not reads, f"a circle: {circle}, told: {told}"

    @rule(seldom=SELDOM, really=SELDOM)
    def the_daemon_dies(self, seldom: bool, really: bool) -> None:
        if seldom and really:
            before = self.world.daemon_dies()
            self.left += 1
            self.clients = [f"client {self.left} {name}" for name in ("ann", "bob", "cat")]
            for session in before[-3:]:
                assert self.world.call(session).code == "SESSION_NOT_FOUND"
