"""What an app can do, in plain values: its functions, and the JSON Schema of what each takes and gives.

All that is said is read from the class: no instance is made, and no code of a function runs.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, get_args, get_origin

from warmd.daemon.worker.calling import Plan, plan_for, plan_for_setup
from warmd.daemon.worker.docstrings import first_paragraph, texts_of
from warmd.daemon.worker.hints import RETURN
from warmd.daemon.worker.jsontypes import REFERENCE, Schema, Schemas, default_of, object_of
from warmd.daemon.worker.load import App, is_async
from warmd.daemon.worker.text import clean, message_of, type_name
from warmd.protocol.values import pack

MAX_BYTES = 256 * 1024
"""Of the whole, packed."""
MAX_FUNCTION_BYTES = 64 * 1024
MOST_OF_COUNTS_BYTES = 16
"""What the list's length and `left_out` may need more than when they are 0."""
MAX_DOC_BYTES = 8 * 1024
MAX_ERROR_BYTES = 1024
_STREAMS = (AsyncGenerator, AsyncIterator, Generator, Iterator)


def describe(app: App) -> dict[str, Any]:
    """An app's name, docs and functions, as plain JSON of at most `MAX_BYTES` packed.  Never raises.

    Keys: `app`, `summary` (the first paragraph of `doc`), `doc`, `default_function` (empty: there is
    none), `functions`, `setup_schema` (None where `setup` takes nothing), and `left_out`, the number of
    functions that had no room.  A function has `name`, `summary`, `doc`, `input_schema`,
    `output_schema` (None where nothing is said), `streams`, `async`, and `error` where it cannot be
    called or looked at.
    """
    doc = _doc_of(app.cls)
    names = [name for name in app.functions if app.named(name) == name]
    described: dict[str, Any] = {
        "app": app.name,
        "summary": first_paragraph(doc),
        "doc": doc,
        "default_function": app.default_function,
        "functions": [],
        "setup_schema": _setup_schema(app),
        "left_out": 0,
    }
    described["functions"] = _fitting(app, names, MAX_BYTES - len(pack(described)) - MOST_OF_COUNTS_BYTES)
    described["left_out"] = len(names) - len(described["functions"])
    return described


def _fitting(app: App, names: list[str], room: int) -> list[dict[str, Any]]:
    """The functions, described for as long as there is room, then only named, then left out."""
    least = [len(pack(_without_room(name))) for name in names]
    spare = room - sum(least)
    kept: list[dict[str, Any]] = []
    for name, bare_size in zip(names, least, strict=True):
        entry = _described(app, name) if spare > 0 else _without_room(name)
        size = len(pack(entry))
        if size - bare_size > max(spare, 0):
            entry, size = _without_room(name), bare_size
        if size > room:
            break
        kept.append(entry)
        spare -= size - bare_size
        room -= size
    return kept


def _without_room(name: str) -> dict[str, Any]:
    return _bare(name) | {"error": "there is no room for its description"}


def _described(app: App, name: str) -> dict[str, Any]:
    entry = _bare(name)
    try:
        function = _bound(app.cls, name)
        entry["doc"] = _doc_of(function)
        entry["summary"] = first_paragraph(entry["doc"])
        entry["async"] = is_async(getattr(app.cls, name))
        plan = plan_for(function, name, of_base_app=app.is_base_app, owner=app.cls)
        entry["streams"] = _is_stream(function, plan)
        entry["output_schema"] = _output_schema(plan)
        if plan.refusal:
            entry["error"] = f"{name}() {plan.refusal}"
        else:
            entry["input_schema"] = _input_schema(plan, texts_of(entry["doc"], plan.parameters))
        entry = _as_json(entry)
        size = len(pack(entry))
    except Exception as error:  # annotations, defaults and docs are somebody's code
        return _bare(name) | {"error": _told(error)}
    if size > MAX_FUNCTION_BYTES:
        return _bare(name) | {"error": f"its description has {size} bytes, the limit is {MAX_FUNCTION_BYTES}"}
    return entry


