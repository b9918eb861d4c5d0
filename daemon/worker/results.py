"""What a function gave back, in plain values: models and dataclasses become dicts.

Only what no packer knows comes here (`values.fall_back_on`), so plain results pay nothing.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import sys
from collections.abc import Mapping
from typing import Any

from warmd.protocol.files import File

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_TOLD_AS_TEXT = frozenset(
    {"datetime", "decimal", "ipaddress", "pathlib", "pydantic", "pydantic_core", "uuid"}
)
"""Where the types of a model's fields are from that JSON has no word for."""


def plain(value: Any) -> Any:
    """What travels in place of a model, a dataclass, or a file of inference.sh; else NotImplemented."""
    kind = type(value)
    if _is_foreign_file(kind):
        return _file(value)
    serializer: Any = getattr(kind, "__pydantic_serializer__", None)
    if serializer is not None:
        dumped = value.model_dump() if hasattr(kind, "model_dump") else serializer.to_python(value)
        return _mended(dumped, value)
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    return NotImplemented


def _is_foreign_file(kind: type) -> bool:
    package: Any = sys.modules.get("inferencesh")
    base = getattr(package, "File", None)
    return isinstance(base, type) and issubclass(kind, base)


def _file(value: Any) -> File | str:
    """The file, or its address where it is nowhere here.  Raises FileNotFoundError."""
    if value.path is None and value.uri is not None:
        return str(value.uri)
    return File(os.fspath(value.path), value.content_type or None, value.filename or None)


def _mended(dumped: Any, original: Any) -> Any:
    """What pydantic made of a value, with files as such and without what cannot travel."""
    kind = type(original)
    if _is_foreign_file(kind):
        return _file(original) if type(dumped) is dict else dumped
    if type(dumped) is dict:
        inner = _inside(original)
        return {_leaf(key): _mended(item, inner.get(key, item)) for key, item in dumped.items()}
    if type(dumped) in (list, tuple):
        if _PLAIN.issuperset(map(type, dumped)):
            return dumped
        same = isinstance(original, (list, tuple)) and len(original) == len(dumped)
        originals = original if same else dumped
        return type(dumped)(map(_mended, dumped, originals))
    if type(dumped) in (set, frozenset):
        return type(dumped)(map(_leaf, dumped))
    return _leaf(dumped)


def _inside(original: Any) -> Mapping[Any, Any]:
    """The values of a model's fields by the names that they are dumped under, or a dict's."""
    if isinstance(original, dict):
        return original
    kind = type(original)
    fields: Any = getattr(kind, "__pydantic_fields__", None)
    if not isinstance(fields, dict):
        return vars(original) if dataclasses.is_dataclass(kind) and hasattr(original, "__dict__") else {}
    found = {**vars(original), **(getattr(original, "__pydantic_extra__", None) or {})}
    aliases = {field.serialization_alias: name for name, field in fields.items() if field.serialization_alias}
    return found | {alias: found[name] for alias, name in aliases.items() if name in found}


def _leaf(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if not isinstance(value, enum.Enum) and kind.__module__.partition(".")[0] not in _TOLD_AS_TEXT:
        return value
    jsonable: Any = sys.modules["pydantic_core"]
    return jsonable.to_jsonable_python(value)
