"""Rules of the property tests: what clients and administrators may do."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.core.scene import PICK, SELDOM, Scene, up
from warmd.daemon.core import events as ev
from warmd.protocol.messages import AppRef

Window: TypeAlias = int | Literal["detach"] | None
WINDOW = st.sampled_from([None, None, 0, 2, 4, "detach", "detach"])
APP = st.sampled_from(["counter", "counter", "counter", "chat"])
FUNCTION = st.sampled_from(["run", "run", "run", "run", "count", "", "nope"])
INPUT = st.sampled_from([b"", b"", b"i" * 10, b"i" * 40])
TIMEOUT = st.sampled_from([None, None, None, 0.5, 3.0, 30.0])


def how_read(window: Window) -> dict[str, Any]:
    return {"detach": True} if window == "detach" else {"window": window}


class ActsOfClients(Scene):
    @up
    @rule(
        by=PICK,
        which=PICK,
        function=FUNCTION,
        window=WINDOW,
        timeout=TIMEOUT,
        count=st.integers(1, 3),
        input=INPUT,
    )
    def call_sessions(
        self,
        by: int,
        which: int,
        function: str,
        window: Window,
        timeout: float | None,
        count: int,
        input: bytes,
    ) -> None:
        live = [view.id for view in self.world.broker.views() if view.kind == "session"]
        for at in range(count if live else 0):
            session = live[which % len(live)]
            client = self.client(by + at)
            read = how_read(window)
            self.world.call(session, function, by=client, timeout_seconds=timeout, input=input, **read)

    @up
    @rule(
        by=PICK,
        session=st.sampled_from(["new", None, None]),
        function=FUNCTION,
        app=APP,
        window=WINDOW,
        setup=st.sampled_from([b"", b"", b"", b"\xc0" * 8]),
        input=INPUT,
    )
    def call(
        self,
        by: int,
        session: str | None,
        function: str,
        app: str,
        window: Window,
        setup: bytes,
        input: bytes,
    ) -> None:
        named, read, client = AppRef(app), how_read(window), self.client(by)
        self.world.call(session, function, by=client, app=named, setup=setup, input=input, **read)

    @up
    @rule(
        by=PICK,
        idle=st.sampled_from([None, 1.0, 7.0, 50.0, 0.5, 51.0]),
        lifetime=st.sampled_from([None, None, None, 3.0, 20.0]),
        name=st.sampled_from([None, "one", "one", "two"]),
        app=APP,
    )
    def call_with_options(
        self, by: int, idle: float | None, lifetime: float | None, name: str | None, app: str
    ) -> None:
        options = {"idle_seconds": idle, "lifetime_seconds": lifetime, "name": name}
        self.world.call("new", by=self.client(by), app=AppRef(app), **options)

    @up
    @rule(by=PICK, app=APP, idle=st.sampled_from([None, 7.0]), setup=st.sampled_from([b"", b"\xc0" * 8]))
    def warm(self, by: int, app: str, idle: float | None, setup: bytes) -> None:
        options = {"idle_seconds": idle, "spare": True, "setup": setup}
        self.world.call("new", "", by=self.client(by), app=AppRef(app), **options)

    @up
    @rule(
        which=PICK,
        function=st.sampled_from(["run", "_hidden", "setup"]),
        timeout=st.sampled_from([None, 0.0]),
    )
    def call_in_vain(self, which: int, function: str, timeout: float | None) -> None:
        """By ids of sessions that are gone, of pool workers, of none; private functions; no patience."""
        wanted = self.any_session(which)
        view = self.world.broker.view(wanted)
        heard = self.world.call(wanted, function, timeout_seconds=timeout)
        if heard.code.startswith("SESSION_"):
            state = "not_found" if view is None or view.kind != "session" else view.state
            assert heard.code == f"SESSION_{state.upper()}" or state == "stopping"

    @rule(pick=PICK)
    def call_again_with_the_same_id(self, pick: int) -> None:
        heard = self.open_call(pick)
        self.world.sabotage = None
        if heard:
            assert self.world.tell(ev.CallArrived(heard.client, heard.call, "f" * 32)) == []

    @rule(pick=PICK, parts=st.integers(-1, 3))
    def give_credit(self, pick: int, parts: int) -> None:
        heard = self.open_call(pick)
        if heard and heard.call.window is not None:
            self.world.credit(heard, parts)

    @rule(pick=PICK, how=st.sampled_from(["cancel", "cancel", "abandon"]))
    def cancel(self, pick: int, how: Any) -> None:
        heard = self.open_call(pick)
        if heard:
            self.world.cancel(heard, how)

    @up
    @rule(pick=PICK, seldom=SELDOM)
    def leave(self, pick: int, seldom: bool) -> None:
        if seldom:
            self.world.leave(self.client(pick))
            self.left += 1
            self.clients[pick % len(self.clients)] = f"client {self.left}"

    @up
    @rule(pick=PICK, behind=st.booleans())
    def read_or_not(self, pick: int, behind: bool) -> None:
        self.world.sabotage = None
        (self.world.falls_behind if behind else self.world.catches_up)(self.client(pick))

    @up
    @rule(which=PICK, how=st.sampled_from(["keepalive", "keepalive", "keepalive", "cancel", "finish"]))
    def manage(self, which: int, how: str) -> None:
        if how == "keepalive":
            self.world.keepalive(self.any_session(which))
        else:
            self.world.end(self.any_session(which), running=how)

    @up
    @rule(which=PICK, seconds=st.sampled_from([None, 2.0, 8.0, 15.0]))
    def hold(self, which: int, seconds: float | None) -> None:
        """For longer than it may, too."""
        self.world.sabotage = None
        self.world.hold(self.any_session(which), seconds)

    @up
    @precondition(lambda self: len(self.world.history) > 12)
    @rule(
        how=st.sampled_from(["all", "app", "drain"]),
        running=st.sampled_from(["cancel", "finish"]),
        seldom=SELDOM,
    )
    def manage_many(self, how: str, running: str, seldom: bool) -> None:
        if not seldom:
            return
        if how == "drain":
            self.world.drain({"cancel": 0.0, "finish": 2.0}[running])
        else:
            self.world.end(app="counter" if how == "app" else None, running=running)
