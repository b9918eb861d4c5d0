"""What is computed of measured times: a wrong ratio or verdict would be believed."""

from __future__ import annotations

import pytest

from benchmarks.figures import Target, call_times, paired_ratio, pipelined, rate


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    # A disturbed round changes both of its figures, and the ratio of the medians would be 2.5.
    assert paired_ratio([2.0, 20.0, 5.0], [1.0, 10.0, 2.0]) == 2.0


def test_rounds_must_be_whole() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio([1.0, 2.0], [1.0])


def test_a_slice_ends_when_its_time_is_over_but_not_without_a_call() -> None:
    assert len(call_times(lambda: None, 7)) == 7
    assert len(call_times(lambda: None, 7, seconds=0.0)) == 1


def test_a_rate_counts_what_was_asked_for() -> None:
    asked: list[int] = []
    assert rate(asked.append, 1000) > 0
    assert asked == [1000]


class Pending:
    open = 0
    most = 0

    def __init__(self) -> None:
        Pending.open += 1
        Pending.most = max(Pending.most, Pending.open)

    def result(self) -> None:
        Pending.open -= 1


def test_a_pipeline_is_full_and_waits_for_every_call() -> None:
    pipelined(Pending, 200)
    assert (Pending.open, Pending.most) == (0, 64)


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [
        (1.3, True, "met"),
        (1.31, True, "MISSED"),
        (1.3, False, "met"),
        (1.29, False, "MISSED"),
        (None, True, "not measured"),
        (None, False, "not measured"),
    ],
)
def test_verdicts(value: float | None, at_most: bool, verdict: str) -> None:
    target = Target("warm call", value, 1.3, at_most)
    assert target.verdict == verdict
    assert target.met == (verdict == "met")
