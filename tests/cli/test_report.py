"""What `warmd bench` prints, from samples that are known."""

from __future__ import annotations

import doctest
import itertools
import random

from warmd.cli import report
from warmd.cli.report import bins, cold_table, histogram, page, turns, warm_table
from warmd.cli.samples import Crowd, Measured, Sample


def cold(seconds: float) -> Sample:
    return Sample(
        queue=0.01 * seconds, spawn=0.19 * seconds, imports=0.2 * seconds, setup=0.5 * seconds,
        first=0.1 * seconds, total=seconds, parts=1,
    )  # fmt: skip


def warm(seconds: float, parts: int = 1) -> Sample:
    return Sample(first=seconds, total=seconds * parts, parts=parts)


MEASURED = Measured([cold(2), cold(1), cold(9)], [warm(0.002), warm(0.001), warm(0.001), warm(0.004)])


def test_the_phases_of_a_start() -> None:
    lines = [line.split("  ") for line in cold_table(MEASURED).splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert rows[0] == ["3 cold sessions", "median", "least", "most"]
    assert rows[1] == ["queue", "20.0 ms", "10.0 ms", "90.0 ms"]
    assert rows[4] == ["setup", "1.00 s", "0.50 s", "4.50 s"]
    assert rows[5] == ["first answer", "0.20 s", "0.10 s", "0.90 s"]
    assert rows[6] == ["until then, in all", "2.00 s", "1.00 s", "9.00 s"]
    assert cold_table(Measured([cold(1)], [warm(1)])).startswith("1 cold session ")


def test_warm_calls() -> None:
    heads, row, rate = warm_table(MEASURED).splitlines()
    assert heads.split() == ["4", "warm", "calls", "p50", "p90", "p99", "max"]
    assert row.split() == ["whole", "call", "1.00", "ms", "4.00", "ms", "4.00", "ms", "4.00", "ms"]
    assert rate == "500 calls/s, one after another"


def test_streams_have_a_first_part_and_a_rate() -> None:
    text = warm_table(Measured([cold(1)], [warm(0.5, parts=5)], Crowd(16, 100, 0.05)))
    _, first, whole, *rates = text.splitlines()
    assert first.split()[:4] == ["first", "part", "0.50", "s"]
    assert whole.split()[:4] == ["whole", "call", "2.50", "s"]
    assert rates == [
        "0.40 calls/s, one after another",
        "2,000 calls/s, with 16 under way and the parts not sent",
        "2.00 parts/s within a call, after the first",
    ]


def test_many_cold_sessions_are_drawn_as_three() -> None:
    assert [turn.label for turn in turns(MEASURED)] == ["cold 1", "cold 2", "cold 3", "warm, median"]
    many = Measured([cold(number) for number in range(1, 12)], [warm(1)])
    drawn = {turn.label: turn.until_first for turn in turns(many)}
    assert {label: round(seconds) for label, seconds in drawn.items()} == {
        "cold, fastest": 1, "cold, median": 6, "cold, slowest": 11, "warm, median": 1,
    }  # fmt: skip


def test_bins_hold_each_call_once() -> None:
    assert doctest.testmod(report).failed == 0
    dice = random.Random(1)
    for _ in range(200):
        scale = 10 ** dice.uniform(-6, 3)
        values = [dice.choice([dice.gammavariate(2, 1), dice.randrange(1, 20) / 10]) * scale
                  for _ in range(dice.choice([1, 2, 300]))]  # fmt: skip
        found = bins(values)
        assert sum(bin.calls for bin in found) == len(values)
        assert 1 <= len(found) <= report.HISTOGRAM_ROWS + 2
        assert all(one.high == other.low for one, other in itertools.pairwise(found))
        assert found[0].low <= min(values) * (1 + 1e-6)
        for bin in found:
            if bin.high is None:
                assert bin.calls <= 0.01 * len(values)


def test_the_histogram() -> None:
    values = [0.0011] * 10 + [0.0021] * 5
    first = histogram(values, 40, plain=True).splitlines()[0]
    assert first.split() == ["1.0", "-", "1.2", "ms", "#" * 18, "10"]
    lines = histogram([*values * 10, 3.0], 40).splitlines()
    assert lines[-1].split() == ["from", "2.20", "ms", "on", "█", "1"]
    assert max(map(len, lines)) <= 40
    assert [line.split("  ")[0] for line in histogram([0.3, 0.7, 1.1], 40).splitlines()][::8] == [
        "0.3 - 0.4 s", "1.1 - 1.2 s",
    ]  # fmt: skip
    assert histogram([2.5], 40, plain=True).split()[:4] == ["0", "-", "5", "s"]


def test_the_page_fits_and_ends_with_the_verdict() -> None:
    lines = page(MEASURED, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "Cold 2.00 s, warm 1.00 ms: 2,000 times sooner."
    assert "until the first answer:" in lines
    assert page(MEASURED, 80, plain=True).isascii()
    assert "until the first part:" in page(Measured([cold(1)], [warm(1, parts=3)]), 80)
