"""Annotations as JSON Schemas (2020-12), for those who write an input, and for forms.

What is not known, or cannot be resolved, is `{}`: anything.  pydantic tells of its own models.
"""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import enum
import inspect
import json
import os
import sys
import typing
from collections import OrderedDict, defaultdict, deque
from typing import Any, Literal, TypeAlias, get_args, get_origin

from warmd.daemon.worker.hints import hints_of, is_union
from warmd.daemon.worker.typed import BY_NAME, field_hints, is_known_to_pydantic, parameters_of
from warmd.protocol.files import File
from warmd.protocol.values import pack

Schema: TypeAlias = dict[str, Any]

MAX_DEPTH = 20
MAX_DEFAULT_CHARACTERS = 1000
REFERENCE = "#/$defs/"

BYTES: Schema = {
    "type": "object",
    "properties": {"$bytes": {"type": "string", "contentEncoding": "base64"}},
    "required": ["$bytes"],
    "additionalProperties": False,
}
"""Bytes as the command line has them."""

_PLAIN: dict[Any, Schema] = {
    None: {"type": "null"},
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bytes: BYTES,
    bytearray: BYTES,
    memoryview: BYTES,
    File: {"type": "string", "format": "file"},
}
_ARRAYS = (list, tuple, set, frozenset, deque, abc.Sequence, abc.MutableSequence, abc.Set, abc.Iterable,
           abc.Collection)  # fmt: skip
_SETS = (set, frozenset, abc.Set)
_OBJECTS = (dict, OrderedDict, defaultdict, abc.Mapping, abc.MutableMapping)
_WRAPPERS = {"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"}


class Schemas:
    """Makes schemas that share their definitions: `defs`, to be put beside them as `$defs`."""

    def __init__(self, mode: Literal["validation", "serialization"]) -> None:
        self._mode = mode
        self._names: dict[Any, str] = {}
        self.defs: dict[str, Schema] = {}

    def of(self, annotation: Any, depth: int = 0) -> Schema:
        """The schema of an annotation."""
        try:
            plain = _PLAIN.get(annotation)
        except TypeError:  # not hashable: no annotation that anyone knows
            return {}
        if plain is not None:
            return dict(plain)
        if depth > MAX_DEPTH:
            return {}
        origin = get_origin(annotation)
        if origin is typing.Annotated:
            return self._of_annotated(annotation, depth)
        if is_known_to_pydantic(annotation):
            return self._of_pydantic(annotation)
        if is_union(annotation):
            return {"anyOf": [self.of(one, depth + 1) for one in get_args(annotation)]}
        if origin is Literal:
            return _of_constants(get_args(annotation))
        if getattr(origin, "__name__", getattr(origin, "_name", None)) in _WRAPPERS:
            return self.of(get_args(annotation)[0], depth + 1)
        if isinstance(origin or annotation, type):
            return self._of_class(origin or annotation, annotation, depth)
        for attribute in ("__supertype__", "__value__"):  # of a NewType, and of what `type X = ...` makes
            if hasattr(annotation, attribute):
                return self.of(getattr(annotation, attribute), depth + 1)
        return {}

    def _of_annotated(self, annotation: Any, depth: int) -> Schema:
        inner, *extras = get_args(annotation)
        if "pydantic" in sys.modules and any(map(_is_of_pydantic, extras)):
            return self._of_pydantic(annotation)
        schema = self.of(inner, depth + 1)
        texts = [one for one in extras if isinstance(one, str)]
        return {**schema, "description": texts[0]} if texts else schema

    def _of_class(self, kind: type, annotation: Any, depth: int) -> Schema:
        args = get_args(annotation)
        if issubclass(kind, enum.Enum):
            return _of_constants([member.value for member in kind])
        if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
            return self._defined(kind, depth)
        if kind in _OBJECTS:
            items = self.of(args[1], depth + 1) if len(args) == 2 else {}
            return {"type": "object", **({"additionalProperties": items} if items else {})}
        if kind is tuple and args and args[-1] is not Ellipsis:
            return _of_places([self.of(one, depth + 1) for one in args if one != ()])
        if kind in _ARRAYS:
            items = self.of(args[0], depth + 1) if args else {}
            unique = {"uniqueItems": True} if kind in _SETS else {}
            return {"type": "array", **({"items": items} if items else {}), **unique}
        for base in (bool, int, float, str, bytes):
            if issubclass(kind, base):
                return dict(_PLAIN[base])
        return {"type": "string"} if issubclass(kind, os.PathLike) else {}

    def _defined(self, kind: type, depth: int) -> Schema:
        """A reference to the definition of a dataclass or TypedDict, which may contain itself."""
        name = self._names.get(kind)
        if name is None:
            name = self._names[kind] = self._free_name(kind.__name__)
            self.defs[name] = {}
            self.defs[name] = self._of_fields(kind, depth)
        return {"$ref": REFERENCE + name}

    def _of_fields(self, kind: type, depth: int) -> Schema:
        if not dataclasses.is_dataclass(kind):
            hints = hints_of(kind)
            properties = {name: self.of(one, depth + 1) for name, one in hints.items()}
            required = sorted(getattr(kind, "__required_keys__", ()), key=list(hints).index)
            return {"type": "object", "properties": properties, "required": required}
        hints = field_hints(kind)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        parameters = parameters_of(kind)
        properties, required = {}, []
        for one in parameters:
            if one.kind not in BY_NAME:
                continue
            default = fields[one.name].default if one.name in fields else one.default
            properties[one.name] = self.of(hints.get(one.name, Any), depth + 1) | default_of(default)
            if one.default is inspect.Parameter.empty:
                required.append(one.name)
        takes_more = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
        made = object_of(properties, required)
        return {**made, "additionalProperties": True} if takes_more else made

    def _of_pydantic(self, annotation: Any) -> Schema:
        schema = json.loads(json.dumps(self._told_by_pydantic(annotation), default=str))
        names = {name: self._name_for(name, one) for name, one in schema.get("$defs", {}).items()}
        for name, one in schema.pop("$defs", {}).items():
            self.defs[names[name]] = _renamed(one, names)
        return dict(_renamed(schema, names))

    def _told_by_pydantic(self, annotation: Any) -> Any:
        if self._mode == "validation" and hasattr(annotation, "model_json_schema"):
            try:
                return annotation.model_json_schema()
            except Exception:  # inference.sh's looks into the source, which may not be there
                pass
        adapter: Any = sys.modules["pydantic"].TypeAdapter
        # Results travel under their fields' names (`results`).
        return adapter(annotation).json_schema(mode=self._mode, by_alias=self._mode == "validation")

    def _name_for(self, name: str, definition: Schema) -> str:
        return name if self.defs.get(name) == definition else self._free_name(name)

    def _free_name(self, name: str) -> str:
        taken, number = name, 2
        while taken in self.defs:
            taken, number = f"{name}_{number}", number + 1
        return taken


