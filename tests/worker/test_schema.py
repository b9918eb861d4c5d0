"""What an app can do, as JSON Schemas: true to what is accepted, whatever the class is like."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, NotRequired, Optional, TypedDict, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from warmd.daemon.worker import schema
from warmd.daemon.worker.docstrings import texts_of
from warmd.daemon.worker.load import App
from warmd.daemon.worker.schema import MAX_BYTES, describe
from warmd.protocol.files import File
from warmd.protocol.values import pack

if TYPE_CHECKING:
    from nowhere import Nothing

UserId = NewType("UserId", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Node:
    name: str
    children: list[Node] = dataclasses.field(default_factory=list)


class Options(TypedDict):
    fast: bool
    seed: NotRequired[int]


class Item(BaseModel):
    name: str = Field(description="Its name.")
    colour: Colour = Colour.RED
    inside: Item | None = None


class Zoo:
    """All kinds of signatures.

    And more.
    """

    def setup(self, model: str, size: int = 3) -> None: ...

    def nothing(self) -> None: ...

    def plain(
        self, a: int, b: float = 1.5, c: str = "x", d: bool = True, e: None = None, f: bytes = b"",
    ) -> dict[str, int]: ...  # fmt: skip

    def containers(
        self, a: list[int], b: dict[str, float], c: tuple[int, str], d: tuple[int, ...], e: set[str],
        f: Sequence[Any], g: Mapping[str, Any], h: list, i: dict, j: tuple[()],
        k: frozenset[int] = frozenset(),
    ) -> tuple[int, str]: ...  # fmt: skip

    def choices(
        self, a: int | None, b: Union[int, str], c: Optional[str], d: Literal["x", 1, True, None], e: Colour,  # noqa: UP007, UP045
        f: UserId, g: Annotated[int, "a number"], h: Annotated[int, Field(gt=3)] = 5,
    ) -> int | None: ...  # fmt: skip

    def models(self, a: Item, b: list[Item], c: Node, d: Options, e: Item | None = None) -> Item: ...

    def model(self, whatever: Item) -> Item: ...

    def node(self, input: Node) -> Node: ...

    def lone(self, data: list[float]) -> list[float]: ...

    def untyped(self, by=1, *, start=None): ...

    def open(self, a: int, **more: Any) -> Any: ...

    def unknown(self, a: Nothing, b: Callable[[int], int], c: File, d: Path, e: object()) -> Nothing: ...

    def odd_defaults(self, a=sys, b=float("nan"), c=(1, 2), d="x" * 5000, e=2**70): ...

    def steps(self, n: int) -> Iterator[Item]:
        yield Item(name=str(n))

    async def later(self, n: int) -> AsyncIterator[int]:
        yield n

    @staticmethod
    def static(x: int, y: int) -> int: ...

    @classmethod
    def klass(cls, x: int, y: int) -> int: ...

    @functools.lru_cache  # noqa: B019
    def cached(self, x: int, y: int) -> int: ...

    part = functools.partialmethod(cached, y=3)

    whole = min

    def documented(self, by: int, to: str = "", more: int = 1) -> int:
        """Adds something.

        It does so at once.

        Args:
            by: how much,
                at most 3
            to (str): where
        """


def described(name: str, cls: type = Zoo) -> dict[str, Any]:
    (found,) = [one for one in describe(App(cls, "zoo"))["functions"] if one["name"] == name]
    assert "error" not in found, found
    return found


def inputs(name: str) -> Any:
    return described(name)["input_schema"]


NAMES = App(Zoo, "zoo").functions


@pytest.mark.parametrize("name", NAMES)
def test_all_is_valid_json_schema(name: str) -> None:
    found = described(name)
    Draft202012Validator.check_schema(found["input_schema"])
    if found["output_schema"] is not None:
        Draft202012Validator.check_schema(found["output_schema"])
    text = json.dumps(found, allow_nan=False)
    assert "\"$ref\"" not in text or "$defs" in text


def test_an_app() -> None:
    found = describe(App(Zoo, "zoo"))
    assert (found["app"], found["summary"], found["doc"]) == (
        "zoo", "All kinds of signatures.", "All kinds of signatures.\n\nAnd more.",
    )  # fmt: skip
    assert (found["default_function"], found["left_out"]) == ("", 0)
    assert found["setup_schema"] == {
        "anyOf": [
            {
                "type": "object",
                "properties": {"model": {"type": "string"}, "size": {"type": "integer", "default": 3}},
                "required": ["model"],
                "additionalProperties": False,
            },
            {"type": "string"},
        ]
    }
    assert found.keys() == {
        "app", "summary", "doc", "default_function", "functions", "setup_schema", "left_out",
    }  # fmt: skip


def test_a_function() -> None:
    found = described("documented")
    assert found["summary"] == "Adds something."
    assert found["doc"].startswith("Adds something.\n\nIt does so at once.")
    assert (found["streams"], found["async"], found["output_schema"]) == (False, False, {"type": "integer"})
    named, whole = found["input_schema"]["anyOf"]
    assert whole == {"type": "integer"}
    assert named == {
        "type": "object",
        "properties": {
            "by": {"type": "integer", "description": "how much, at most 3"},
            "to": {"type": "string", "default": "", "description": "where"},
            "more": {"type": "integer", "default": 1},
        },
        "required": ["by"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("name", "streams", "is_async"),
    [("steps", True, False), ("later", True, True), ("plain", False, False)],
)
def test_streams_and_async_functions(name: str, streams: bool, is_async: bool) -> None:
    found = described(name)
    assert (found["streams"], found["async"]) == (streams, is_async)


def test_a_stream_gives_what_it_yields() -> None:
    assert described("later")["output_schema"] == {"type": "integer"}
    assert described("steps")["output_schema"]["properties"]["name"]["type"] == "string"


def test_a_models_fields_are_at_the_top() -> None:
    for name in ("model", "node"):
        found = inputs(name)
        assert found["type"] == "object" and found["required"] == ["name"]
    assert inputs("model")["properties"]["name"]["description"] == "Its name."


def test_types() -> None:
    properties = inputs("choices")["properties"]
    assert properties["a"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert properties["d"] == {"enum": ["x", 1, True, None]}
    assert properties["e"] == {"enum": ["red", "blue"]}
    assert properties["f"] == {"type": "integer"}
    assert properties["g"] == {"type": "integer", "description": "a number"}
    assert (properties["h"]["exclusiveMinimum"], properties["h"]["default"]) == (3, 5)
    properties = inputs("containers")["properties"]
    assert properties["a"] == {"type": "array", "items": {"type": "integer"}}
    assert properties["b"] == {"type": "object", "additionalProperties": {"type": "number"}}
    assert properties["c"]["prefixItems"] == [{"type": "integer"}, {"type": "string"}]
    assert (properties["e"]["uniqueItems"], properties["f"], properties["g"]) == (
        True, {"type": "array"}, {"type": "object"},
    )  # fmt: skip
    named, _ = inputs("plain")["anyOf"]
    assert named["properties"]["f"]["properties"]["$bytes"]["contentEncoding"] == "base64"
    assert inputs("unknown")["properties"] == {
        "a": {}, "b": {}, "c": {"type": "string", "format": "file"}, "d": {"type": "string"}, "e": {},
    }  # fmt: skip
    assert inputs("odd_defaults")["properties"] == {"a": {}, "b": {}, "c": {"default": [1, 2]}, "d": {},
                                                    "e": {}}  # fmt: skip


def test_of_two_models_of_one_name_none_is_lost() -> None:
    @dataclasses.dataclass
    class Item:
        other: int

    class Clash:
        def run(self, a: Item, b: ItemOfPydantic) -> None: ...

    Clash.run.__annotations__ = {"a": Item, "b": ItemOfPydantic}
    found = described("run", Clash)["input_schema"]
    assert found["$defs"].keys() == {"Item", "Item_2", "Colour"}
    validator = Draft202012Validator(found)
    assert validator.is_valid({"a": {"other": 1}, "b": {"name": "n", "inside": {"name": "m"}}})
    assert not validator.is_valid({"a": {"name": "n"}, "b": {"name": "n"}})
    assert not validator.is_valid({"a": {"other": 1}, "b": {"name": "n", "inside": {"other": 1}}})


ItemOfPydantic = Item


class EvilError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


class Evil:
    class Descriptor:
        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is not None:
                raise EvilError
            return print

    evil = Descriptor()

    def fine(self, x: int) -> int: ...

    @property
    def setup(self) -> Any:
        raise EvilError

    def deep(self, a: Any) -> None: ...

    deep.__annotations__["a"] = functools.reduce(lambda inner, _: list[inner], range(200), int)


def test_what_raises_is_told_and_the_rest_is_there() -> None:
    found = {one["name"]: one for one in describe(App(Evil, "evil"))["functions"]}
    assert "EvilError" in found["evil"]["error"]
    assert found["fine"]["output_schema"] == {"type": "integer"}
    assert found["deep"]["input_schema"]


def many(count: int, doc: str) -> type:
    def function(self: Any, input: Item) -> Item: ...

    function.__doc__ = doc
    return type("Many", (), {f"function_{number:05}": function for number in range(count)})


@pytest.mark.parametrize(("count", "doc"), [(10, "x" * 100_000), (100, "x" * 8000), (20_000, "")])
def test_the_whole_is_bounded(count: int, doc: str) -> None:
    found = describe(App(many(count, doc), "many"))
    assert len(pack(found)) <= MAX_BYTES
    assert len(found["functions"]) + found["left_out"] == count
    assert found["functions"][0]["input_schema"] != {} or count > 1000


def test_a_function_alone_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MAX_FUNCTION_BYTES", 500)
    found = {one["name"]: one for one in describe(App(Zoo, "zoo"))["functions"]}
    assert "the limit is 500" in found["models"]["error"]
    assert "error" not in found["nothing"]


def test_a_default_function_is_named_and_run_is_listed_once() -> None:
    class Named:
        def generate(self) -> None: ...

        def run(self) -> None:
            """Cannot be called."""

    found = describe(App(Named, "named", "generate"))
    assert found["default_function"] == "generate"
    assert [one["name"] for one in found["functions"]] == ["generate"]
    assert describe(App(Named, "named"))["default_function"] == "run"


def test_an_app_of_inference_sh() -> None:
    from tests.zoo_inference import Typed

    found = describe(App(Typed, "typed"))
    functions = {one["name"]: one for one in found["functions"]}
    assert found["summary"] == "Says things."
    assert found["setup_schema"]["properties"]["model"]["default"] == "small"
    assert list(functions["told"]["input_schema"]["properties"]) == ["prompt", "steps"]
    assert functions["steps"]["streams"]
    assert "takes a socket" in functions["live"]["error"]
    image = functions["run"]["output_schema"]["properties"]["image"]
    assert image["anyOf"][0] == {"type": "string", "format": "file"}


class Accepting:
    def keywords(self, a: int, b: str = "", *, c: list[int] | None = None) -> Any: ...

    def either(self, data: dict[str, int], scale: float = 1.0) -> Any: ...

    def whole(self, input: dict[str, Any]) -> Any: ...

    def nothing(self) -> Any: ...

    def node(self, node: Node) -> Any: ...

    def item(self, item: Item) -> Any: ...


KEYS = st.sampled_from(["a", "b", "c", "data", "scale", "name", "children", "colour", "inside", "x"])
LEAVES = st.none() | st.integers(-3, 3) | st.text(max_size=2) | st.sampled_from(["red", 1.5, True])
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)


@pytest.mark.parametrize("name", App(Accepting, "accepting").functions)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON)
def test_what_the_schema_accepts_the_function_takes(name: str, value: Any) -> None:
    validator, plan = of_accepting(name)
    if validator.is_valid(value):
        plan.arguments(value)


@functools.cache
def of_accepting(name: str) -> Any:
    app = App(Accepting, "accepting")
    app.make()
    return Draft202012Validator(described(name, Accepting)["input_schema"]), app.plan(name)


@pytest.mark.parametrize(
    "doc",
    [
        "Adds.\n\n:param by: how much\n:param to: where",
        "Adds.\n\nArgs:\n    by (int): how much\n    to: where\n\nReturns:\n    it",
        "Adds.\n\nParameters\n----------\nby : int\n    how much\nto : str, optional\n    where\n",
        "Adds.\n\nby: how much\nto: where",
    ],
)
def test_docstrings_of_all_styles(doc: str) -> None:
    assert texts_of(doc, ["by", "to"]) == {"by": "how much", "to": "where"}


def test_a_docstring_that_says_nothing_of_parameters() -> None:
    assert texts_of("by: this is the first line\n\nother: x\nto:\n", ["by", "to"]) == {}
