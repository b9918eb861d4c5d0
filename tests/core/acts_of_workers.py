"""Rules of the property tests: what the system and the workers may do, in and out of turn."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.core.scene import PICK, SELDOM, Scene, awaited, behind, running, starting
from warmd.daemon.core import events as ev
from warmd.protocol import work
from warmd.protocol.errors import Problem
from warmd.protocol.work import Ordinal


class ActsOfWorkers(Scene):
    @rule(pick=PICK, parts=st.integers(0, 2))
    def all_goes_well(self, pick: int, parts: int) -> None:
        """Starts succeed, a call yields what it may and returns, and the daemon hears of it."""
        self.bring_all_up()
        number = self.one(pick, running)
        if number:
            for _ in range(min(parts, self.world.worker(number).credit)):
                self.world.yields(f"part {number} of {len(self.world.effects)}".encode(), number)
            self.world.returns(worker=number)
            self.bring_all_up()


    @rule(when=st.sampled_from(["early", "late"]), really=SELDOM)
    def break_the_next_rule(self, when: str, really: bool) -> None:
        """A fault of our own, at the next event of whatever kind."""
        self.world.sabotage = when if really else None

    @precondition(lambda self: self.world.lookups or self.workers(starting))
    @rule()
    def come_up(self) -> None:
        self.bring_all_up()

    @precondition(lambda self: self.world.lookups)
    @rule(pick=PICK, found=st.sampled_from([True, True, False]))
    def look_up(self, pick: int, found: bool) -> None:
        session = list(self.world.lookups)[pick % len(self.world.lookups)]
        if found:
            self.world.found(session)
        else:
            self.world.missing(Problem("APP_NOT_FOUND", "there is no app 'counter'"), session)

    @precondition(lambda self: self.workers(starting))
    @rule(pick=PICK, how=st.sampled_from(["spawned", "fails", "ready", "raises"]))
    def start(self, pick: int, how: str) -> None:
        """A worker may be ready before the starter has told that it was spawned."""
        number = self.one(pick, starting)
        fake = self.world.worker(number)
        if how == "raises" and not fake.ready and (fake.spawned or fake.template is None):
            fake.linked = False
            self.world.says(work.StartFailed("setup", "ValueError", "no model", "Traceback"), number)
        elif how == "ready" and not fake.ready and (fake.spawned or fake.template is None):
            self.world.ready(number)  # a fork is known by then: it has come to the door
        elif how == "fails" and not fake.spawned and not fake.ready:
            outdated = fake.template is not None and fake.template.of_use and pick % 2
            if outdated:
                self.world.finds_changes(number)
            else:
                self.world.spawn_fails(number)
        elif not fake.spawned:
            self.world.spawned(number)

    @precondition(lambda self: self.workers(running))
    @rule(
        pick=PICK,
        how=st.sampled_from(["returns", "returns", "raises", "obeys", "declines"]),
        value=st.sampled_from([b"value", b"v" * 2000]),
    )
    def end_a_call(self, pick: int, how: str, value: bytes) -> None:
        number = self.one(pick, running)
        # A worker says Interrupted only of a call that it was asked to end.
        if how == "obeys" and self.world.worker(number).asked != self.world.running(number).ordinal:
            how = "returns"
        if how == "declines" and self.world.worker(number).yielded:
            how = "raises"
        if how == "returns":
            self.world.returns(value, number)
        else:
            getattr(self.world, how)(worker=number)

    @precondition(lambda self: self.workers(running))
    @rule(pick=PICK, what=st.sampled_from(["part", "part", "parts", "progress"]))
    def go_on_with_a_call(self, pick: int, what: str) -> None:
        number = self.one(pick, running)
        credit = self.world.worker(number).credit
        part = f"part {number} of {len(self.world.effects)}".encode()
        if what == "part" and credit:
            self.world.yields(part, number)
            return
        if what == "parts" and credit > 1:
            self.world.yields_together([part, b"", part * 2][:credit], number)
            return
        running_call = self.world.running(number)
        before = len(self.world.effects) % 100
        self.world.says(work.Progressed(running_call.ordinal, bytes([before])), number)
        view = self.world.broker.call_view(running_call.call.hex())
        unread = self.world.lags or self.world.worker(number).paused
        over = view is None or view.state == "done"
        assert over or view.progress == bytes([before]) or unread

    @precondition(lambda self: self.workers(behind))
    @rule(pick=PICK, what=st.sampled_from(["turn", "read", "read", "everything"]))
    def catch_up(self, pick: int, what: str) -> None:
        """A worker turns to its next call, or the daemon reads what it said."""
        number = self.one(pick, behind)
        fake = self.world.worker(number)
        if what == "everything":
            self.world.catch_up()
        elif fake.unread and what == "read":
            self.world.reads(number)
        else:
            fake.turn()

    @precondition(lambda self: self.workers(awaited))
    @rule(pick=PICK, text=st.sampled_from(["", "app.py:3 in run"]), stuck=SELDOM)
    def do_as_ordered(self, pick: int, text: str, stuck: bool) -> None:
        """Late or not, in any order: a stack is taken, a doomed worker exits, its tree ends or is stuck."""
        number = self.one(pick, awaited)
        fake = self.world.worker(number)
        if fake.unsettled and not fake.forgotten:
            self.world.settles(number)
        elif fake.captures:
            self.world.stack(text, number)
        elif fake.spawned and fake.alive and not stuck:
            self.world.exits(number, signal="SIGKILL" if fake.kills else None)
        elif fake.kills and not fake.tree_gone and (fake.exited or stuck):
            self.world.tree_ends(number, () if fake.exited else (4711,))

    @precondition(lambda self: self.workers(lambda f: f.spawned and f.alive))
    @rule(pick=PICK, how=st.sampled_from(["SIGSEGV", "code", "link"]), seldom=SELDOM)
    def fall_over(self, pick: int, how: str, seldom: bool) -> None:
        number = self.one(pick, lambda f: f.spawned and f.alive)
        if not seldom:
            return
        if how == "link" and self.world.worker(number).linked:
            self.world.loses_link(number)
        elif how == "SIGSEGV":
            self.world.exits(number, signal="SIGSEGV", log="last words")
        else:
            self.world.exits(number, code=3)

    @precondition(lambda self: self.workers(lambda f: f.invoked))
    @rule(pick=PICK, back=st.integers(0, 2), word=st.integers(0, 12))
    def speak_out_of_turn(self, pick: int, back: int, word: int) -> None:
        """Of an old call, or as a worker that is long forgotten."""
        self.world.sabotage = None
        fake = self.world.worker(self.one(pick, lambda f: f.invoked))
        number, worker = Ordinal(fake.invoked - back), fake.spawn.worker
        words: list[ev.Event] = [
            ev.WorkerSaid(worker, work.Returned(number, 0.1, 0, b"late")),
            ev.WorkerSaid(worker, work.Raised(number, 0.1, "E", "late", "Traceback")),
            ev.WorkerSaid(worker, work.Interrupted(number, 0.1)),
            ev.WorkerSaid(worker, work.Declined(number, "late")),
            ev.WorkerSaid(worker, work.Yielded(number, 0, b"late")),
            ev.WorkerSaid(worker, ev.YieldedMany(number, 0, [b"late", b"later"])),
            ev.StackCaptured(worker, Ordinal(number - 1), "late"),
            ev.WorkerSaid(worker, work.Ready(["run"], 0.0, 0.0, False)),
            ev.WorkerSaid(worker, work.StartFailed("setup", "E", "late", "Traceback")),
            ev.WorkerSpawned(worker, 5),
            ev.LinkLost(worker, "closed its link"),
            ev.WorkerExited(worker, 0, None, ""),
            ev.TreeGone(worker),
        ]
        about = number - 1 if word == 6 else number
        current = about in fake.given and not fake.exited
        if fake.forgotten or (word <= 7 and not (word <= 6 and current)):
            assert self.world.tell(words[word]) == []
