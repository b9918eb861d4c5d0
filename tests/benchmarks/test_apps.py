"""The apps' benchmark, on the smallest app."""

from __future__ import annotations

import pytest

import warmd
from benchmarks import apps

COUNTER = apps.Job(
    "counter", "a count", ("warmd.apps.counter", "Counter"), [("run", {}), ("incr", {"by": 2})], ("get", {})
)


def test_it_measures_a_script_a_new_session_and_a_warm_call() -> None:
    with warmd.local() as client:
        found = apps.measured(client, COUNTER, rounds=1, calls=3)
        assert client.sessions.list() == []
    assert found.script > found.new_session > found.warm_call > 0
    assert found.times_sooner == pytest.approx(found.script / found.warm_call)


def test_a_job_that_fails_as_a_script_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"the script of counter failed(?s:.*)no_such_function"):
        apps._script(apps.Job("counter", "", COUNTER.target, [("no_such_function", {})], ("get", {})))


def test_the_table() -> None:
    one = apps.Figures("browser", "a click", 2.0, 0.5, 0.04)
    assert apps.rows([one]) == [["browser", "a click", "2.0 s", "500 ms", "40 ms", "50 ×"]]
    assert apps.as_markdown([one]).splitlines()[-1] == "| browser | a click | 2.0 s | 500 ms | 40 ms | 50 × |"


def test_the_readme_has_a_place_for_it() -> None:
    text = apps.README.read_text()
    assert text.count(apps.BEGIN) == text.count(apps.END) == 1
