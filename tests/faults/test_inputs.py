# ruff: noqa: ARG002  (what a function takes is the point)
"""What calls bring: whatever does not fit is told before the function is entered, and does no harm."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.watch import error_of, zoo
from warmd.owndaemon import LocalClient

MAX_TEXT_BYTES = 64 * 1024


class Takes:
    """Sent by value: each function counts that it was entered."""

    def __init__(self) -> None:
        self.entered = 0

    def setup(self, size: int, model: str) -> None: ...

    def count(self) -> int:
        return self.entered

    def two(self, x: Any, y: Any) -> None:
        self.entered += 1

    def some(self, x: Any = 1, *, y: Any = 2) -> None:
        self.entered += 1

    def nothing(self) -> None:
        self.entered += 1


SETUP = {"size": 1, "model": "m"}
MISFITS: list[tuple[str, Any, str]] = [
    ("two", None, "two() is missing 'x', 'y'"),
    ("two", {"x": 1}, "two() is missing 'y'"),
    ("two", {"x": 1, "y": 2, "z": 3}, "two() takes no 'z': there is x, y"),
    ("two", [1, 2], "two() takes the parameters x, y: its input must be a dict of them, got list [1, 2]"),
    ("some", {"yy": 1}, "some() takes no 'yy': did you mean 'y'?"),
    ("some", {3: 1}, "some() takes no 3: there is x, y"),
    ("nothing", {"a": 1}, "nothing() takes no input, got a dict with the keys ['a']"),
    ("nothing", "text", "nothing() takes no input, got str 'text'"),
]


def test_what_does_not_fit_is_refused_before_the_function_is_entered(client: LocalClient) -> None:
    with client.session(Takes, setup=SETUP) as session:
        for function, value, text in MISFITS:
            error = error_of(lambda function=function, value=value: session.call(function, value))
            assert (error.code, error.ran, str(error)) == ("INVALID", "no", text)
            stream = error_of(lambda function=function, value=value: list(session.stream(function, value)))
            assert (stream.code, stream.ran, str(stream)) == ("INVALID", "no", text)
        assert session.call("count").output == 0
        session.call("two", {"x": 1, "y": 2})
        assert session.call("count").output == 1


def test_the_refusal_of_a_huge_input_is_short(client: LocalClient) -> None:
    with client.session(Takes, setup=SETUP) as session:
        for value in ({"k" * 100_000: 1}, {str(number): 1 for number in range(50_000)}, "x" * 10_000_000):
            error = error_of(lambda value=value: session.call("two", value))
            assert (error.code, len(str(error).encode()) < MAX_TEXT_BYTES) == ("INVALID", True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "setup() is missing 'size', 'model'"),
        ({"setup": {"size": 1, "modle": "m"}}, "setup() takes no 'modle': did you mean 'model'?"),
    ],
)
def test_a_setup_value_that_does_not_fit_is_a_failed_start(
    client: LocalClient, options: Any, text: str
) -> None:
    error = error_of(lambda: client.session(Takes, **options).call("count"))
    assert (error.code, error.ran, text in str(error)) == ("START_FAILED", "no", True)


def test_an_input_that_is_refused_goes_by_the_pool_too(client: LocalClient) -> None:
    error = error_of(lambda: client.run(app=zoo("Good"), function="add", input={"a": 1, "bb": 2}))
    assert (error.code, error.ran) == ("INVALID", "no")
    assert str(error) == "add() takes no 'bb': did you mean 'b'?; it is missing 'b'"
