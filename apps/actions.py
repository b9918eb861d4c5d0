"""Functions that can be named in the input: `run({"action": "click", "selector": "#ok"})`.

The same as calling the function `click` with `{"selector": "#ok"}`; for clients that send everything to
one function, as those written for inference.sh do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from warmd.apps.options import did_you_mean

HOOKS = frozenset({"prepare", "setup", "unload", "on_cancel", "park", "unpark", "run"})


class Actions:
    """Base of apps whose public functions are actions."""

    default_action: ClassVar[str | None] = None
    """What an input without an `action` means; None: each must name one."""

    def run(self, input: Mapping[str, Any]) -> Any:
        """Performs `input["action"]`, with the other keys as its options.

        Raises ValueError for an action that there is not, and TypeError for options that it does not take.
        """
        if not isinstance(input, Mapping):
            raise TypeError(f"the input must be a dict with an 'action', not {str(input)[:40]!r}")
        options = dict(input)
        function = self._action(options.pop("action", self.default_action))
        _check(function, options)
        return function(**options)

    def init(self) -> dict[str, Any]:
        """Does nothing but have the session up, as managers of sessions want it; names the actions."""
        return {"actions": self._actions()}

    def _action(self, name: Any) -> Any:
        actions = self._actions()
        if name in actions:
            return getattr(self, name)
        what = "the input names no action" if name is None else f"unknown action {str(name)[:40]!r}"
        raise ValueError(f"{what}: {did_you_mean(name, actions)}")

    @classmethod
    def _actions(cls) -> list[str]:
        return [
            name
            for name in dir(cls)
            if not name.startswith("_") and name not in HOOKS and inspect.isfunction(getattr(cls, name))
        ]


def _check(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raises TypeError for options that the function does not take, or lacks.

    Who has misspelt one that is needed hears of what was given, not only of what is missing.
    """
    signature, action = inspect.signature(function), f"the action {function.__name__!r}"
    named = [one.name for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    others = [name for name in options if isinstance(name, str) and name not in named]
    if others and len(named) == len(signature.parameters):
        lacking = [name for name in named if name not in options]
        meant = did_you_mean(others[0], lacking or named)
        raise TypeError(f"{action} has no option {others[0][:40]!r}: {meant}")
    try:
        signature.bind(**options)
    except TypeError as error:
        given = f", but {' and '.join(repr(name[:40]) for name in others)} was given" if others else ""
        raise TypeError(f"{action}: {error}{given}") from None
