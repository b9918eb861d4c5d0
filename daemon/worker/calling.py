"""The calling convention: how a call's one input becomes a function's arguments.

A function takes its input whole when its first parameter is named `input`, or when its only one is a
model or a dataclass; such a one may be given by its name too, where the model has no field of that name.
Otherwise a dict whose keys are its parameters gives them by keyword: `{"by": 2}` for
`incr(self, by=1)`.  Any other input goes whole to a function that has just one parameter without a
default: `predict(self, data)`.  Parameters that are models get instances (`typed`).  What does not fit is
refused before the function is entered, unless a decorator passes on whatever comes: what that adds or
takes away nobody knows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import Parameter
from itertools import islice
from typing import Any, Literal, TypeAlias

from warmd.daemon.worker import baseapp
from warmd.daemon.worker.hints import hints_of
from warmd.daemon.worker.typed import Maker, is_model, is_model_or_union, maker_for, may_have
from warmd.daemon.worker.unfit import MAX_PROBLEMS, Unfit, did_you_mean, safely_quoted, shown

Style = Literal["whole", "either", "keywords", "nothing"]
Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to call one bound function."""

    function: Callable[..., Any]
    name: str
    style: Style
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """Those that a call can give, in their order."""
    required: frozenset[str] = frozenset()
    takes_more: bool = False
    """It has `**keywords`."""
    is_passed_on: bool = False
    """To a decorator that takes whatever comes, and may add to it or take from it."""
    may_be_named: bool = False
    """It takes its input whole, which a dict of nothing but its name cannot be."""
    hints: Mapping[str, Any] = field(default_factory=dict)
    makers: Mapping[str, Maker] = field(default_factory=dict)
    """Of those that are models."""
    given: str = ""
    """The parameter that gets the call's metadata."""
    refusal: str = ""
    """Why no call can be made."""
    title: str = "input"
    """What the whole value is called in errors."""
    needs_work: bool = False
    """More is to be done than to look at the keys, perhaps by the app's code: to make models."""

    def arguments(self, value: Any) -> Arguments:
        """Positional and keyword arguments for an input.  Raises Unfit, and what a model's code raises."""
        if self.refusal:
            raise self._unfit(self.refusal)
        args, kwargs = self._sorted(value)
        return self._made(args, kwargs) if self.needs_work else (args, kwargs)

    def _sorted(self, value: Any) -> Arguments:
        style = self.style
        if style == "whole" and not (self.may_be_named and self._names_parameters(value)):
            return (value,), {}
        if style == "either" and not self._names_parameters(value):
            return (value,), {}
        if value is None:
            value = {}
        elif not isinstance(value, dict):
            raise self._unfit(self._no_dict(value))
        keys, parameters = value.keys(), self.parameters.keys()
        fits = self.required <= keys and (keys <= parameters or self.takes_more)
        if not fits and not self.is_passed_on:
            raise self._unfit(self._misfits(value))
        return (), value

    def _names_parameters(self, value: Any) -> bool:
        """A dict of keyword arguments, for a function that could take it whole as well."""
        if not isinstance(value, dict):
            return False
        return next(iter(self.parameters)) in value and value.keys() <= self.parameters.keys()

    def _no_dict(self, value: Any) -> str:
        if not self.parameters and not self.takes_more:
            return f"takes no input, got {shown(value)}"
        takes = f"takes the parameters {', '.join(self.parameters)}" if self.parameters else "takes keywords"
        return f"{takes}: its input must be a dict of them, got {shown(value)}"

    def _misfits(self, value: dict[Any, Any]) -> str:
        if not self.parameters and not self.takes_more:
            return self._no_dict(value)
        unknown = (key for key in value if key not in self.parameters and not self.takes_more)
        strays = islice(unknown, MAX_PROBLEMS)
        texts = [f"takes no {safely_quoted(key)}{did_you_mean(str(key), self.parameters)}" for key in strays]
        missing = [repr(name) for name in self.parameters if name in self.required and name not in value]
        if missing:
            texts.append(f"is missing {', '.join(missing)}")
        return "; it ".join(texts)

    def _unfit(self, text: str) -> Unfit:
        return Unfit([f"{self.name}() {text}"])

    def _made(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """With models made, names that cannot be given by name in their places, and the metadata."""
        if args:
            args = self._whole(args[0])
            if args and self.given:  # which may come first
                kwargs = {next(iter(self.parameters)): args[0]}
                args = ()
        else:
            kwargs = {**kwargs, **self._models(kwargs)}
            args = self._in_places(kwargs)
        if not all(type(key) is str for key in kwargs):
            stray = next(key for key in kwargs if type(key) is not str)
            raise self._unfit(f"takes named parameters, got the key {safely_quoted(stray)}")
        return args, {**kwargs, self.given: baseapp.metadata()} if self.given else kwargs

    def _whole(self, value: Any) -> tuple[Any, ...]:
        name, parameter = next(iter(self.parameters.items()))
        maker = self.makers.get(name)
        if maker is None:
            return (value,)
        if value is None and parameter.default is not Parameter.empty:
            return ()
        if value is None and is_model(self.hints.get(name)):
            value = {}
        try:
            return (maker(value, self.title),)
        except Unfit as error:
            raise self._unfit_model(error) from error.__cause__

    def _models(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        problems: list[str] = []
        for name, maker in self.makers.items():
            if name in kwargs:
                try:
                    made[name] = maker(kwargs[name], name)
                except Unfit as error:
                    problems += error.problems
        if problems:
            raise self._unfit_model(Unfit(problems))
        return made

    def _unfit_model(self, error: Unfit) -> Unfit:
        return Unfit([f"{self.name}(): {error.problems[0]}", *error.problems[1:]])

    def _in_places(self, kwargs: dict[str, Any]) -> tuple[Any, ...]:
        places = [name for name, one in self.parameters.items() if one.kind is Parameter.POSITIONAL_ONLY]
        given = [name for name in places if name in kwargs]
        if given != places[: len(given)]:
            missing = next(name for name in places if name not in kwargs)
            raise self._unfit(f"is missing {missing!r}, which {given[-1]!r} comes after")
        return tuple(kwargs.pop(name) for name in given)

    def default_arguments(self) -> Arguments:
        """For a call without an input: a parameter that takes it whole and has a default keeps that."""
        if self.style in ("whole", "either") and takes_nothing(self.function):
            return (), {self.given: baseapp.metadata()} if self.given else {}
        return self.arguments(None)


def plan_for(
    function: Callable[..., Any],
    name: str,
    whole_names: tuple[str, ...] = ("input",),
    of_base_app: bool = False,
    owner: type | None = None,
) -> Plan:
    """The plan for a bound function of `owner`.  One without a readable signature takes its input whole."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return Plan(function, name, "whole")
    hints = hints_of(function, owner)
    everything = list(signature.parameters.values())
    given = _metadata_among(everything, hints, of_base_app, name == "setup")
    ours = [one for one in everything if one.name != given and one.kind not in _VARIADIC]
    makers = {one.name: maker for one in ours if (maker := maker_for(hints.get(one.name)))}
    style = _style([one for one in everything if one.name != given], whole_names, hints, of_base_app)
    is_passed_on = _is_passed_on(function)
    refusal = _refusal_of_socket(ours, hints) if of_base_app else ""
    if not is_passed_on and style == "whole":
        refusal = refusal or _refusal_of_others(ours)
    by_place = style == "keywords" and any(one.kind is Parameter.POSITIONAL_ONLY for one in ours)
    takes_more = any(one.kind is Parameter.VAR_KEYWORD for one in everything)
    return Plan(
        function,
        name,
        style,
        {one.name: one for one in ours},
        frozenset(one.name for one in ours if one.default is Parameter.empty),
        takes_more,
        is_passed_on,
        style == "whole" and not of_base_app and _may_be_named(ours[0], makers, hints),
        hints,
        makers,
        given,
        refusal,
        needs_work=bool(makers or given or by_place or takes_more or is_passed_on),
    )


def _is_passed_on(function: Callable[..., Any]) -> bool:
    """Whether what is called is a decorator's, with another signature that takes whatever comes."""
    if not hasattr(function, "__wrapped__"):
        return False
    try:
        own = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # such as that of functools.cache, which changes nothing
        return False
    return any(one.kind in _VARIADIC for one in own.parameters.values())


def _may_be_named(parameter: Parameter, makers: Mapping[str, Maker], hints: Mapping[str, Any]) -> bool:
    return parameter.name in makers and not may_have(hints[parameter.name], parameter.name)


def _metadata_among(
    parameters: list[Parameter], hints: Mapping[str, Any], of_base_app: bool, of_setup: bool
) -> str:
    """The name of the parameter that gets the metadata.

    A plain app's only beside a model, and where it says nothing of its type.
    """
    for number, one in enumerate(parameters):
        beside_model = is_model_or_union(hints.get(parameters[0].name)) and _says_nothing(one, hints)
        by_name = (number > 0 and (of_base_app or beside_model)) or (of_setup and of_base_app)
        if baseapp.is_metadata(one, hints.get(one.name), by_name):
            return one.name
    return ""


def _says_nothing(parameter: Parameter, hints: Mapping[str, Any]) -> bool:
    return parameter.default is Parameter.empty and hints.get(parameter.name, Any) is Any


def _style(
    parameters: list[Parameter], whole_names: tuple[str, ...], hints: Mapping[str, Any], of_base_app: bool
) -> Style:
    if not parameters:
        return "nothing"
    first, *others = parameters
    if first.kind not in _POSITIONAL:
        return "keywords"
    alone = not others and (of_base_app or is_model_or_union(hints.get(first.name)))
    if first.name in whole_names or alone:
        return "whole"
    optional = all(one.default is not Parameter.empty or one.kind in _VARIADIC for one in others)
    if first.default is not Parameter.empty or not optional:
        return "keywords"
    return "whole" if first.kind is Parameter.POSITIONAL_ONLY else "either"


def _refusal_of_socket(parameters: list[Parameter], hints: Mapping[str, Any]) -> str:
    for one in parameters:
        if baseapp.is_socket(one, hints.get(one.name)):
            return f"takes a socket ({one.name!r}): stream functions of inference.sh cannot be called here"
    return ""


def _refusal_of_others(parameters: list[Parameter]) -> str:
    """Of a function that takes its input whole."""
    names = ", ".join(repr(one.name) for one in parameters[1:] if one.default is Parameter.empty)
    if not names:
        return ""
    return f"takes its input whole, as {parameters[0].name!r}, and nothing can be given for {names}"


def plan_for_setup(
    setup: Callable[..., Any], of_base_app: bool = False, owner: type | None = None
) -> Plan:
    """The plan for `setup`: a lone parameter takes the whole value, whatever its name and default."""
    plan = plan_for(setup, "setup", ("config", "setup", "input"), of_base_app, owner)
    plan = replace(plan, title="setup")
    if plan.style in ("keywords", "either") and len(plan.parameters) == 1 and not plan.takes_more:
        (parameter,) = plan.parameters.values()
        if parameter.kind in _POSITIONAL:
            plan = replace(plan, style="whole")
    if of_base_app and plan.style == "whole" and not plan.makers:
        return replace(plan, makers={next(iter(plan.parameters)): _or_empty}, needs_work=True)
    return plan


def _or_empty(value: Any, _name: str) -> Any:
    """The setup value of an app of inference.sh, which looks into it without asking whether there is one."""
    return {} if value is None else value


def takes_nothing(function: Callable[..., Any]) -> bool:
    """Whether a function can be called without arguments."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def takes_argument(function: Callable[..., Any]) -> bool:
    """Whether a hook can be given one positional argument."""
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        return False
    return True
