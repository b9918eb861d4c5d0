"""The rows of the table: what each measures, in turns, and what it makes of it."""

from __future__ import annotations

import contextlib
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from benchmarks.figures import Target, paired_ratio
from benchmarks.peers import Peer


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    """Of slices, alone; a third of them beside each peer."""
    slow_rounds: int
    """Of what takes long: starts, large arrays, streams."""
    calls: int
    """One after the other, in a slice; fewer if it takes longer than `SLICE_SECONDS`."""
    pipelined: int
    """Calls of a pipelined slice."""
    idle_sessions: int
    idle_seconds: float


SMOKE = Effort(rounds=6, slow_rounds=2, calls=100, pipelined=500, idle_sessions=20, idle_seconds=5.0)
FULL = Effort(rounds=40, slow_rounds=10, calls=200, pipelined=1000, idle_sessions=1000, idle_seconds=60.0)
SLICE_SECONDS = 0.25


@dataclass(frozen=True)
class Line:
    """One figure of a report; ratios are medians of the rounds' own."""

    name: str
    value: float
    to_floor: float | None = None
    """This, by the floor of the same rounds."""
    warmd_to_it: float | None = None
    """warmd, by this, in the same rounds."""


@dataclass
class Report:
    """What one row of the table has to say."""

    key: str
    title: str
    unit: str
    lines: list[Line]
    targets: list[Target]
    missing: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""


class Row(ABC):
    """Something to measure: `open`, `measure`, where it `meets_peers` `beside` each of them, `reports`."""

    key: ClassVar[str]
    meets_peers: ClassVar[bool] = False

    def __init__(self, effort: Effort) -> None:
        self.effort = effort
        self.missing: dict[str, str] = {}

    @abstractmethod
    def open(self, stack: contextlib.ExitStack) -> None:
        """Start what is measured; it ends with `stack`.  Raises Unavailable or ImportError."""

    @abstractmethod
    def measure(self) -> None:
        """Measure what needs no peer."""

    def beside(self, peer: Peer) -> None:
        """Measure the peer, with warmd and the floor in the same rounds."""
        raise NotImplementedError(f"{self.key} meets no peers, not even {peer.name}")

    @abstractmethod
    def reports(self) -> list[Report]: ...


@dataclass(frozen=True)
class Contestant:
    name: str
    sample: Callable[[], float]
    """One slice: its figure."""


class Contest(Row):
    """A floor, warmd and others, each sampled once a round.

    Beside a peer the floor and warmd are measured again, so that whatever a peer does in the
    background hits those too that it is compared with.
    """

    title: ClassVar[str]
    unit: ClassVar[str]
    scale: ClassVar[float] = 1.0
    """What the samples are multiplied with to be in the unit."""
    slow: ClassVar[bool] = False
    floor: Contestant
    warmd: Contestant
    others: Sequence[Contestant] = ()

    def __init__(self, effort: Effort) -> None:
        super().__init__(effort)
        self.blocks: dict[str, dict[str, list[float]]] = {}
        """For each peer, and "" for none: the samples of all that were measured in turns."""

    @property
    def rounds(self) -> int:
        return self.effort.slow_rounds if self.slow else self.effort.rounds

    def measure(self) -> None:
        self.blocks[""] = sampled([self.floor, self.warmd, *self.others], self.rounds)

    def beside(self, peer: Peer) -> None:
        contestant = self.of_peer(peer)
        if contestant is not None:
            rounds = max(2, self.rounds // 3)
            self.blocks[peer.name] = sampled([self.floor, self.warmd, contestant], rounds)

    def of_peer(self, peer: Peer) -> Contestant | None:  # noqa: ARG002
        """The peer as a contestant; None, with the reason in `missing`, for one that cannot be."""
        return None

    def warmd_to(self, name: str) -> float | None:
        """warmd by `name`, in the rounds that they have in common; None where there were none."""
        block = self.blocks.get(name) or self.blocks.get("", {})
        return paired_ratio(block[self.warmd.name], block[name]) if name in block else None

    def to_floor(self, name: str) -> float | None:
        block = self.blocks.get(name) or self.blocks.get("", {})
        return paired_ratio(block[name], block[self.floor.name]) if name in block else None

    def lines(self) -> list[Line]:
        names = [*self.blocks.get("", ()), *filter(None, self.blocks)]
        return [self._line(name) for name in names]

    def _line(self, name: str) -> Line:
        block = self.blocks.get(name) or self.blocks[""]
        value = statistics.median(block[name]) * self.scale
        return Line(name, value, self.to_floor(name), self.warmd_to(name))

    @abstractmethod
    def targets(self) -> list[Target]: ...

    def reports(self) -> list[Report]:
        return [Report(self.key, self.title, self.unit, self.lines(), self.targets(), self.missing)]


def sampled(contestants: Sequence[Contestant], rounds: int) -> dict[str, list[float]]:
    """The figures of `rounds` rounds, after one that only warms up."""
    for contestant in contestants:
        contestant.sample()
    found: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(rounds):
        for contestant in contestants:
            found[contestant.name].append(contestant.sample())
    return found
