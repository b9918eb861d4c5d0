"""JSON Schema -> words for people: the type of a value, and the parameters of an input.

Schemas come from apps, so nothing is taken for granted: a part that makes no sense is "anything", a
reference that leads nowhere or in a circle ends, and what is too deep or too long is cut.

>>> schema = {"properties": {"text": {"type": "string"}, "top": {"type": "integer", "default": 3}},
...           "required": ["text"]}
>>> [(found.name, found.type, found.required) for found in parameters(schema)]
[('text', 'text', True), ('top', 'integer', False)]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MAX_DEPTH = 3
"""How deep objects in objects are told."""
MAX_PARAMETERS = 60
MAX_CHOICES = 8
MAX_WORDS = 120
MAX_ABOUT = 400
MAX_REFERENCES = 16

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "MISSING", "__bool__": lambda _: False})()
"""For what a schema does not say, where None would be a value."""

NAMES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true/false",
    "null": "null",
    "array": "list",
    "object": "object",
}
FORMATS = {"file": "path of a file"}
BYTES = "$bytes"
"""The key of an object that stands for bytes."""
PLURALS = {"text": "texts", "integer": "integers", "number": "numbers", "list": "lists", "object": "objects"}
LIMITS = {"minimum": "from", "exclusiveMinimum": "over", "maximum": "to", "exclusiveMaximum": "under"}
MARKS = (("array", ("items", "prefixItems")), ("object", ("properties", "additionalProperties")))
"""What tells a type that is not named."""
MORE = "..."


class Parameter(NamedTuple):
    """One value of an input.  In an object it is `size.width`, in a list of them `boxes[].width`."""

    name: str
    type: str
    required: bool
    default: Any
    """MISSING where there is none."""
    about: str
    schema: Mapping[str, Any]

    @property
    def nested(self) -> bool:
        return "." in self.name or "[]" in self.name


def resolved(schema: object, root: Mapping[str, Any]) -> dict[str, Any]:
    """The schema that a chain of `$ref` ends at, with what stands beside each; {} for what is none."""
    found: dict[str, Any] = {}
    for _ in range(MAX_REFERENCES):
        if not isinstance(schema, dict):
            break
        found = {**schema, **found}
        if "$ref" not in schema:
            break
        found.pop("$ref", None)
        schema = _pointed(schema["$ref"], root)
    found.pop("$ref", None)
    return found


def _pointed(reference: object, root: Mapping[str, Any]) -> Any:
    """What `#/$defs/Size` points at within the whole schema; None for nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = root
    for step in reference[1:].split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found


def words(schema: object, root: Mapping[str, Any] | None = None) -> str:
    """The type in a few words.

    >>> words({"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}})
    'list of (text or null)'
    >>> words({"type": "integer", "minimum": 1, "maximum": 9}), words({"enum": ["a", "b"]}), words({})
    ('integer from 1 to 9', '"a" or "b"', 'anything')
    """
    if root is None:
        root = schema if isinstance(schema, dict) else {}
    return cut(_words(schema, root, 0), MAX_WORDS)


def _words(schema: object, root: Mapping[str, Any], depth: int) -> str:
    if depth > MAX_DEPTH:
        return MORE
    found = resolved(schema, root)
    if "const" in found:
        return text_of(found["const"])
    for key, joint in (("enum", " or "), ("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")):
        given = found.get(key)
        if isinstance(given, list) and given:
            told = map(text_of, given) if key == "enum" else (_words(one, root, depth + 1) for one in given)
            return joint.join(_some(told))
    return " or ".join(_some(_typed(kind, found, root, depth) for kind in kinds(found))) or "anything"


def kinds(schema: Mapping[str, Any]) -> list[str]:
    """The names of its types, as the schema spells them; [] where it tells none."""
    kind = schema.get("type")
    if isinstance(kind, list):
        return [one for one in kind if isinstance(one, str)]
    if isinstance(kind, str):
        return [kind]
    return [kind for kind, marks in MARKS if any(mark in schema for mark in marks)][:1]


def _typed(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    name = NAMES.get(kind, kind)
    if kind == "array":
        return _list(schema, root, depth)
    if kind == "object" and is_bytes(schema):
        return "bytes"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_plural(_words(schema['additionalProperties'], root, depth + 1))}"
    if kind == "string":
        what = schema.get("format") or schema.get("contentMediaType") or schema.get("contentEncoding")
        return FORMATS.get(what, f"{name} ({what})") if isinstance(what, str) else name
    return name + _range(schema) if kind in ("integer", "number") else name


