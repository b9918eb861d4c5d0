"""What parameters get that are models or dataclasses, and what is said where an input does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from inferencesh import File as ForeignFile
from pydantic import BaseModel, ConfigDict, Field

from warmd.daemon.worker.calling import plan_for, plan_for_setup
from warmd.daemon.worker.hints import hints_of
from warmd.daemon.worker.unfit import Unfit
from warmd.protocol.files import File

if TYPE_CHECKING:
    from nowhere import Nothing


class Item(BaseModel):
    name: str
    count: int = 1


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(alias="Name")


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2
    item: Item | None = None
    hidden: int = dataclasses.field(default=7, init=False)


@dataclasses.dataclass
class Node:
    name: str
    children: list[Node] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("it must be positive")


class Functions:
    class Inner(BaseModel):
        z: int

    def list(self) -> None:
        """Hides the builtin from what is evaluated in the class."""

    def model(self, whatever: Item) -> Any:
        return whatever

    def strict(self, data: Strict) -> Any:
        return data

    def point(self, p: Point) -> Any:
        return p

    def node(self, top: Node) -> Any:
        return top

    def positive(self, p: Positive) -> Any:
        return p

    def maybe(self, item: Item | None = None) -> Any:
        return item

    def default(self, p: Point = Point(5)) -> Any:  # noqa: B008
        return p

    def described(self, item: Annotated[Item, "what there is"]) -> Any:
        return item

    def items(self, items: list[Item]) -> Any:
        return items

    def points(self, points: list[Point]) -> Any:
        return points

    def by_name(self, by_name: dict[str, Point]) -> Any:
        return by_name

    def either(self, it: Point | Item) -> Any:
        return it

    def one_of(self, it: Point | Positive | None) -> Any:
        return it

    def both(self, a: Point, b: Item, n: int = 3) -> Any:
        return a, b, n

    def more(self, a: Item, top: int = 5) -> Any:
        return a, top

    def beside(self, data: Item, metadata: Any) -> Any:
        return data, metadata.task_id

    def plain_metadata(self, data: Any, metadata: Any) -> Any:
        return data, metadata

    def plain(self, by: int) -> Any:
        return by

    def unknown(self, a: Nothing, b: Point) -> Any:
        return a, b

    def inner(self, a: Inner) -> Any:
        return a

    def file(self, file: ForeignFile) -> Any:
        return file.path

    def files(self, files: list[ForeignFile]) -> Any:
        return [file.path for file in files]


def run(name: str, value: Any) -> Any:
    plan = plan_for(getattr(Functions(), name), name, owner=Functions)
    args, kwargs = plan.arguments(value)
    return plan.function(*args, **kwargs)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("model", {"name": "n", "count": "3"}, Item(name="n", count=3)),
        ("strict", {"Name": "n"}, Strict(Name="n")),
        ("point", {"x": 1, "item": {"name": "n"}}, Point(1, 2, Item(name="n"))),
        ("point", {"x": "text"}, Point("text")),
        ("node", {"name": "a", "children": [{"name": "b"}]}, Node("a", [Node("b")])),
        ("maybe", {"name": "n"}, Item(name="n")),
        ("maybe", None, None),
        ("default", None, Point(5)),
        ("default", {"x": 6}, Point(6)),
        ("described", {"name": "n"}, Item(name="n")),
        ("items", [{"name": "n"}], [Item(name="n")]),
        ("items", {"items": [{"name": "n"}]}, [Item(name="n")]),
        ("points", ({"x": 1},), [Point(1)]),
        ("by_name", {"a": {"x": 1}}, {"a": Point(1)}),
        ("either", {"name": "n"}, Item(name="n")),
        ("one_of", {"number": 1}, Positive(1)),
        ("one_of", {"x": 1}, Point(1)),
        ("one_of", None, None),
        ("both", {"a": {"x": 1}, "b": {"name": "n"}}, (Point(1), Item(name="n"), 3)),
        ("more", {"name": "n"}, (Item(name="n"), 5)),
        ("more", {"a": {"name": "n"}, "top": 1}, (Item(name="n"), 1)),
        ("beside", {"name": "n"}, (Item(name="n"), None)),
        ("plain_metadata", {"data": 1, "metadata": 2}, (1, 2)),
        ("plain", "text", "text"),
        ("unknown", {"a": 1, "b": {"x": 1}}, (1, Point(1))),
        ("inner", {"z": 1}, Functions.Inner(z=1)),
    ],
)
def test_a_typed_parameter_gets_an_instance(name: str, value: Any, expected: Any) -> None:
    assert run(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("model", None, "model(): input.name: Field required"),
        ("model", {"name": 3}, "model(): input.name: Input should be a valid string, got 3"),
        ("model", {"nam": "n"}, "model(): input.name: Field required, but 'nam' was given"),
        ("model", 3, "model(): input: Input should be a valid dictionary or instance of Item, got 3"),
        ("strict", {"Name": "n", "x": 1}, "strict(): input.x: Extra inputs are not permitted, got 1"),
        ("point", {"y": 1}, "point(): input.x: missing"),
        ("point", {"x": 1, "yy": 1}, "point(): input: Point has no 'yy': did you mean 'y'?"),
        ("point", {"x": 1, "hidden": 1}, "point(): input: Point has no 'hidden': there is item, x, y"),
        ("point", [1], "point(): input: Point is made of a dict, got list [1]"),
        ("point", {"x": 1, "item": {}}, "point(): input.item.name: Field required"),
        ("node", {"name": "a", "children": [{}]}, "node(): input.children[0].name: missing"),
        ("node", {"name": "a", "children": 3}, "node(): input.children: expected a list, got int 3"),
        ("positive", {"number": -1}, "positive(): input: ValueError: it must be positive"),
        ("items", [{"name": "n"}, {}], "items(): input[1].name: Field required"),
        ("by_name", {"a": {}}, "by_name(): input['a'].x: missing"),
        ("by_name", [], "by_name(): input: expected a dict, got list []"),
        ("one_of", {}, "one_of(): input.x: missing"),
        ("both", {"a": {}, "b": {}}, "both(): a.x: missing; b.name: Field required"),
        ("both", {"a": {"x": 1}}, "both() is missing 'b'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_by_its_path(name: str, value: Any, text: str) -> None:
    with pytest.raises(Unfit) as raised:
        run(name, value)
    assert str(raised.value) == text


def test_of_many_problems_some_are_told() -> None:
    with pytest.raises(Unfit, match=r"input: Point has no '9'.*; and 91 more$"):
        run("point", {str(number): 1 for number in range(100)})


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_shown_is_told_by_its_type() -> None:
    with pytest.raises(Unfit, match=r"got a Unprintable$"):
        run("model", Unprintable())


def test_files_come_in_as_paths_and_as_files(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    Path(path).write_text("a")
    assert run("file", path) == run("file", File(path)) == run("file", {"path": path}) == path
    assert run("files", [path, File(path)]) == [path, path]


def test_annotations_that_cannot_be_resolved_are_as_if_not_there() -> None:
    assert hints_of(Functions.unknown) == {"b": Point, "return": Any}
    assert hints_of(min) == {}


class Setups:
    def config(self, config: Item) -> Any:
        return config

    def optional(self, anything: Point | None = None) -> Any:
        return anything

    def several(self, model: str, size: int) -> Any:
        return model, size


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config", r"setup\(\): setup.name: Field required"),
        ("several", r"setup\(\) is missing 'model', 'size'"),
    ],
)
def test_a_setup_that_needs_a_value_says_so(name: str, text: str) -> None:
    with pytest.raises(Unfit, match=text):
        plan_for_setup(getattr(Setups(), name), owner=Setups).default_arguments()


def test_a_typed_setup_gets_an_instance() -> None:
    plan = plan_for_setup(Setups().config, owner=Setups)
    assert plan.arguments({"name": "n"}) == ((Item(name="n"),), {})
    optional = plan_for_setup(Setups().optional, owner=Setups)
    assert optional.arguments({"x": 1}) == ((Point(1),), {})
    assert optional.default_arguments() == ((), {})
