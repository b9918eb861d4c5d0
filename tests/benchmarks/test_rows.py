"""Contests: everybody has their turn in each round, and who is compared with whom."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.bounds import within
from benchmarks.compare import ROWS, noted
from benchmarks.figures import Target
from benchmarks.peers import Peer, Unavailable
from benchmarks.report import BEGIN, END, Outcome
from benchmarks.rows import FULL, SMOKE, Contest, Contestant, sampled
from benchmarks.rows.calls import WarmCall
from benchmarks.run import DOCUMENT


def steady(name: str, turns: list[str], figures: Callable[[int], float]) -> Contestant:
    def sample() -> float:
        turns.append(name)
        return figures(turns.count(name))

    return Contestant(name, sample)


ALONE = SMOKE.rounds + 1


class Slow(Peer):
    name = "slow"
    kind = "actor"

    def open(self) -> None: ...

    def call(self, by: int) -> int:
        return by

    def close(self) -> None: ...


class Race(Contest):
    key = "race"
    title = "A race"
    unit = "ms"
    scale = 1e3

    def open(self, stack: contextlib.ExitStack) -> None:  # noqa: ARG002
        self.turns: list[str] = []
        self.floor = steady("floor", self.turns, lambda turn: 1.0 * turn)
        # Twice the floor at first, and then, with a peer beside it, thrice.
        self.warmd = steady("warmd", self.turns, lambda turn: turn * (2.0 if turn <= ALONE else 3.0))

    def of_peer(self, peer: Peer) -> Contestant:
        # Since the peer has come later, in the same rounds the others are slower than at first.
        return steady(peer.name, self.turns, lambda turn: 10.0 * (turn + ALONE))

    def targets(self) -> list[Target]:
        return [Target("warmd / floor", self.to_floor("warmd"), 2.0)]


@pytest.fixture
def race() -> Race:
    race = Race(SMOKE)
    race.open(contextlib.ExitStack())
    race.measure()
    return race


def test_all_have_their_turn_in_each_round_and_the_first_does_not_count() -> None:
    turns: list[str] = []
    two = [steady(name, turns, float) for name in ("a", "b")]
    assert sampled(two, 2) == {"a": [2.0, 3.0], "b": [2.0, 3.0]}
    assert turns == ["a", "b"] * 3


def test_a_peer_is_compared_in_the_rounds_that_it_was_in(race: Race) -> None:
    race.beside(Slow())
    assert race.warmd_to("slow") == pytest.approx(0.3)
    assert race.to_floor("slow") == pytest.approx(10.0)


def test_ratios_of_warmd_are_those_without_a_peer(race: Race) -> None:
    race.beside(Slow())
    (report,) = race.reports()
    assert [(line.name, line.to_floor) for line in report.lines] == [
        ("floor", 1.0), ("warmd", 2.0), ("slow", 10.0)
    ]  # fmt: skip
    assert report.targets[0].value == 2.0
    assert report.targets[0].met


def test_what_was_never_measured_has_no_ratio(race: Race) -> None:
    assert race.warmd_to("fast") is None
    assert race.to_floor("fast") is None


def measured_against(ratios: dict[str, float]) -> WarmCall:
    row = WarmCall(FULL)
    row.floor, row.warmd = Contestant("floor", float), Contestant("warmd", float)
    row.rivals = list(ratios)
    row.blocks[""] = {"floor": [1.0], "warmd": [1.2]}
    for name, ratio in ratios.items():
        row.blocks[name] = {"floor": [1.0], "warmd": [1.0], name: [1.0 / ratio]}
    return row


def test_the_verdict_is_by_the_fastest_rival() -> None:
    against_floor, against_rivals = measured_against({"loky": 0.5, "Ray actor": 1.25, "Dask": 0.1}).targets()
    assert against_floor.met
    assert against_rivals.verdict == "MISSED"
    assert "Ray actor" in against_rivals.text


def test_without_rivals_nobody_was_beaten() -> None:
    assert measured_against({}).targets()[1].verdict == "not measured"


def test_what_goes_wrong_is_noted_and_the_rest_goes_on() -> None:
    outcome = Outcome({})
    with noted(outcome, "ray"):
        raise Unavailable("no network")
    with noted(outcome, "polars"):
        raise ImportError(name="polars")
    with noted(outcome, "dask"):
        raise TimeoutError("late")
    assert outcome.missing["ray"] == "no network"
    assert outcome.missing["polars"].startswith("polars is not installed")
    assert outcome.failed == {"dask": "TimeoutError: late"}


def test_a_bound_interrupts_what_has_none() -> None:
    def forever() -> Any:
        while True:
            pass

    with pytest.raises(TimeoutError, match="the endless one"), within(0.05, "the endless one"):
        forever()


def test_every_row_has_a_key_of_its_own_and_the_document_a_place_for_them() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
    text = DOCUMENT.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
