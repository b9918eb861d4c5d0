"""The calling convention: how a call's one input becomes a function's arguments.

A function takes its input whole when its first parameter is named `input`.  Otherwise a dict whose
keys are its parameters gives them by keyword: `{"by": 2}` for `incr(self, by=1)`.  Any other input
goes whole to a function that has just one parameter without a default: `predict(self, data)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any, Literal, NamedTuple

from warmd.protocol.errors import quoted

Style = Literal["whole", "either", "keywords", "nothing"]

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Plan(NamedTuple):
    """How to call one bound function."""

    function: Callable[..., Any]
    name: str
    style: Style
    parameters: tuple[str, ...]

    def arguments(self, value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for an input.  Raises TypeError."""
        if self.style == "whole" or (self.style == "either" and not self._names_parameters(value)):
            return (value,), {}
        if value is None:
            return (), {}
        if self.style == "nothing":
            if value == {}:
                return (), {}
            raise TypeError(f"{self.name}() takes no input, got {_shown(value)}")
        if not isinstance(value, dict):
            raise TypeError(
                f"{self.name}() takes the parameters {', '.join(self.parameters)}: "
                f"its input must be a dict of them, got {_shown(value)}"
            )
        strange = [key for key in value if not isinstance(key, str)]
        if strange:
            raise TypeError(f"{self.name}() takes named parameters, got the key {quoted(strange[0], 80)}")
        return (), value

    def _names_parameters(self, value: Any) -> bool:
        """A dict of keyword arguments, for a function that could take it whole as well."""
        return isinstance(value, dict) and self.parameters[0] in value and set(value) <= set(self.parameters)

    def default_arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """For a call without an input: a parameter that takes it whole and has a default keeps that."""
        if self.style not in ("whole", "either") or takes_nothing(self.function):
            return (), {}
        return (None,), {}


def plan_for(function: Callable[..., Any], name: str, whole_names: tuple[str, ...] = ("input",)) -> Plan:
    """The plan for a bound function.  One without a readable signature takes its input whole."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Plan(function, name, "whole", ())
    names = tuple(parameter.name for parameter in parameters)
    if not parameters:
        return Plan(function, name, "nothing", names)
    return Plan(function, name, _style(parameters, whole_names), names)


def _style(parameters: list[Parameter], whole_names: tuple[str, ...]) -> Style:
    first, *others = parameters
    if first.kind not in _POSITIONAL:
        return "keywords"
    if first.name in whole_names:
        return "whole"
    optional = all(one.default is not Parameter.empty or one.kind in _VARIADIC for one in others)
    if first.default is not Parameter.empty or not optional:
        return "keywords"
    return "whole" if first.kind is Parameter.POSITIONAL_ONLY else "either"


def plan_for_setup(setup: Callable[..., Any]) -> Plan:
    """The plan for `setup`: a lone parameter takes the whole value, whatever its name and default."""
    plan = plan_for(setup, "setup", ("config", "setup", "input"))
    if plan.style in ("keywords", "either") and len(plan.parameters) == 1:
        (parameter,) = inspect.signature(setup).parameters.values()
        if parameter.kind in _POSITIONAL:
            return plan._replace(style="whole")
    return plan


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


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict with the keys {quoted(list(value), 200)}"
    return f"{type(value).__name__} {quoted(value, 80)}"