def is_bytes(schema: Mapping[str, Any]) -> bool:
    """Whether it is `{"$bytes": "<base64>"}`."""
    properties = schema.get("properties")
    return isinstance(properties, dict) and list(properties) == [BYTES]


def _list(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    places = schema.get("prefixItems")
    if isinstance(places, list) and places:
        return f"list of ({', '.join(_words(one, root, depth + 1) for one in places[:MAX_CHOICES])})"
    if isinstance(schema.get("items"), dict) and (items := _words(schema["items"], root, depth + 1)):
        return "list" if items == "anything" else f"list of {_plural(items)}"
    return "list"


def _range(schema: Mapping[str, Any]) -> str:
    limits = [(word, schema.get(key)) for key, word in LIMITS.items()]
    return "".join(f" {word} {limit}" for word, limit in limits if type(limit) in (int, float))


def _plural(text: str) -> str:
    first, blank, rest = text.partition(" ")
    if " or " in text or " and " in text:
        return f"({text})"
    return PLURALS.get(first, first) + blank + rest


def _some(texts: Iterator[str]) -> list[str]:
    """The first few, each once."""
    found: dict[str, None] = {}
    for text in texts:
        if text in found:
            continue
        if len(found) == MAX_CHOICES:
            return [*found, MORE]
        found[text] = None
    return list(found)


def parameters(schema: object) -> list[Parameter]:
    """The values that an object of this schema has; those of the objects in it follow each of them.

    [] where the schema is that of no object, or does not say.
    """
    root = schema if isinstance(schema, dict) else {}
    found: list[Parameter] = []
    for parameter in _parameters(root, root, "", 0):
        if len(found) == MAX_PARAMETERS:
            found.append(Parameter(MORE, "", False, MISSING, "--json shows all", {}))
            break
        found.append(parameter)
    return found


def _parameters(schema: object, root: Mapping[str, Any], prefix: str, depth: int) -> Iterator[Parameter]:
    whole = resolved(schema, root)
    properties, required = members(whole, root)
    for name, given in properties.items():
        found = resolved(given, root)
        yield Parameter(
            prefix + one_line(name),
            words(found, root),
            name in required and "default" not in found,
            found.get("default", MISSING),
            cut(one_line(found.get("description")), MAX_ABOUT),
            found,
        )
        if depth < MAX_DEPTH - 1:
            inner, mark = _inner(found, root)
            yield from _parameters(inner, root, f"{prefix}{one_line(name)}{mark}.", depth + 1)


def members(schema: Mapping[str, Any], root: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The properties of an object and the names of the required ones, those of its `allOf` included.

    Where the object is one of several choices, those of the first one.
    """
    properties: dict[str, Any] = {}
    required: set[str] = set()
    parts = schema.get("allOf")
    for part in [*(parts if isinstance(parts, list) else []), schema]:
        found = resolved(part, root)
        if isinstance(given := found.get("properties"), dict) and not is_bytes(found):
            properties.update(given)
        if isinstance(names := found.get("required"), list):
            required.update(name for name in names if isinstance(name, str))
    for choice in [] if properties else choices(schema, root):
        if isinstance(choice.get("properties"), dict):
            return members({**choice, "anyOf": None, "oneOf": None}, root)
    return properties, required


def choices(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a value may be, one or the other, but for null."""
    given = next((one for key in ("anyOf", "oneOf") if isinstance(one := schema.get(key), list)), [])
    return [found for one in given if (found := resolved(one, root)).get("type") != "null"]


def _inner(schema: Mapping[str, Any], root: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The schema of the object that a value is, may be, or is a list of; and how its place is marked."""
    for one in [schema, *choices(schema, root)]:
        if "array" in kinds(one):
            return resolved(one.get("items"), root), "[]"
    return dict(schema), ""


def text_of(value: Any) -> str:
    """A value as JSON text, of at most a line."""
    try:
        return cut(json.dumps(value, ensure_ascii=False), MAX_WORDS)
    except (TypeError, ValueError, RecursionError):
        return cut(one_line(value), MAX_WORDS)


def one_line(text: object) -> str:
    """What can be printed of a text, with one blank for any number; empty for None."""
    plain = " ".join(("" if text is None else str(text)).split())
    return "".join(letter for letter in plain if letter.isprintable())


def cut(text: str, most: int) -> str:
    """The beginning of a text that is too long.

    >>> cut("abcdefgh", 6)
    'abc...'
    """
    return text if len(text) <= most else text[: most - len(MORE)] + MORE
