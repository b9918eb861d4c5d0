"""What `warmd bench` prints for people: tables, bars and a histogram, as pure text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from warmd.cli import picture
from warmd.cli.picture import Turn, seconds
from warmd.cli.samples import PHASES, Measured, Sample, percentile, percentiles
from warmd.cli.talk import table

MOST_BARS = 8
HISTOGRAM_ROWS = 8
STEPS = (1, 2, 5, 10)
COUNT_WIDTH = 8


def page(measured: Measured, width: int, *, plain: bool = False) -> str:
    """All of it, in at most `width` columns where the tables allow.  `plain` draws in ASCII."""
    unit = unit_of(measured)
    warm = [sample.first for sample in measured.warm]
    return "\n".join(
        [
            f"{cold_table(measured)}\n",
            f"{warm_table(measured)}\n",
            f"until the first {unit}:",
            f"{picture.bars(turns(measured), width, unit, plain=plain)}\n",
            f"warm calls, until the first {unit}:",
            f"{histogram(warm, width, plain=plain)}\n",
            picture.sooner(measured.typical_cold, measured.typical_warm),
        ]
    )


def unit_of(measured: Measured) -> str:
    """What the caller waits for the first of."""
    return "part" if measured.streams else "answer"


def cold_table(measured: Measured) -> str:
    """The phases of a start: median, least and most."""
    names = [*PHASES[:-1], f"first {unit_of(measured)}", "until then, in all"]
    rows = []
    for name, field in zip(names, (*PHASES, "until_first"), strict=True):
        values = [getattr(sample, field) for sample in measured.cold]
        rows.append([name, *map(seconds, (statistics.median_low(values), min(values), max(values)))])
    return table([_counted(measured.cold, "cold session"), "median", "least", "most"], rows)


def warm_table(measured: Measured) -> str:
    """Percentiles of warm calls, and how many a second."""
    heads = [_counted(measured.warm, "warm call"), *percentiles([0.0])]
    whole = [sample.total for sample in measured.warm]
    rows = [["whole call", *map(seconds, percentiles(whole).values())]]
    if measured.streams:
        first = [sample.first for sample in measured.warm]
        rows.insert(0, ["first part", *map(seconds, percentiles(first).values())])
    return "\n".join([table(heads, rows), *_rates(measured)])


def _counted(samples: Sequence[Sample], what: str) -> str:
    return f"{len(samples)} {what}{'' if len(samples) == 1 else 's'}"


def _rates(measured: Measured) -> list[str]:
    lines = [f"{_rate(measured.warm_calls_per_second)} calls/s, one after another"]
    if measured.crowd is not None:
        crowd = measured.crowd
        whole = " and the parts not sent" if measured.streams else ""
        lines.append(f"{_rate(crowd.calls_per_second)} calls/s, with {crowd.under_way} under way{whole}")
    if measured.parts_per_second is not None:
        lines.append(f"{_rate(measured.parts_per_second)} parts/s within a call, after the first")
    return lines


def _rate(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def turns(measured: Measured) -> list[Turn]:
    """What the bars show: the cold calls, or three of them when there are many, and a typical warm one."""
    if len(measured.cold) <= MOST_BARS:
        shown = [(f"cold {number}", sample) for number, sample in enumerate(measured.cold, 1)]
    else:
        ranked = sorted(measured.cold, key=lambda sample: sample.until_first)
        shown = [
            ("cold, fastest", ranked[0]),
            ("cold, median", ranked[(len(ranked) - 1) // 2]),
            ("cold, slowest", ranked[-1]),
        ]
    warm = Sample(first=measured.typical_warm, total=measured.typical_warm, parts=1)
    return [sample.turn(label) for label, sample in [*shown, ("warm, median", warm)]]


class Bin(NamedTuple):
    """How many calls took at least `low` seconds and less than `high`; None for all from `low` on."""

    low: float
    high: float | None
    calls: int


def bins(values: Sequence[float], most: int = HISTOGRAM_ROWS) -> list[Bin]:
    """Bins of one round width up to the 99th percentile, and one for what lies beyond.

    >>> bins([1, 2, 2, 3], most=2)
    [Bin(low=1.0, high=2.0, calls=1), Bin(low=2.0, high=3.0, calls=2), Bin(low=3.0, high=4.0, calls=1)]
    """
    low, high = min(values), percentile(values, 99)
    step = _round_step((high - low) / most or low or 1.0)
    # By whole numbers of steps: sums of a step drift, and a value at an edge would be in two bins or none.
    places = [_steps(value, step) for value in values]
    start, end = min(places), _steps(high, step) + 1
    found = [Bin(at * step, (at + 1) * step, places.count(at)) for at in range(start, end)]
    beyond = sum(place >= end for place in places)
    return [*found, Bin(end * step, None, beyond)] if beyond else found


def _steps(value: float, step: float) -> int:
    """How many whole steps; 0.3 holds three of 0.1, whatever the last bit says."""
    return math.floor(value / step + 1e-9)


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in STEPS if power * step >= least * (1 - 1e-9))


def histogram(values: Sequence[float], width: int, *, plain: bool = False) -> str:
    """A bar a bin, as long as its count; at most `width` columns."""
    found = bins(values)
    in_seconds = max(bin.high or bin.low for bin in found) >= 1
    labels = [_label(bin, in_seconds) for bin in found]
    margin = max(map(len, labels)) + 2
    room = max(picture.MIN_BAR_WIDTH, width - margin - COUNT_WIDTH)
    scale = room / max(bin.calls for bin in found)
    mark = (picture.PLAIN_MARKS if plain else picture.MARKS)["first"]
    return "\n".join(
        f"{label:>{margin - 2}}  {mark * math.ceil(bin.calls * scale)} {bin.calls}"
        for label, bin in zip(labels, found, strict=True)
    )


def _label(bin: Bin, in_seconds: bool) -> str:
    """The bounds, with the digits that the width of a bin needs."""
    if bin.high is None:
        return f"from {seconds(bin.low)} on"
    scale, unit = (1, "s") if in_seconds else (1000, "ms")
    digits = max(0, -math.floor(math.log10((bin.high - bin.low) * scale) + 1e-9))
    return f"{bin.low * scale:.{digits}f} - {bin.high * scale:.{digits}f} {unit}"
