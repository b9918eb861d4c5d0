"""The table says what was measured, what was missed, and what is not there; the document keeps its text."""

from __future__ import annotations

import json

import pytest

from benchmarks.figures import Target
from benchmarks.report import BEGIN, END, Outcome, as_markdown, number, replaced
from benchmarks.rows import Line, Report

FACTS = {
    "cores": 2, "cpu": "A CPU", "memory_gib": 8.0, "kernel": "6.1", "python": "3.11.7", "commit": "abc",
    "time": "2025-01-01T00:00:00+0000", "load_average": [0.5, 0.4, 0.3], "packages": {"pyzmq": "27.0"},
}  # fmt: skip


def outcome() -> Outcome:
    report = Report(
        "warm-call",
        "Warm call",
        "us",
        [Line("floor", 317.0, 1.0, 1.41), Line("warmd", 448.0, 1.41, 1.0), Line("alone", 12.0)],
        [
            Target("p50 / floor", 1.41, 1.3),
            Target("start", 9.0, 15.0, unit="ms"),
            Target("gain", None, 5.0, at_most=False),
        ],
        {"Pyro5": "one at a time"},
    )
    return Outcome(FACTS, [report], {"ray_actor": "no network"}, {"dask_actor": "TimeoutError: late"})


def test_the_table_tells_all_targets_with_their_verdicts() -> None:
    table = as_markdown(outcome()).splitlines()
    assert "| p50 / floor | at most 1.3 | 1.41 | MISSED |" in table
    assert "| start | at most 15 ms | 9.00 ms | met |" in table
    assert "| gain | at least 5 |  | not measured |" in table


def test_the_table_tells_all_figures_and_what_is_missing() -> None:
    table = as_markdown(outcome(), {"warm-call": "plots/warm-call.svg"}).splitlines()
    assert "| warmd | 448 | 1.41 | 1.00 |" in table
    assert "| alone | 12.0 |  |  |" in table
    assert "![Warm call](plots/warm-call.svg)" in table
    assert "Not measured: Pyro5 (one at a time)." in table
    assert "Not there: ray_actor (no network)." in table
    assert "Failed: dask_actor (TimeoutError: late)." in table


def test_json_has_the_machine_and_the_verdicts() -> None:
    told = json.loads(json.dumps(outcome().as_json()))
    assert told["machine"]["cpu"] == "A CPU"
    assert [target["verdict"] for target in told["rows"][0]["targets"]] == ["MISSED", "met", "not measured"]
    assert told["rows"][0]["lines"][1] == {
        "name": "warmd", "value": 448.0, "to_floor": 1.41, "warmd_to_it": 1.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12346"), (99.94, "99.9"), (1.405, "1.41"), (0.0392, "0.039"), (0.0, "0")]
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_only_what_is_between_the_markers_is_replaced() -> None:
    document = f"# Title\n\n{BEGIN}\n\nold\n\n{END}\n\nrest\n"
    once = replaced(document, "new")
    assert once == f"# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nrest\n"
    assert replaced(once, "new") == once


@pytest.mark.parametrize(
    "document", ["no markers", f"{BEGIN} only", f"{END} before {BEGIN}", f"{BEGIN}{BEGIN}{END}"]
)
def test_a_document_without_its_markers_is_left_alone(document: str) -> None:
    with pytest.raises(ValueError, match="the document has"):
        replaced(document, "new")
