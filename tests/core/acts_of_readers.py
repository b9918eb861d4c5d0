"""Rules of the property tests: what readers of detached calls may do."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.core.fakes import Heard, Reading
from tests.core.scene import PICK, Scene, up


class ActsOfReaders(Scene):
    @up
    @precondition(lambda self: any(heard.call.detach for heard in self.world.history))
    @rule(pick=PICK, by=PICK, offset=st.integers(-1, 4), window=st.sampled_from([None, 0, 1, 5]))
    def attach(self, pick: int, by: int, offset: int, window: int | None) -> None:
        """To a call that runs, has ended, or is gone; from a part that it has, had, or never gave."""
        self.world.sabotage = None
        heard = self.detached_call(pick)
        view = self.world.broker.call_view(heard.call.id.hex())
        reading = self.world.attach(heard, offset, window, by=self.client(by))
        if view is None:
            assert reading.code == "CALL_GONE"
        elif offset < 0 or (view.state == "done" and offset > view.parts) or (window is None and offset):
            assert reading.code == "INVALID"
        elif window is not None and offset < view.first_part:
            assert reading.code == "CALL_GONE"
        elif view.state == "done":
            slow = reading.client in self.world.behind
            told = reading.final or reading.credit == 0 or slow
            assert told or self.waits_for_its_turn(reading), "what is kept is told at once"

    @up
    @precondition(lambda self: any(heard.call.detach for heard in self.world.history))
    @rule(pick=PICK)
    def repeat_a_detached_call(self, pick: int) -> None:
        self.world.sabotage = None
        heard = self.detached_call(pick)
        if heard.over and self.world.broker.call_view(heard.call.id.hex()):
            reading = self.world.attach(heard, by="dan", again=True)
            assert reading.final or self.waits_for_its_turn(reading), "it is answered and not run"

    @precondition(lambda self: any(reading.open for reading in self.world.readings.values()))
    @rule(pick=PICK, parts=st.integers(-1, 3))
    def read_on(self, pick: int, parts: int) -> None:
        reading = self.reading(pick)
        if parts > 0 or reading.credit is None:
            self.world.read_on(reading, parts)

    @precondition(lambda self: any(reading.open for reading in self.world.readings.values()))
    @rule(pick=PICK)
    def read_no_more(self, pick: int) -> None:
        self.world.sabotage = None
        reading = self.reading(pick)
        self.world.read_no_more(reading)
        assert reading.code == "CANCELLED"

    @up
    @precondition(lambda self: self.world.history)
    @rule(pick=PICK, by=PICK, window=st.sampled_from([None, -1, 0, 1, 3]))
    def watch(self, pick: int, by: int, window: int | None) -> None:
        """A call that waits, runs or has ended, whoever began it."""
        history = self.world.history
        heard, sabotaged = history[pick % len(history)], self.world.sabotage is not None
        under_way = heard.call.id in self.world.broker._book.jobs
        watching = self.world.watch(heard, window, by=self.client(by))
        if sabotaged:
            assert not watching.open or watching.code == ""
        elif not under_way:
            assert watching.code in ("ok", "CALL_GONE")
        elif window is None or window < 0:
            assert watching.code == "INVALID"

    @up
    @precondition(lambda self: any(heard.call.detach for heard in self.world.history))
    @rule(pick=PICK)
    def stop_a_detached_call(self, pick: int) -> None:
        self.world.stop_call(self.detached_call(pick))

    def waits_for_its_turn(self, reading: Reading) -> bool:
        return any(reader.client == reading.client for reader in self.world.broker._book.keep.unserved)

    def detached_call(self, pick: int) -> Heard:
        found = [heard for heard in self.world.history if heard.call.detach]
        return found[pick % len(found)]

    def reading(self, pick: int) -> Reading:
        found = [reading for reading in self.world.readings.values() if reading.open]
        return found[pick % len(found)]
