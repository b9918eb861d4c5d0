"""Times as HTTP's clients read them."""

from __future__ import annotations

import datetime

import pytest

from warmd.http.moments import moment, now


@pytest.mark.parametrize("seconds", [0.0, 1_700_000_000.0, 1_700_000_000.999])
def test_a_moment_is_read_back_to_the_millisecond(seconds: float) -> None:
    text = moment(seconds)
    assert text is not None and text.endswith("Z")
    assert datetime.datetime.fromisoformat(text).timestamp() == pytest.approx(seconds, abs=0.0011)


def test_now_is_now() -> None:
    text = moment(now())
    assert text is not None
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(text)
    assert abs(age.total_seconds()) < 60.0


def test_none_is_none() -> None:
    assert moment(None) is None
