"""Rules of the property tests: what GPUs, their driver and the hooks of apps may do."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.core.cards import Hosted
from tests.core.scene import PICK, SELDOM, Scene, up
from warmd.daemon.core import events as ev
from warmd.protocol import gpus
from warmd.protocol.work import WorkerId

HOW = st.sampled_from(["well"] * 5 + ["keeps", "short", "busy", "lasting", "harmed", "raises", "late"])


class ActsOfGpus(Scene):
    def moving(self) -> list[tuple[WorkerId, Hosted]]:
        fakes = self.world.workers
        alive = [(id, one) for id, one in self.world.hosted.items() if fakes[id].alive and fakes[id].linked]
        return [(id, one) for id, one in alive if one.moving and not fakes[id].kills]

    @precondition(lambda self: self.world.looks and not self.world.stopped)
    @rule(lost=SELDOM)
    def a_look_is_answered(self, lost: bool) -> None:
        number = self.world.looks.pop(0)
        if lost:
            self.world.tell(ev.GpusSeen(number, (), "the driver does not answer"))
        else:
            self.world.tell(self.world.seen_cards(number))

    @precondition(lambda self: self.moving() and not self.world.stopped)
    @rule(pick=PICK, how=HOW)
    def a_move_goes_on(self, pick: int, how: str) -> None:
        found = self.moving()
        worker, hosted = found[pick % len(found)]
        if how == "late":
            self.world.tell(ev.WorkerSaid(worker, gpus.Unparked(hosted.move - 1)))
        elif hosted.way == "driver" and not hosted.ordered:
            self.the_hooks_are_asked(worker, hosted, how)
        elif how == "well" and (hosted.moving == "park" or self.world.room_on_cards(worker)):
            self.world.tell(self.world.moves(worker))
        else:
            self.it_fails(worker, hosted, how if how != "well" else "short")

    def the_hooks_are_asked(self, worker: WorkerId, hosted: Hosted, how: str) -> None:
        if how == "keeps":
            hosted.moving = ""
            self.world.tell(ev.WorkerSaid(worker, gpus.KeepsMemory(hosted.move, "it shares its memory")))
        else:
            self.world.tell(ev.WorkerSaid(worker, gpus.Checkpointable(hosted.move)))

    def it_fails(self, worker: WorkerId, hosted: Hosted, how: str) -> None:
        move, hosted.moving = hosted.move, ""
        by_app = hosted.way == "app"
        if how in ("harmed", "raises"):
            hosted.where = "lost"
        said: ev.Event
        if by_app and hosted.where == "lost":
            said = ev.WorkerSaid(worker, gpus.ParkFailed(move, "KeyError: 'x'"))
        elif by_app:
            said = ev.WorkerSaid(worker, gpus.KeepsMemory(move, "out of memory"))
        else:
            lost = hosted.where == "lost"
            said = ev.MoveFailed(worker, move, how, lost, how == "lasting")
        self.world.tell(said)

    @up
    @rule(pick=PICK, back=st.booleans())
    def somebody_moves_it_by_hand(self, pick: int, back: bool) -> None:
        session = self.any_session(pick)
        if back:
            self.world.unpark(session)
        else:
            self.world.park(session)

    @precondition(lambda self: self.world.cards and not self.world.stopped)
    @rule(pick=PICK, bytes=st.sampled_from([0, 0, 5, 30]))
    def another_program_comes_or_goes(self, pick: int, bytes: int) -> None:
        card = list(self.world.cards)[pick % len(self.world.cards)]
        others = self.world.used_of_card(card) - self.world.strangers[card]
        self.world.intruded = self.world.intruded or bytes > 0
        self.world.strangers[card] = min(bytes, self.world.cards[card] - others)

    @precondition(lambda self: self.world.cards)
    @rule(lingers=st.booleans())
    def memory_of_the_dead_stays_a_while_or_is_back(self, lingers: bool) -> None:
        self.world.memory_lingers = lingers
        if not lingers:
            self.world.lingers.clear()

    @precondition(lambda self: self.world.cards and not self.world.stopped)
    @rule(pick=PICK, bytes=st.sampled_from([10, 40]))
    def an_app_that_said_nothing_takes_memory(self, pick: int, bytes: int) -> None:
        hosted = self.world.hosted
        worker = self.one(pick, lambda fake: fake.ready and fake.alive and fake.spawn.worker not in hosted)
        card = list(self.world.cards)[pick % len(self.world.cards)]
        if worker and self.world.used_of_card(card) + bytes <= self.world.cards[card]:
            self.world.intruded = True
            self.world.takes_memory(WorkerId(worker), {card: bytes})
