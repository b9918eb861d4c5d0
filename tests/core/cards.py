"""GPUs in the simulated world: their true memory, what moves it, and objections to broken promises."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

from warmd.daemon.core import effects as fx
from warmd.daemon.core import events as ev
from warmd.daemon.core.events import GpuId, GpuSeen
from warmd.protocol import gpus
from warmd.protocol.messages import ClientId, SessionId
from warmd.protocol.work import WorkerId

Way = Literal["app", "driver"]
OF_CARDS = (fx.Look, fx.Checkpoint, fx.Restore, gpus.Park, gpus.Unpark)
CONTEXT_BYTES = 1
"""What a process keeps on the GPU when its own hooks have moved the rest."""


@dataclass(eq=False)
class Hosted:
    """The GPU memory of one worker, wherever it is."""

    bytes: dict[GpuId, int]
    way: Way = "app"
    where: Literal["gpu", "host", "lost"] = "gpu"
    moving: Literal["", "park", "unpark"] = ""
    move: int = 0
    parks: int = 0
    back_since: float = 0.0
    began: float = 0.0
    ordered: bool = False
    """The driver is at it."""


class Cards:
    """The part of the stage that has to do with GPUs.  `cards`: their bytes in all."""

    def open_cards(self) -> None:
        self.cards: dict[GpuId, int] = {}
        self.strangers: defaultdict[GpuId, int] = defaultdict(int)
        self.hosted: dict[WorkerId, Hosted] = {}
        self.intruded = False
        """Other programs have come after the daemon had looked, so memory may be short in truth."""
        self.way: Way = "app"
        self.looks: list[int] = []
        self.blind = False
        """The driver does not say who has what."""
        self.memory_lingers = False
        self.lingers: dict[WorkerId, dict[GpuId, int]] = {}
        """Memory of processes that have ended which the driver has not taken back yet."""

    def insert_cards(self: Any, **totals: int) -> None:
        """The machine has these GPUs, and the daemon has looked at them."""
        self.cards = {GpuId(name): total for name, total in totals.items()}
        self.tell(self.seen_cards(0))

    def seen_cards(self: Any, look: int) -> ev.GpusSeen:
        seen = []
        for index, (id, total) in enumerate(self.cards.items()):
            of = {worker: bytes for worker, bytes in self._on_card(id).items() if bytes}
            used = sum(of.values()) + self.strangers[id]
            told = {} if self.blind else of
            seen.append(GpuSeen(id, index, "a card", total, used, told, exact=not self.blind))
        return ev.GpusSeen(look, tuple(seen), "" if seen else "no driver is here")

    def _on_card(self: Any, card: GpuId) -> dict[WorkerId, int]:
        of = {worker: gone.get(card, 0) for worker, gone in self.lingers.items()}
        for worker, hosted in self.hosted.items():
            here = hosted.where == "gpu" or (hosted.where == "host" and hosted.moving == "unpark")
            kept = CONTEXT_BYTES if hosted.way == "app" and card in hosted.bytes else 0
            of[worker] = hosted.bytes.get(card, 0) if here else kept
        return of

    def used_of_card(self: Any, card: GpuId) -> int:
        used: int = sum(self._on_card(card).values()) + self.strangers[card]
        return used

    def takes_memory(self: Any, worker: WorkerId, bytes: dict[GpuId, int]) -> None:
        """A process allocates."""
        self.hosted[worker] = Hosted(bytes, self.way, back_since=self.now)
        self._check_cards()

    def room_on_cards(self: Any, worker: WorkerId) -> bool:
        """Whether what it has in host memory fits, in truth."""
        bytes = self.hosted[worker].bytes
        others = {card: self.used_of_card(card) - self._on_card(card)[worker] for card in bytes}
        return all(others[card] + more <= self.cards[card] for card, more in bytes.items())

    def starts_on_cards(self: Any, worker: WorkerId, home: tuple[str, ...] | None) -> None:
        """A worker has come up, and takes what was reserved for it."""
        session = self.broker._book.workers.get(worker)
        if home is not None and session is not None and session.tenancy is not None:
            free = {card: self.cards[card] - self.used_of_card(card) for card in home}
            took = {card: min(bytes, free[card]) for card, bytes in session.tenancy.home.items()}
            assert self.intruded or took == session.tenancy.home, "what was reserved is not there"
            self.takes_memory(worker, took)

    def leaves_cards(self: Any, worker: WorkerId, lingers: bool = False) -> None:
        """Its process has ended."""
        hosted = self.hosted.pop(worker, None)
        if hosted is not None and (lingers or self.memory_lingers) and hosted.where == "gpu":
            self.lingers[worker] = hosted.bytes

    def is_told_to_move(self: Any, fake: Any, message: gpus.Park | gpus.Unpark) -> None:
        hosted = self.hosted[fake.spawn.worker]
        assert not fake.given and fake.running is None, "a busy session is never parked"
        assert not hosted.moving or self.faulty or self.was_faulty, "two moves at one time"
        parks = isinstance(message, gpus.Park)
        assert hosted.where == ("gpu" if parks else "host"), "moved from where it is not"
        hosted.move, hosted.began, hosted.ordered = message.move, self.now, False
        hosted.moving = "park" if parks else "unpark"

    def driver_is_told(self: Any, effect: fx.Checkpoint | fx.Restore) -> None:
        hosted = self.hosted[effect.worker]
        assert hosted.way == "driver", "the driver moves what its app moves by itself"
        if isinstance(effect, fx.Restore):
            assert hosted.where == "host" and not hosted.moving, "restored from where it is not"
            hosted.moving, hosted.began = "unpark", self.now
        hosted.move, hosted.ordered = effect.move, True

    def moves(self: Any, worker: WorkerId) -> ev.Event:
        """The move under way goes well: what is told of it."""
        hosted = self.hosted[worker]
        said: ev.Event
        if hosted.moving == "park":
            said = self._parks(worker, hosted)
        else:
            hosted.where, hosted.moving, hosted.back_since = "gpu", "", self.now
            app = hosted.way == "app"
            said = (
                ev.WorkerSaid(worker, gpus.Unparked(hosted.move)) if app else ev.Restored(worker, hosted.move)
            )
        self._check_cards()
        return said

    def cards_answer(self: Any, effect: fx.Effect) -> list[ev.Event]:
        """What an obliging world says to orders that concern GPUs."""
        if isinstance(effect, fx.Look):
            self.looks.remove(effect.number)
            return [self.seen_cards(effect.number)]
        if isinstance(effect, fx.Checkpoint | fx.Restore):
            return [self.moves(effect.worker)]
        if isinstance(effect, fx.Tell) and isinstance(effect.message, gpus.Park | gpus.Unpark):
            if type(effect.message) in self.holds:
                return []
            if isinstance(effect.message, gpus.Park) and self.hosted[effect.worker].way == "driver":
                return [ev.WorkerSaid(effect.worker, gpus.Checkpointable(effect.message.move))]
            return [self.moves(effect.worker)]
        return []

    def oblige_cards(self: Any) -> None:
        """What looks and moves are under way go well, one after another."""
        while not self.stopped:
            under_way = [id for id, one in self.hosted.items() if one.moving and self.workers[id].linked]
            under_way = [id for id in under_way if self.workers[id].alive and not self.workers[id].kills]
            if self.looks:
                self.tell(self.seen_cards(self.looks.pop(0)))
            elif under_way:
                self._goes_on(under_way[0])
            else:
                return

    def _goes_on(self: Any, worker: WorkerId) -> None:
        hosted = self.hosted[worker]
        if hosted.way == "driver" and not hosted.ordered:
            self.tell(ev.WorkerSaid(worker, gpus.Checkpointable(hosted.move)))
        elif hosted.moving == "park" or self.room_on_cards(worker):
            self.tell(self.moves(worker))
        else:
            hosted.moving = ""
            short = ev.MoveFailed(worker, hosted.move, "out of memory")
            kept = ev.WorkerSaid(worker, gpus.KeepsMemory(hosted.move, "out of memory"))
            self.tell(short if hosted.way == "driver" else kept)

    def park(self: Any, session: str) -> Any:
        """Somebody asks for it; what was answered so far."""
        request = self._request()
        self.tell(ev.ParkArrived(ClientId(b"ann"), request, SessionId(session)))
        return self.requests[request]

    def unpark(self: Any, session: str) -> Any:
        request = self._request()
        self.tell(ev.UnparkArrived(ClientId(b"ann"), request, SessionId(session)))
        return self.requests[request]

    def _parks(self: Any, worker: WorkerId, hosted: Hosted) -> ev.Event:
        hosted.where, hosted.moving = "host", ""
        hosted.parks += 1
        if hosted.way == "app":
            return ev.WorkerSaid(worker, gpus.Offloaded(hosted.move))
        return ev.Checkpointed(worker, hosted.move)

    def _check_cards(self: Any) -> None:
        for card, total in self.cards.items():
            assert self.used_of_card(card) <= total, f"{card} is out of memory"

    def is_moved(self: Any, fake: Any) -> bool:
        """Its GPU memory is on its way: it expires when that is over at the earliest."""
        moved = self.state(fake.spawn.session) in ("parking", "unparking")
        if moved:
            fake.hold.changed = self.now
        return moved

    def check_is_not_moved(self: Any, fake: Any) -> None:
        """It is given a call."""
        hosted = self.hosted.get(fake.spawn.worker)
        assert hosted is None or (hosted.where == "gpu" and not hosted.moving), "a call without its memory"
