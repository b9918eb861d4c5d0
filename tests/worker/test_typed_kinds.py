"""Odd dataclasses, unions, and what a function could be given before its parameters had types."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import InitVar
from typing import Any, Literal

import pytest
from pydantic import BaseModel, RootModel

from warmd.daemon.worker.calling import plan_for
from warmd.daemon.worker.jsontypes import Schemas
from warmd.daemon.worker.load import App
from warmd.daemon.worker.schema import describe
from warmd.daemon.worker.unfit import Unfit, shown


class Lax(BaseModel):
    x: int = 0


class Query(BaseModel):
    query: str


class Numbers(RootModel[dict[str, int]]):
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2


@dataclasses.dataclass
class Summed:
    x: int
    more: InitVar[int]
    point: InitVar[Point | None] = None
    sum: int = dataclasses.field(init=False, default=0)

    def __post_init__(self, more: int, point: Point | None) -> None:
        self.sum = self.x + more + (point.y if point else 0)


@dataclasses.dataclass(init=False)
class Made:
    area: int

    def __init__(self, width: int, height: int = 2, **more: int) -> None:
        self.area = width * height + sum(more.values())


def with_connection(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(self: Any, *args: Any, retries: int = 0, **kwargs: Any) -> Any:
        return function(self, "connection", *args, **kwargs), retries

    return inner


def passing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def with_keyword(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, connection="connection", **kwargs)

    return inner


class Functions:
    @with_connection
    def query(self, connection: Any, sql: str) -> Any:
        return connection, sql

    @with_keyword
    def whole(self, input: Any, connection: Any) -> Any:
        return input, connection

    @passing_on
    def live(self, input: Any, socket: Any) -> Any:
        return input, socket

    @functools.lru_cache  # noqa: B019
    def cached(self, x: int, y: int) -> Any:
        return x, y

    def about(self, item: Lax, metadata: dict[str, int]) -> Any:
        return item, metadata

    def about_or_not(self, item: Point, metadata: Any = None) -> Any:
        return item, metadata

    def lone(self, item: Lax) -> Any:
        return item

    def search(self, query: Query) -> Any:
        return query.query

    def numbers(self, numbers: Numbers) -> Any:
        return numbers.root

    def summed(self, it: Summed) -> Any:
        return it.x, it.sum

    def made(self, it: Made) -> Any:
        return it.area

    def maybe_points(self, points: list[Point] | None = None) -> Any:
        return points

    def one_or_more(self, points: Point | list[Point]) -> Any:
        return points

    def point_or_dict(self, it: Point | dict[str, Any] | list[str]) -> Any:
        return it

    def points(self, *, points: tuple[Point, ...]) -> Any:
        return points

    def pair(self, *, pair: tuple[Point, int]) -> Any:
        return pair

    def kind(self, kind: type[Lax]) -> Any:
        return kind

    def by_place(self, a: int = 1, b: int = 2, c: int = 3, /) -> Any:
        return a, b, c

    def key_words(self, key_word: int = 1, keywords: int = 2) -> Any:
        return key_word, keywords

    def more(self, x: Any, **more: Any) -> Any:
        return x, more


def run(name: str, value: Any) -> Any:
    plan = plan_for(getattr(Functions(), name), name, owner=Functions)
    args, kwargs = plan.arguments(value)
    return plan.function(*args, **kwargs)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("query", {"sql": "s"}, (("connection", "s"), 0)),
        ("query", {"sql": "s", "retries": 3}, (("connection", "s"), 3)),
        ("whole", 5, (5, "connection")),
        ("cached", {"x": 1, "y": 2}, (1, 2)),
        ("about", {"item": {"x": 1}, "metadata": {"a": 1}}, (Lax(x=1), {"a": 1})),
        ("about_or_not", {"item": {"x": 1}, "metadata": 5}, (Point(1), 5)),
        ("about_or_not", {"x": 1}, (Point(1), None)),
        ("lone", {"item": {"x": 4}}, Lax(x=4)),
        ("search", {"query": "text"}, "text"),
        ("numbers", {"numbers": 1}, {"numbers": 1}),
        ("summed", {"x": 1, "more": 2, "point": {"x": 1}}, (1, 5)),
        ("made", {"width": 3, "other": 1}, 7),
        ("maybe_points", {"points": [{"x": 1}]}, [Point(1)]),
        ("maybe_points", {"points": None}, None),
        ("one_or_more", [{"x": 1}], [Point(1)]),
        ("one_or_more", {"points": [{"x": 1}]}, [Point(1)]),
        ("point_or_dict", {"x": 1}, Point(1)),
        ("point_or_dict", {"else": 1}, {"else": 1}),
        ("point_or_dict", ["a"], ["a"]),
        ("points", {"points": [{"x": 1}]}, (Point(1),)),
        ("pair", {"pair": [{"x": 1}, 5]}, (Point(1), 5)),
        ("kind", "Lax", "Lax"),
        ("by_place", {"a": 5}, (5, 2, 3)),
    ],
)
def test_what_a_function_gets(name: str, value: Any, expected: Any) -> None:
    assert run(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cached", {"x": 1}, "is missing 'y'"),
        ("query", {1: 2}, "takes named parameters, got the key 1"),
        ("summed", {"x": 1}, r"input.more: missing"),
        ("maybe_points", {"points": [{"x": 1}, 5]}, r"points\[1\]: Point is made of a dict, got int 5"),
        ("one_or_more", [{"z": 1}], r"input\[0\]: Point has no 'z'"),
        ("pair", {"pair": [{"x": 1}]}, "expected 2 elements"),
        ("by_place", {"a": 1, "c": 3}, "is missing 'b', which 'c' comes after"),
    ],
)
def test_what_is_said(name: str, value: Any, text: str) -> None:
    with pytest.raises(Unfit, match=text):
        run(name, value)


@pytest.mark.parametrize("name", ["key_words", "one_or_more"])
def test_a_crowd_of_keys_takes_no_time(name: str) -> None:
    crowd = {f"key_words{number}": number for number in range(100_000)}
    began = time.process_time()
    with pytest.raises(Unfit) as raised:
        run(name, crowd)
    assert time.process_time() - began < 0.5
    assert len(str(raised.value)) < 1000
    assert len(shown(crowd)) < 300


def test_the_schema_tells_what_makes_an_odd_dataclass() -> None:
    schemas = Schemas("validation")
    schemas.of(Summed)
    schemas.of(Made)
    assert schemas.defs["Summed"]["required"] == ["x", "more"]
    assert "sum" not in schemas.defs["Summed"]["properties"]
    assert schemas.defs["Made"]["properties"].keys() == {"width", "height"}
    assert schemas.defs["Made"]["additionalProperties"] is True


def test_the_schema_does_not_promise_keywords_that_go_whole_to_the_first() -> None:
    assert run("more", {"x": 1, "y": 2}) == ({"x": 1, "y": 2}, {})
    (more,) = [one for one in describe(App(Functions, "app"))["functions"] if one["name"] == "more"]
    assert more["input_schema"]["anyOf"][0]["additionalProperties"] is False


def test_many_constants_take_no_time() -> None:
    constants = Literal[tuple(range(20_000))]  # type: ignore[valid-type]
    began = time.process_time()
    assert len(Schemas("validation").of(constants)["enum"]) == 20_000
    assert time.process_time() - began < 0.5


def test_a_socket_is_refused_also_behind_a_decorator() -> None:
    assert "takes a socket" in plan_for(Functions().live, "live", of_base_app=True).refusal
    assert plan_for(Functions().live, "live").refusal == ""
