"""The counter as a plain object; what sessions make of it is tested end to end."""

from __future__ import annotations

import os

import pytest

from warmd.apps.counter import Counter


@pytest.fixture
def counter() -> Counter:
    counter = Counter()
    counter.setup()
    return counter


def test_it_counts_and_remembers(counter):
    assert counter.run({"anything": 1}) == {"n": 1, "pid": os.getpid()}
    assert counter.run(None)["n"] == 2
    assert counter.incr() == {"n": 3}
    assert counter.incr(by=-5) == {"n": -2}
    assert counter.get() == {"n": -2}


def test_setup_gives_the_start(counter):
    counter.setup({"start": 40})
    assert counter.incr(by=2) == {"n": 42}


def test_it_streams(counter):
    assert list(counter.count_up({"n": 3})) == [{"i": 0}, {"i": 1}, {"i": 2}]


def test_it_raises(counter):
    with pytest.raises(ValueError, match="no such luck"):
        counter.boom("no such luck")
    assert counter.get() == {"n": 0}
