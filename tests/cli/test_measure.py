"""How a bench counts and times its calls, by a clock and a client that tell."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from warmd.cli import measure


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(measure, "time", SimpleNamespace(monotonic=lambda: self.now))

    def parts(self, *waits: float) -> Iterator[str]:
        """Parts, each after a while, and then the end after the last."""
        for wait in waits[:-1]:
            self.now += wait
            yield "part"
        self.now += waits[-1]


def test_the_first_part_is_told_from_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    sample: Any = measure._watched(99.0, clock.parts(2.0, 3.0, 4.0))
    assert (sample.first, sample.total, sample.parts) == (3.0, 10.0, 2)


def test_a_generator_that_yields_nothing_answers_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    sample: Any = measure._watched(99.0, clock.parts(2.0))
    assert (sample.first, sample.total, sample.parts) == (3.0, 3.0, 0)


@pytest.mark.parametrize(("calls", "under_way", "most"), [(20, 4, 4), (3, 8, 3)])
def test_so_many_calls_are_under_way_and_no_more(calls: int, under_way: int, most: int) -> None:
    live, seen = set(), []

    def submit(_options: dict[str, Any]) -> Any:
        number = len(seen)
        live.add(number)
        seen.append(len(live))
        return SimpleNamespace(result=lambda: live.remove(number))

    client: Any = SimpleNamespace(submit=submit)
    crowd = measure._crowd(client, {}, calls, under_way, lambda *_: None)
    assert (len(seen), max(seen), live) == (calls, most, set())
    assert (crowd.calls, crowd.under_way) == (calls, under_way)