def object_of(properties: dict[str, Schema], required: list[str]) -> Schema:
    """The schema of a dict that may have these keys and no others."""
    schema: Schema = {"type": "object", "properties": properties}
    return schema | ({"required": required} if required else {}) | {"additionalProperties": False}


def default_of(default: Any) -> Schema:
    """`{"default": ...}`, for one that JSON has words for."""
    if default is inspect.Parameter.empty or default is dataclasses.MISSING:
        return {}
    try:
        text = json.dumps(default, allow_nan=False)
        pack(json.loads(text))
    except (TypeError, ValueError, RecursionError):
        return {}
    return {"default": json.loads(text)} if len(text) <= MAX_DEFAULT_CHARACTERS else {}


def _of_constants(values: typing.Iterable[Any]) -> Schema:
    known = [value for value in values if type(value) in (str, int, float, bool, type(None))]
    # 1 and True are equal, and two of these constants.
    unique = {(type(value), value): value for value in known}
    return {"enum": list(unique.values())} if unique else {}


def _of_places(items: list[Schema]) -> Schema:
    if not items:
        return {"type": "array", "maxItems": 0}
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


def _is_of_pydantic(extra: Any) -> bool:
    return type(extra).__module__.partition(".")[0] in ("pydantic", "annotated_types", "pydantic_core")


def _renamed(schema: Any, names: dict[str, str]) -> Any:
    """With references to definitions under their new names."""
    if isinstance(schema, list):
        return [_renamed(one, names) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _renamed(one, names) for key, one in schema.items()}
    reference = changed.get("$ref")
    if isinstance(reference, str) and reference.startswith(REFERENCE):
        name = reference.removeprefix(REFERENCE)
        changed["$ref"] = REFERENCE + names.get(name, name)
    return changed