def _bare(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "summary": "",
        "doc": "",
        "input_schema": {},
        "output_schema": None,
        "streams": False,
        "async": False,
    }


def _told(error: Exception) -> str:
    return clean(f"{type_name(error)}: {message_of(error)}", MAX_ERROR_BYTES)


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(value), parse_constant=lambda _: None)
    return plain


class _Nobody:
    """What functions are bound to, where there is no instance."""


def _bound(cls: type, name: str) -> Callable[..., Any]:
    raw = inspect.getattr_static(cls, name)
    bound: Callable[..., Any] = raw.__get__(_Nobody(), cls) if hasattr(type(raw), "__get__") else raw
    return bound


def _doc_of(documented: Any) -> str:
    try:
        # Not inspect.getdoc of a class, which inherits that of BaseApp or of object.
        own = documented.__dict__.get("__doc__") if isinstance(documented, type) else documented.__doc__
        return clean(inspect.cleandoc(own), MAX_DOC_BYTES) if isinstance(own, str) else ""
    except Exception:
        return ""


def _is_stream(function: Callable[..., Any], plan: Plan) -> bool:
    inner = inspect.unwrap(function)
    is_generator = inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner)
    return is_generator or get_origin(plan.hints.get(RETURN)) in _STREAMS


def _output_schema(plan: Plan) -> Schema | None:
    """Of what is returned, or of each thing that is yielded."""
    if RETURN not in plan.hints:
        return None
    annotation, schemas = plan.hints[RETURN], Schemas("serialization")
    if get_origin(annotation) in _STREAMS:
        annotation = get_args(annotation)[0]
    return _with_definitions(schemas.of(annotation), schemas)


def _input_schema(plan: Plan, texts: dict[str, str]) -> Schema:
    """Of the one input that a call has."""
    schemas = Schemas("validation")
    properties = {name: _of_parameter(plan, name, schemas, texts) for name in plan.parameters}
    if plan.style == "whole":
        return _with_definitions(next(iter(properties.values()), {}), schemas)
    required = [name for name in plan.parameters if name in plan.required]
    named = object_of(properties, required)
    if plan.takes_more and plan.style != "either":  # of which a dict with more goes whole to the first
        named["additionalProperties"] = True
    if plan.style == "either":
        first = next(iter(plan.parameters))
        named = {"anyOf": [named, schemas.of(plan.hints.get(first, Any))]}
    return _with_definitions(named, schemas)


def _of_parameter(plan: Plan, name: str, schemas: Schemas, texts: dict[str, str]) -> Schema:
    schema = schemas.of(plan.hints.get(name, Any)) | default_of(plan.parameters[name].default)
    return {**schema, "description": texts[name]} if name in texts and "description" not in schema else schema


def _with_definitions(schema: Schema, schemas: Schemas) -> Schema:
    """The whole of it, with the fields of a model at the top where it is one."""
    if "$ref" in schema:
        named = schemas.defs[schema["$ref"].removeprefix(REFERENCE)]
        schema = named | {key: value for key, value in schema.items() if key != "$ref"}
    defs = dict(schemas.defs)
    while unused := [name for name in defs if not _is_used(name, schema, defs)]:
        for name in unused:
            del defs[name]
    return {**schema, "$defs": defs} if defs else schema


def _is_used(name: str, schema: Schema, defs: dict[str, Schema]) -> bool:
    others = [one for other, one in defs.items() if other != name]
    return f'"{REFERENCE}{name}"' in json.dumps([schema, *others])


def _setup_schema(app: App) -> Schema | None:
    if not callable(getattr(app.cls, "setup", None)):
        return None
    try:
        setup = _bound(app.cls, "setup")
        plan = plan_for_setup(setup, app.is_base_app, app.cls)
        if not plan.parameters and not plan.takes_more:
            return None
        schema = _input_schema(plan, texts_of(_doc_of(setup), plan.parameters))
        schema = _as_json(schema)
        return schema if len(pack(schema)) <= MAX_FUNCTION_BYTES else {}
    except Exception:
        return {}
