"""From the schema of an input: an input that fits, and how one is typed on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from warmd.cli.schemas import (
    MAX_DEPTH,
    MISSING,
    MORE,
    Parameter,
    is_bytes,
    kinds,
    members,
    parameters,
    resolved,
    text_of,
)
from warmd.cli.values import PAIR, parse_loosely

MAX_OPTIONAL = 4
"""How many optional parameters a usage line names."""
MAX_SHOWN = 40
"""A longer value is no help in a usage line."""
PLACEHOLDERS = {
    "string": "TEXT",
    "integer": "N",
    "number": "X",
    "boolean": "true",
    "null": "null",
    "array": "[...]",
    "object": "{...}",
}


class Unmade(ValueError):
    """No input can be made: the schema has neither a default nor an example for these parameters."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


def made(schema: object) -> Any:
    """An input of the values that a schema itself tells, as few as it lets; None where it asks for nothing.

    Raises Unmade, with the names of required parameters that it has no value for; "" is the whole input.
    """
    root = schema if isinstance(schema, dict) else {}
    lacking: list[str] = []
    value = _made(root, root, "", lacking, 0)
    if lacking:
        raise Unmade(lacking)
    return None if value is MISSING else value


def _made(schema: object, root: Mapping[str, Any], name: str, lacking: list[str], depth: int) -> Any:
    found = resolved(schema, root)
    if (value := told(found)) is not MISSING:
        return value
    properties, required = members(found, root)
    if depth <= MAX_DEPTH and (properties or "object" in kinds(found)) and not is_bytes(found):
        prefix = f"{name}." if name else ""
        return {
            key: _made(properties.get(key), root, prefix + key, lacking, depth + 1)
            for key in [*properties, *sorted(required - set(properties))]
            if key in required
        }
    if name or kinds(found) or "anyOf" in found:
        lacking.append(name)
    return MISSING


def told(schema: Mapping[str, Any]) -> Any:
    """The default, an example, or the first of the values allowed; MISSING where it tells none."""
    for key in ("default", "const", "example"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if isinstance(given := schema.get(key), list) and given:
            return given[0]
    return None if "null" in _all_kinds(schema) else MISSING


def _all_kinds(schema: Mapping[str, Any]) -> list[Any]:
    """Its types, those of its choices included."""
    given = schema.get("anyOf")
    return [*kinds(schema), *(one.get("type") for one in given or [] if isinstance(one, dict))]


def usage(schema: object) -> str:
    """The words of INPUT, required ones first: `text=TEXT [top=3]`."""
    top = [one for one in parameters(schema) if not one.nested and one.name != MORE]
    if not top:
        return _whole(schema if isinstance(schema, dict) else {})
    required = [one for one in top if one.required]
    if not all(PAIR.fullmatch(f"{one.name}=") for one in required):
        return "'{" + ", ".join(f"{text_of(one.name)}: {MORE}" for one in required) + "}'"
    typed = [f"{one.name}={shown(one)}" for one in required]
    typed += [f"[{one.name}={shown(one)}]" for one in top if not one.required][:MAX_OPTIONAL]
    return " ".join(typed + ["[...]"] * (len(typed) < len(top)))


def _whole(schema: Mapping[str, Any]) -> str:
    """Of an input that is no object with parameters."""
    found = resolved(schema, schema)
    if found.get("properties") == {} and not found.get("additionalProperties"):
        return ""
    names = kinds(found)
    value = told(found)
    if not names or "default" in found:
        return "[INPUT]" if value in (MISSING, None) else f"[{shlex.quote(text_of(value))}]"
    if value is not MISSING:
        return shlex.quote(text_of(value))
    return "'\"TEXT\"'" if names[0] == "string" else shlex.quote(PLACEHOLDERS.get(names[0], "INPUT"))


def shown(parameter: Parameter) -> str:
    """A value as it is typed after `KEY=`: what the schema tells, or a word for it."""
    word = typed(told(parameter.schema))
    none = told(parameter.schema) in (MISSING, None) or len(word) > MAX_SHOWN
    return _placeholder(parameter.schema) if none else word


def _placeholder(schema: Mapping[str, Any]) -> str:
    if is_bytes(schema):
        return "'{\"$bytes\": \"...\"}'"
    first = next((name for name in _all_kinds(schema) if name != "null"), "")
    word = PLACEHOLDERS.get(first, "VALUE") if isinstance(first, str) else "VALUE"
    return shlex.quote(word) if word.startswith(("[", "{")) else word


def typed(value: Any) -> str:
    """A value as a shell's word after `KEY=`.

    >>> typed("a text"), typed(3), typed("3"), typed([1, "b"])
    ("'a text'", '3', '\\'"3"\\'', '\\'[1, "b"]\\'')
    """
    is_plain = isinstance(value, str) and parse_loosely(value) == value
    return shlex.quote(value if is_plain else text_of(value))
