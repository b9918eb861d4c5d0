"""Typed inputs: a parameter annotated with a model or a dataclass gets an instance of it.

Models are pydantic's, and whatever else says how pydantic is to make it; pydantic is never imported
here, for an app that has models has imported it.  Plain annotations, such as `by: int`, are not
enforced: a parameter without a model in its annotation gets what was given.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Any, TypeAlias, get_args, get_origin

from warmd.daemon.worker.hints import hints_of, is_union, without_extras
from warmd.daemon.worker.unfit import Unfit, closest, did_you_mean, safely_quoted, shown
from warmd.protocol.files import File

Maker: TypeAlias = Callable[[Any, str], Any]
"""Makes what an annotation asks for of a value; the text names the value.  Raises Unfit."""

_LISTS = (list, Sequence)
_DICTS = (dict, Mapping)


def maker_for(annotation: Any) -> Maker | None:
    """How to make what `annotation` asks for; None when it asks for no model."""
    if _mentions(annotation, is_known_to_pydantic):
        return _Validated(annotation)
    if not _mentions(annotation, _is_dataclass):
        return None
    plain = without_extras(annotation)
    if _is_dataclass(plain):
        return _fields_of(plain).make
    origin, args = get_origin(plain), get_args(plain)
    if is_union(plain):
        return partial(_one_of, [maker for arg in args if (maker := maker_for(arg)) is not None])
    if origin in _LISTS and (maker := maker_for(args[0])):
        return partial(_list_of, maker)
    if origin in _DICTS and (maker := maker_for(args[-1])):
        return partial(_dict_of, maker)
    return None


def is_model(annotation: Any) -> bool:
    """Whether it is a class of named fields, made from a dict."""
    plain = without_extras(annotation)
    return _is_dataclass(plain) or (isinstance(plain, type) and hasattr(plain, "__pydantic_fields__"))


def is_model_or_union(annotation: Any) -> bool:
    """The same, or one of several, or None."""
    plain = without_extras(annotation)
    return is_model(plain) or (is_union(plain) and any(map(is_model, get_args(plain))))


def is_known_to_pydantic(annotation: Any) -> bool:
    """Whether pydantic is loaded and the class says how it is to be made: a model is such a class."""
    if "pydantic" not in sys.modules or not isinstance(annotation, type):
        return False
    return hasattr(annotation, "__get_pydantic_core_schema__") or hasattr(annotation, "__pydantic_fields__")


def _is_dataclass(annotation: Any) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def _mentions(annotation: Any, is_wanted: Callable[[Any], bool]) -> bool:
    plain = without_extras(annotation)
    return is_wanted(plain) or any(_mentions(arg, is_wanted) for arg in get_args(plain))


class _Validated:
    """By pydantic."""

    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation

    @cached_property
    def _adapter(self) -> Any:
        adapter: Any = sys.modules["pydantic"].TypeAdapter
        if isinstance(without_extras(self._annotation), type):
            return adapter(self._annotation)
        return adapter(self._annotation, config={"arbitrary_types_allowed": True})

    def __call__(self, value: Any, name: str) -> Any:
        invalid: Any = sys.modules["pydantic"].ValidationError
        try:
            return self._adapter.validate_python(value)
        except invalid as error:
            paths = _with_paths(value)
            if paths is value:
                raise Unfit(self._problems(error, value, name)) from None
        try:
            return self._adapter.validate_python(paths)
        except invalid as error:
            raise Unfit(self._problems(error, paths, name)) from None

    def _problems(self, error: Any, value: Any, name: str) -> list[str]:
        strays = self._strays(value)
        return [
            _problem(one, name, strays)
            for one in error.errors(include_url=False, include_context=False, include_input=True)
        ]

    def _strays(self, value: Any) -> list[str]:
        """The keys that a model does not know: one may be a field's, misspelt."""
        fields: Any = getattr(without_extras(self._annotation), "__pydantic_fields__", None)
        if not isinstance(value, dict) or not isinstance(fields, dict):
            return []
        known = {*fields, *(field.alias for field in fields.values())}
        return [key for key in value if isinstance(key, str) and key not in known]


def _problem(error: Mapping[str, Any], name: str, strays: list[str]) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"])
    if error["type"] != "missing":
        return f"{name}{path}: {error['msg']}, got {safely_quoted(error['input'])}"
    stray = closest(str(error["loc"][-1]), strays) if len(error["loc"]) == 1 else None
    return f"{name}{path}: {error['msg']}" + (f", but {stray!r} was given" if stray else "")


def _with_paths(value: Any) -> Any:
    """The same with each `File` as what inference.sh's own class takes; the value itself if it has none."""
    if isinstance(value, File):
        return {"path": value.path, "content_type": value.content_type, "filename": value.filename}
    if isinstance(value, dict):
        changed: Any = {key: _with_paths(item) for key, item in value.items()}
        return changed if any(changed[key] is not item for key, item in value.items()) else value
    if isinstance(value, (list, tuple)):
        changed = [_with_paths(item) for item in value]
        return changed if any(map(_differ, changed, value)) else value
    return value


def _differ(one: Any, other: Any) -> bool:
    return one is not other


@cache
def _fields_of(kind: type) -> _Fields:
    return _Fields(kind)


class _Fields:
    """How to make a dataclass of a dict."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    @cached_property
    def _names(self) -> dict[str, bool]:
        """Each field that can be given, and whether it must be."""
        missing = dataclasses.MISSING
        return {
            field.name: field.default is missing and field.default_factory is missing
            for field in dataclasses.fields(self._kind)
            if field.init
        }

    @cached_property
    def _makers(self) -> dict[str, Maker]:
        hints = hints_of(self._kind)
        makers = {name: maker_for(hints.get(name)) for name in self._names}
        return {name: maker for name, maker in makers.items() if maker is not None}

    def make(self, value: Any, name: str) -> Any:
        if isinstance(value, self._kind):
            return value
        if not isinstance(value, dict):
            raise Unfit([f"{name}: {self._kind.__name__} is made of a dict, got {shown(value)}"])
        problems = [
            f"{name}: {self._kind.__name__} has no {safely_quoted(key)}{did_you_mean(str(key), self._names)}"
            for key in value
            if key not in self._names
        ]
        problems += [
            f"{name}.{field}: missing" for field, must in self._names.items() if must and field not in value
        ]
        made = dict(value)
        for field, maker in self._makers.items():
            if field in made:
                try:
                    made[field] = maker(made[field], f"{name}.{field}")
                except Unfit as error:
                    problems += error.problems
        if problems:
            raise Unfit(problems)
        try:
            return self._kind(**made)
        except Exception as error:  # its own __post_init__ may refuse
            raise Unfit([f"{name}: {type(error).__name__}: {error}"]) from error


def _one_of(makers: list[Maker], value: Any, name: str) -> Any:
    """A dict becomes the first that it fits; anything else stays as it is."""
    if not isinstance(value, dict):
        return value
    first: Unfit | None = None
    for maker in makers:
        try:
            return maker(value, name)
        except Unfit as error:
            first = first or error
    assert first is not None, "a union is only asked for with a maker"
    raise first


def _list_of(maker: Maker, value: Any, name: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise Unfit([f"{name}: expected a list, got {shown(value)}"])
    return [maker(item, f"{name}[{index}]") for index, item in enumerate(value)]


def _dict_of(maker: Maker, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise Unfit([f"{name}: expected a dict, got {shown(value)}"])
    return {key: maker(item, f"{name}[{safely_quoted(key)}]") for key, item in value.items()}
