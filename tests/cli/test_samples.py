"""The figures of a bench, from samples that are known."""

from __future__ import annotations

import doctest
import json

import pytest

from warmd.cli import machine, samples
from warmd.cli.samples import Crowd, Measured, Sample, as_object, percentile, percentiles

COLD = Sample(queue=0.1, spawn=0.2, imports=0.3, setup=0.4, first=1.0, total=5.0, parts=4)
STREAM = Sample(first=0.5, total=1.5, parts=11)
ANSWER = Sample(first=0.25, total=0.25, parts=1)


def test_percentiles_are_values_that_were_measured() -> None:
    assert doctest.testmod(samples).failed == 0
    values = [float(number) for number in range(200, 0, -1)]
    assert percentiles(values) == {"p50": 100, "p90": 180, "p99": 198, "max": 200}
    assert percentile([7.0], 1) == percentile([7.0], 100) == 7.0


def test_the_wait_is_all_phases_together() -> None:
    assert COLD.until_first == pytest.approx(2.0)
    turn = COLD.turn("cold 1")
    assert (turn.label, turn.start, turn.until_first) == ("cold 1", pytest.approx(0.3), pytest.approx(2.0))


def test_parts_per_second_are_those_after_the_first() -> None:
    assert STREAM.parts_per_second == pytest.approx(10)
    assert ANSWER.parts_per_second is None
    assert Measured([COLD], [STREAM, ANSWER, ANSWER]).parts_per_second == pytest.approx(10)
    assert Measured([ANSWER], [ANSWER]).parts_per_second is None


def test_a_function_streams_when_a_call_had_parts() -> None:
    assert Measured([ANSWER], [STREAM]).streams
    assert not Measured([ANSWER], [ANSWER]).streams


def test_what_is_typical_is_the_median() -> None:
    slow = Sample(first=100.0, total=100.0, parts=1)
    measured = Measured([COLD, COLD, slow], [ANSWER, ANSWER, slow])
    assert measured.typical_cold == pytest.approx(2.0)
    assert measured.typical_warm == 0.25
    assert Measured([COLD], [STREAM, ANSWER]).typical_warm == 0.25 == percentile([0.5, 0.25], 50)
    assert Measured([COLD], [ANSWER, STREAM]).warm_calls_per_second == pytest.approx(2 / 1.75)


def test_the_object_for_programs() -> None:
    found = json.loads(json.dumps(as_object(Measured([COLD], [ANSWER, STREAM], Crowd(8, 200, 0.5)))))
    assert found["cold"]["median"]["until_first"] == pytest.approx(2.0)
    assert found["cold"]["samples"][0]["setup"] == 0.4
    assert found["warm"]["samples"] == [
        {"first": 0.25, "total": 0.25, "parts": 1}, {"first": 0.5, "total": 1.5, "parts": 11},
    ]  # fmt: skip
    assert found["warm"]["total"]["max"] == 1.5
    assert found["concurrent"] == {"under_way": 8, "calls": 200, "seconds": 0.5, "calls_per_second": 400}
    assert found["times_sooner"] == pytest.approx(2.0 / 0.25)
    assert as_object(Measured([COLD], [ANSWER]))["concurrent"] is None


def test_the_facts_of_a_machine() -> None:
    facts = machine.machine_facts()
    assert facts["cores"] >= 1
    assert facts["memory_gib"] > 0
    assert facts["python"].startswith("3.")
    assert facts["packages"]["pyzmq"]
    assert json.dumps(facts)
