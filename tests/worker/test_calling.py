from __future__ import annotations

from typing import Any

import pytest

from warmd.daemon.worker.calling import plan_for, plan_for_setup, takes_argument
from warmd.daemon.worker.unfit import Unfit


class Functions:
    def nothing(self) -> Any:
        return ()

    def named(self, input: Any, other: Any) -> Any:
        return (input, other)

    def named_default(self, input: Any = 1) -> Any:
        return input

    def one(self, x: Any) -> Any:
        return x

    def one_and_options(self, x: Any, y: Any = 2, *_: Any, z: Any = 3, **__: Any) -> Any:
        return (x, y, z)

    def only_positional(self, x: Any, /) -> Any:
        return x

    def options(self, x: Any = 1, y: Any = 2) -> Any:
        return (x, y)

    def two(self, x: Any, y: Any) -> Any:
        return (x, y)

    def needs_keyword(self, x: Any, *, y: Any) -> Any:
        return (x, y)

    def many(self, first: Any, second: Any) -> Any:
        return (first, second)

    def by_place(self, x: Any, y: Any, /, z: Any = 3) -> Any:
        return (x, y, z)

    def keyword(self, *, x: Any) -> Any:
        return x

    def anything(self, **all: Any) -> Any:
        return all


def run(name: str, value: Any) -> Any:
    plan = plan_for(getattr(Functions(), name), name)
    args, kwargs = plan.arguments(value)
    return plan.function(*args, **kwargs)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("nothing", None, ()),
        ("nothing", {}, ()),
        ("named_default", None, None),
        ("named_default", {"a": 1}, {"a": 1}),
        ("one", [1], [1]),
        ("one", {"x": 1}, 1),
        ("one", {"y": 1}, {"y": 1}),
        ("one", {"x": 1, "y": 1}, {"x": 1, "y": 1}),
        ("one", {}, {}),
        ("one", None, None),
        ("one_and_options", {"x": 1}, (1, 2, 3)),
        ("one_and_options", {"x": 1, "z": 5}, (1, 2, 5)),
        ("one_and_options", {"z": 5}, ({"z": 5}, 2, 3)),
        ("only_positional", {"x": 1}, {"x": 1}),
        ("options", None, (1, 2)),
        ("options", {"y": 5}, (1, 5)),
        ("two", {"y": 5, "x": 4}, (4, 5)),
        ("needs_keyword", {"x": 1, "y": 2}, (1, 2)),
        ("keyword", {"x": 1}, 1),
        ("anything", {"a": 1}, {"a": 1}),
        ("anything", None, {}),
        ("by_place", {"y": 2, "x": 1}, (1, 2, 3)),
        ("by_place", {"y": 2, "x": 1, "z": 4}, (1, 2, 4)),
    ],
)
def test_input_becomes_arguments(name: str, value: Any, expected: Any) -> None:
    assert run(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("nothing", {"a": 1}, r"nothing\(\) takes no input, got a dict with the keys \['a'\]"),
        ("nothing", 0, r"nothing\(\) takes no input, got int 0"),
        ("two", [1, 2], r"takes the parameters x, y: its input must be a dict of them, got list \[1, 2\]"),
        ("two", {"x": 1}, r"two\(\) is missing 'y'"),
        ("two", None, r"two\(\) is missing 'x', 'y'"),
        ("two", {"x": 1, "y": 2, "z": 3}, r"two\(\) takes no 'z': there is x, y"),
        ("many", {"first": 1, "secnd": 2}, r"no 'secnd': did you mean 'second'\?; it is missing 'second'"),
        ("options", {1: 2}, "takes no 1: there is x, y"),
        ("anything", {1: 2}, "takes named parameters, got the key 1"),
        ("anything", 1, "takes keywords: its input must be a dict of them, got int 1"),
        ("named", 1, "takes its input whole, as 'input', and nothing can be given for 'other'"),
        ("by_place", {"y": 1}, "by_place\\(\\) is missing 'x'"),
    ],
)
def test_a_mismatch_is_told_before_the_function_is_entered(name: str, value: Any, text: str) -> None:
    with pytest.raises(Unfit, match=text):
        run(name, value)


def test_a_function_without_a_signature_takes_its_input_whole() -> None:
    assert plan_for(min, "min").style == "whole"


class Setups:
    def lone(self, model: Any = None) -> Any:
        return model

    def config(self, config: Any, more: Any = 2) -> Any:
        return (config, more)

    def required(self, metadata: Any) -> Any:
        return metadata

    def several(self, model: Any = None, size: Any = 1) -> Any:
        return (model, size)

    def nothing(self) -> Any:
        return ()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lone", {"a": 1}, {"a": 1}),
        ("config", {"a": 1}, ({"a": 1}, 2)),
        ("required", 5, 5),
        ("required", {"metadata": 5}, {"metadata": 5}),
        ("several", {"model": "m"}, ("m", 1)),
    ],
)
def test_setup_takes_its_value(name: str, value: Any, expected: Any) -> None:
    plan = plan_for_setup(getattr(Setups(), name))
    args, kwargs = plan.arguments(value)
    assert plan.function(*args, **kwargs) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("lone", None), ("required", None), ("several", (None, 1)), ("nothing", ())]
)
def test_setup_without_a_value_keeps_its_defaults(name: str, expected: Any) -> None:
    plan = plan_for_setup(getattr(Setups(), name))
    args, kwargs = plan.default_arguments()
    assert plan.function(*args, **kwargs) == expected


def test_unload_may_take_a_reason_or_not() -> None:
    assert takes_argument(Setups().lone)
    assert not takes_argument(Setups().nothing)
