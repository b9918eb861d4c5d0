"""Typed inputs: a parameter annotated with a model or a dataclass gets an instance of it.

Models are pydantic's, and whatever else says how pydantic is to make it; pydantic is never imported
here, for an app that has models has imported it.  Plain annotations, such as `by: int`, are not
enforced: a parameter without a model in its annotation gets what was given.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar
from functools import cache, cached_property, partial
from inspect import Parameter
from itertools import islice
from typing import Any, Literal, TypeAlias, get_args, get_origin, is_typeddict

from warmd.daemon.worker.hints import hints_of, is_union, without_extras
from warmd.daemon.worker.unfit import (
    MAX_PROBLEMS,
    Unfit,
    WrongKind,
    closest,
    did_you_mean,
    safely_quoted,
    shown,
)
from warmd.protocol.files import File

Maker: TypeAlias = Callable[[Any, str], Any]
"""Makes what an annotation asks for of a value; the text names the value.  Raises Unfit."""

BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_LISTS = (list, Sequence, tuple)


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
        made = [(arg, maker_for(arg)) for arg in args]
        makers = [maker for _, maker in made if maker is not None]
        return partial(_one_of, makers, [arg for arg, maker in made if maker is None])
    if origin is tuple and args[-1] is not Ellipsis:
        return partial(_places_of, [maker_for(arg) for arg in args])
    if origin in _MAKERS and (maker := maker_for(args[_MAKERS[origin][0]])):
        return partial(_MAKERS[origin][1], maker)
    return None


def is_model(annotation: Any) -> bool:
    """Whether it is a class of named fields, made from a dict."""
    plain = without_extras(annotation)
    return _is_dataclass(plain) or (isinstance(plain, type) and hasattr(plain, "__pydantic_fields__"))


def is_model_or_union(annotation: Any) -> bool:
    """The same, or one of several, or None."""
    plain = without_extras(annotation)
    return is_model(plain) or (is_union(plain) and any(map(is_model, get_args(plain))))


def may_have(annotation: Any, key: str) -> bool:
    """Whether a dict with nothing but this key may be a value of it; False only where that is certain."""
    plain = without_extras(annotation)
    if plain is type(None) or get_origin(plain) in _LISTS:
        return False
    if is_union(plain):
        return any(may_have(arg, key) for arg in get_args(plain))
    fields: Any = getattr(plain, "__pydantic_fields__", None)
    if not isinstance(fields, dict):
        return not _is_dataclass(plain) or key in _fields_of(plain).names
    names = {*fields, *(name for one in fields.values() for name in (one.alias, one.validation_alias))}
    takes_all = getattr(plain, "model_config", {}).get("extra") == "allow"
    # A validator of its own may take what no field says; so does a RootModel.
    own = getattr(plain, "__pydantic_decorators__", None)
    is_odd = getattr(own, "model_validators", True) or getattr(plain, "__pydantic_root_model__", False)
    has_paths = not all(isinstance(one, str | None) for one in names)
    return takes_all or is_odd or has_paths or key in names


def is_known_to_pydantic(annotation: Any) -> bool:
    """Whether pydantic is loaded and the class says how it is to be made: a model is such a class."""
    if "pydantic" not in sys.modules or not isinstance(annotation, type):
        return False
    return hasattr(annotation, "__get_pydantic_core_schema__") or hasattr(annotation, "__pydantic_fields__")


def _is_dataclass(annotation: Any) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def _mentions(annotation: Any, is_wanted: Callable[[Any], bool]) -> bool:
    plain = without_extras(annotation)
    if get_origin(plain) in (type, Callable, Literal):  # of which no call can give one
        return False
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
        strays = (key for key in value if isinstance(key, str) and key not in known)
        return list(islice(strays, MAX_PROBLEMS))


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


def parameters_of(kind: type) -> list[Parameter]:
    """What makes a dataclass: its fields, `InitVar`s, and what an `__init__` of its own takes."""
    initializer: Any = kind.__init__  # type: ignore[misc]
    return list(inspect.signature(initializer).parameters.values())[1:]


def field_hints(kind: type) -> dict[str, Any]:
    """The annotations of `parameters_of`, as far as they are known."""
    hints = {**hints_of(kind.__init__), **hints_of(kind)}  # type: ignore[misc]
    return {name: one.type if isinstance(one, InitVar) else one for name, one in hints.items()}


def forget() -> None:
    """Classes have changed: what was known of them may not hold any more."""
    _fields_of.cache_clear()


@cache
def _fields_of(kind: type) -> _Fields:
    return _Fields(kind)


class _Fields:
    """How to make a dataclass of a dict."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    @cached_property
    def names(self) -> dict[str, bool]:
        """Each name that can be given, and whether it must be."""
        named = (one for one in parameters_of(self._kind) if one.kind in BY_NAME)
        return {one.name: one.default is Parameter.empty for one in named}

    @cached_property
    def _takes_more(self) -> bool:
        return any(one.kind is Parameter.VAR_KEYWORD for one in parameters_of(self._kind))

    @cached_property
    def _makers(self) -> dict[str, Maker]:
        hints = field_hints(self._kind)
        makers = {name: maker_for(hints.get(name)) for name in self.names}
        return {name: maker for name, maker in makers.items() if maker is not None}

    def make(self, value: Any, name: str) -> Any:
        if isinstance(value, self._kind):
            return value
        if not isinstance(value, dict):
            raise WrongKind([f"{name}: {self._kind.__name__} is made of a dict, got {shown(value)}"])
        strays = [key for key in value if key not in self.names and not self._takes_more]
        problems = [
            f"{name}: {self._kind.__name__} has no {safely_quoted(key)}{did_you_mean(str(key), self.names)}"
            for key in strays[:MAX_PROBLEMS]
        ]
        problems += [f"{name}: {self._kind.__name__} has no such field"] * (len(strays) - MAX_PROBLEMS)
        problems += [
            f"{name}.{field}: missing" for field, must in self.names.items() if must and field not in value
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


def _one_of(makers: list[Maker], others: list[Any], value: Any, name: str) -> Any:
    """The first that the value fits; one that is nothing like any of them stays as it is."""
    misfits: list[Unfit] = []
    for maker in makers:
        try:
            return maker(value, name)
        except WrongKind:
            continue
        except Unfit as error:
            misfits.append(error)
    if misfits and not any(_allows(one, value) for one in others):
        raise misfits[0]
    return value


def _allows(annotation: Any, value: Any) -> bool:
    """Whether it says nothing against such a dict or list."""
    plain = without_extras(annotation)
    kind = get_origin(plain) or plain
    return kind is Any or is_typeddict(kind) or (isinstance(kind, type) and isinstance(value, kind))


def _element(maker: Maker | None, value: Any, name: str) -> Any:
    try:
        return value if maker is None else maker(value, name)
    except WrongKind as error:  # what holds it is of the right one
        raise Unfit(error.problems) from None


def _list_of(maker: Maker, value: Any, name: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise WrongKind([f"{name}: expected a list, got {shown(value)}"])
    return [_element(maker, item, f"{name}[{index}]") for index, item in enumerate(value)]


def _tuple_of(maker: Maker, value: Any, name: str) -> tuple[Any, ...]:
    return tuple(_list_of(maker, value, name))


def _places_of(makers: list[Maker | None], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or len(value) != len(makers):
        raise WrongKind([f"{name}: expected {len(makers)} elements, got {shown(value)}"])
    places = enumerate(zip(makers, value, strict=True))
    return tuple(_element(maker, item, f"{name}[{at}]") for at, (maker, item) in places)


def _dict_of(maker: Maker, value: Any, name: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise WrongKind([f"{name}: expected a dict, got {shown(value)}"])
    return {key: _element(maker, item, f"{name}[{safely_quoted(key)}]") for key, item in value.items()}


_MAKERS: dict[Any, tuple[int, Callable[[Maker, Any, str], Any]]] = {
    list: (0, _list_of),
    Sequence: (0, _list_of),
    tuple: (0, _tuple_of),
    dict: (-1, _dict_of),
    Mapping: (-1, _dict_of),
}
"""By origin: which argument says what each element is."""
