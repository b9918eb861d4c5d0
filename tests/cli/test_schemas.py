"""Schemas in words, whatever an app may call a schema."""

from __future__ import annotations

import contextlib
import doctest
import json
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmd.cli import described, examples, schemas
from warmd.cli.examples import Unmade, made, typed, usage
from warmd.cli.schemas import MAX_PARAMETERS, MAX_WORDS, MISSING, MORE, parameters, words
from warmd.cli.values import parse_input

NODE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}], "default": None},
    },
    "required": ["value"],
}

BYTES = {"type": "object", "properties": {"$bytes": {"type": "string"}}, "required": ["$bytes"]}


@pytest.mark.parametrize("module", [described, examples, schemas])
def test_the_examples_in_the_documentation(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "format": "date-time"}, "text (date-time)"),
        ({"type": ["string", "null"]}, "text or null"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]}, "integer or number or null"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "number over 0 to 0.5"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "null"}}}, "list of lists of null"),
        ({"type": "array", "prefixItems": [{"type": "number"}] * 2}, "list of (number, number)"),
        ({"type": "array", "items": {}}, "list"),
        ({"type": "array", "items": BYTES}, "list of bytes"),
        ({"type": "string", "format": "file"}, "path of a file"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integers"),
        ({"enum": ["a", 1, None]}, '"a" or 1 or null'),
        ({"enum": list(range(100))}, "0 or 1 or 2 or 3 or 4 or 5 or 6 or 7 or ..."),
        ({"const": 7}, "7"),
        ({"$ref": "#/$defs/Size", "$defs": {"Size": {"type": "object"}}}, "object"),
        ({"$ref": "#/nowhere"}, "anything"),
        ({"$ref": "#"}, "anything"),
        ({"type": "number", "minimum": True}, "number"),
        ({"type": 7, "enum": 3, "anyOf": "x", "properties": None}, "object"),
        (True, "anything"),
        (None, "anything"),
    ],
)
def test_types_in_words(schema: Any, said: str) -> None:
    assert words(schema) == said


def test_objects_in_objects_are_dotted_and_end() -> None:
    found = {one.name: one for one in parameters(NODE)}
    assert list(found) == ["value", "next", "next.value", "next.next", "next.next.value", "next.next.next"]
    assert (found["value"].required, found["next"].required) == (True, False)
    assert (found["next"].default, found["value"].default) == (None, MISSING)
    boxes = {"properties": {"boxes": {"type": "array", "items": NODE}}}
    assert [one.name for one in parameters(boxes)][:2] == ["boxes", "boxes[].value"]


def test_all_of_gives_its_properties_too() -> None:
    base = {"properties": {"a": {"type": "integer"}}, "required": ["a"]}
    both = {"allOf": [{"$ref": "#/$defs/Base"}, 7], "properties": {"b": {}}, "$defs": {"Base": base}}
    found = parameters(both)
    assert [(one.name, one.required) for one in found] == [("a", True), ("b", False)]


def test_what_is_long_is_cut() -> None:
    many = parameters({"properties": {f"p{n}": {"description": "long " * 1000} for n in range(1000)}})
    assert (len(many), many[-1].name) == (MAX_PARAMETERS + 1, MORE)
    assert all(len(one.about) <= schemas.MAX_ABOUT for one in many)
    assert len(words({"enum": ["x" * 1000]})) <= MAX_WORDS


def test_an_escape_in_a_documentation_does_not_reach_the_terminal() -> None:
    (found,) = parameters({"properties": {"a\x1b[2J": {"description": "red\x1b[31m\n\tmore"}}})
    assert (found.name, found.about) == ("a[2J", "red[31m more")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, None),
        (None, None),
        ({"type": "object", "properties": {}}, {}),
        ({"properties": {"a": {"type": "string", "default": "x"}}}, {}),
        ({"properties": {"a": {"examples": [3]}}, "required": ["a"]}, {"a": 3}),
        ({"properties": {"a": {"enum": ["y", "z"]}}, "required": ["a"]}, {"a": "y"}),
        ({"properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]}, {"a": None}),
        ({"properties": {"a": NODE["properties"]}, "required": []}, {}),
        ({"type": "array", "examples": [[1, 2]]}, [1, 2]),
    ],
)
def test_inputs_that_can_be_made(schema: Any, value: Any) -> None:
    assert made(schema) == value


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({"type": "string"}, [""]),
        ({"properties": {"a": {"type": "string"}}, "required": ["a", "b"]}, ["a", "b"]),
        ({"properties": {"node": NODE}, "required": ["node"]}, ["node.value"]),
        ({"properties": {"raw": BYTES}, "required": ["raw"]}, ["raw"]),
        ({"anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"type": "string"}]}, ["a"]),
    ],
)
def test_inputs_that_cannot_be_made(schema: Any, names: list[str]) -> None:
    with pytest.raises(Unmade) as caught:
        made(schema)
    assert caught.value.names == names


@pytest.mark.parametrize(
    ("schema", "line"),
    [
        ({}, "[INPUT]"),
        ({"type": "string"}, "'\"TEXT\"'"),
        ({"type": "array"}, "'[...]'"),
        ({"type": "array", "examples": [[1, 2]]}, "'[1, 2]'"),
        ({"type": "object", "properties": {}}, ""),
        ({"properties": {"t": {"default": "a b"}}}, "[t='a b']"),
        ({"properties": {"t": {}, "n": {"type": "integer"}}, "required": ["n"]}, "n=N [t=VALUE]"),
        ({"properties": {"raw": BYTES}, "required": ["raw"]}, "raw='{\"$bytes\": \"...\"}'"),
        ({"properties": {"t": {"default": "5"}}}, "[t='\"5\"']"),
        ({"properties": {"x": {"type": "number", "default": None}}}, "[x=X]"),
        ({"properties": {"a key": {"type": "string"}}, "required": ["a key"]}, "'{\"a key\": ...}'"),
        ({"properties": {f"p{n}": {"type": "boolean"} for n in range(6)}},
         "[p0=true] [p1=true] [p2=true] [p3=true] [...]"),
        ({"properties": {"t": {"type": "string", "default": "long " * 20}}}, "[t=TEXT]"),
    ],
)  # fmt: skip
def test_how_an_input_is_typed(schema: Any, line: str) -> None:
    assert usage(schema) == line


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(
    [
        *("type", "properties", "required", "items", "prefixItems", "additionalProperties", "minimum"),
        *("format", "anyOf", "oneOf", "allOf", "enum", "const", "default", "examples", "$ref", "$defs"),
        "description",
    ]
)
ODD = st.recursive(
    JSON | st.sampled_from(["object", "array", "string", "null", "#", "#/$defs/a", "#/properties/a"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(KEYS | st.sampled_from("ab"), inner, max_size=5),
    max_leaves=30,
)


@given(ODD)
def test_no_schema_is_too_odd(schema: Any) -> None:
    assert words(schema)
    told = {"name": "run", "doc": schema, "input_schema": schema, "output_schema": schema}
    app = {"app": "odd", "doc": schema, "functions": [told], "setup_schema": schema}
    assert described.how_to_call(app, "odd", "run")
    assert described.page({**app, "found": schema}, {"source": "here"})
    with contextlib.suppress(Unmade):
        json.dumps(made(schema))


@given(JSON)
def test_what_is_typed_comes_back(value: Any) -> None:
    (word,) = shlex.split(f"key={typed(value)}")
    if len(word) < MAX_WORDS:
        assert parse_input([word]) == {"key": value}
