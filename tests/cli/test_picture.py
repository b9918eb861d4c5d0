"""Tables and bars of cold and warm calls."""

from __future__ import annotations

import doctest

import pytest

from warmd.cli import picture
from warmd.cli.picture import Turn, as_objects, bars, turn_table, verdict

COLD = Turn("question 1 (cold)", start=0.5, imports=0.5, setup=1.0, first=2.0, total=9.0, parts=51)
WARM = Turn("question 2 (warm)", start=0, imports=0, setup=0, first=0.4, total=2.4, parts=21)


def test_the_wait_is_all_that_passes_until_the_first_token() -> None:
    assert COLD.until_first == 4.0
    assert COLD.parts_per_second == 10.0
    assert WARM.parts_per_second == pytest.approx(10)
    assert Turn("one", 0, 0, 0, 1, 1, 1).parts_per_second is None


def test_bars_are_in_proportion_and_their_phases_are_marked() -> None:
    cold, warm, legend = bars([COLD, WARM], 69, "token").splitlines()
    assert cold == "question 1 (cold)  " + "░" * 5 + "▒" * 5 + "▓" * 10 + "█" * 20 + " 4.00 s"
    assert warm == "question 2 (warm)  " + "█" * 4 + " 0.40 s"
    assert legend.split() == [
        "░",
        "start",
        "a",
        "process",
        "▒",
        "imports",
        "▓",
        "setup",
        "█",
        "first",
        "token",
    ]


def test_bars_fit_the_width_and_are_never_empty() -> None:
    tiny = Turn("warm", 0, 0, 0, 0.0001, 0.0001, 1)
    lines = bars([COLD, tiny], 80, "token").splitlines()
    assert max(map(len, lines)) <= 80
    assert "█ 0.10 ms" in lines[1]
    assert bars([COLD], 5, "token")  # a terminal narrower than the labels


def test_plain_bars_are_ascii() -> None:
    assert bars([COLD, WARM], 60, "token", plain=True).isascii()


def test_the_table_shows_tokens_only_for_streams() -> None:
    assert turn_table([COLD, WARM], "token").splitlines()[0].split("  ")[-1].strip() == "tokens/s"
    single = Turn("call 1", 0.1, 0.1, 0.1, 0.1, 0.4, 1)
    assert "s/s" not in turn_table([single], "answer")


def test_the_verdict() -> None:
    assert verdict([COLD, WARM, WARM]) == "Cold 4.00 s, warm 0.40 s: 10 times sooner."
    assert verdict([COLD]) == "The first answer took 4.00 s."


def test_times_are_said_in_three_digits() -> None:
    assert doctest.testmod(picture).failed == 0
    assert picture.sooner(1.0, 0.25) == "Cold 1.00 s, warm 0.25 s: 4.0 times sooner."
    assert picture.times_sooner(1.0, 0.0) == float("inf")


def test_objects_for_programs() -> None:
    assert as_objects([WARM])[0] == {
        "label": "question 2 (warm)", "start": 0, "imports": 0, "setup": 0,
        "first": 0.4, "total": 2.4, "parts": 21, "until_first": 0.4,
    }  # fmt: skip
