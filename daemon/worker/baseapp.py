"""Apps written for inference.sh: what their class is given, and what of it is theirs.

Such an app is a `BaseApp` of the package inferencesh, a pydantic model.  The package is never imported
here: an app of its kind has done so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from inspect import Parameter
from types import SimpleNamespace
from typing import Any

from warmd.app import context

METADATA = "metadata"
_SOCKETS = ("socket", "sock")


class NoOutput(RuntimeError):
    """A generator ended and has yielded nothing."""

    __module__ = "warmd"
    """Its name as callers see it."""


class CallContext:
    """What `self.context` is, unless the app has put something else there."""

    @property
    def cancel_requested(self) -> bool:
        """Whether the running call was asked to stop; cheap, and may be read in any thread."""
        return context.cancelled


def is_base_app(cls: type) -> bool:
    return any(map(_is_base, cls.__mro__))


def is_inherited_tool(cls: type, name: str) -> bool:
    """Whether the class has this of pydantic or BaseApp, and not of the app's author."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)
    return owner is not None and (_is_base(owner) or owner.__module__.partition(".")[0] == "pydantic")


def _is_base(cls: type) -> bool:
    return cls.__name__ == "BaseApp" and cls.__module__.partition(".")[0] == "inferencesh"


def equip(instance: Any) -> None:
    """Give a new BaseApp its `logger` and `context`, where it has none of its own."""
    for name, value in (("logger", context.logger), ("context", CallContext())):
        if getattr(instance, name, None) is None:
            try:
                setattr(instance, name, value)
            except Exception:  # a model that is frozen, or forbids what it does not know
                object.__setattr__(instance, name, value)


def is_metadata(parameter: Parameter, annotation: Any, by_name: bool) -> bool:
    """Whether it is what the runtime gives beside the input."""
    if isinstance(annotation, type) and _is_of_package(annotation, "Metadata"):
        return True
    return by_name and parameter.name == METADATA


def is_socket(parameter: Parameter, annotation: Any) -> bool:
    """Whether it makes the function a stream function."""
    named = parameter.name in _SOCKETS and parameter.default is Parameter.empty
    return named or (isinstance(annotation, type) and _is_of_package(annotation, "Socket"))


def _is_of_package(kind: type, name: str) -> bool:
    return kind.__name__ == name and kind.__module__.partition(".")[0] == "inferencesh"


def metadata() -> Any:
    """What the running call, or `setup`, is told about itself: inference.sh's own `Metadata`."""
    kind: Callable[..., Any] | None = getattr(sys.modules.get("inferencesh"), "Metadata", None)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return _with_log(kind or SimpleNamespace)(
        app_id=context.app,
        app_version_id=None,
        worker_id=context.session_id,
        gpu_ids=None if visible is None else [one for one in visible.split(",") if one],
        task_id=context.call_id,
        team_id=None,
        user_id=None,
        session_id=context.session_id,
        request_id=context.request_id,
    )


@cache
def _with_log(base: Any) -> Any:
    def log(self: Any, *words: Any) -> None:  # noqa: ARG001
        """Writes to the session's log."""
        context.logger.info("%s", " ".join(map(str, words)))

    return type(base)("Metadata", (base,), {"log": log, "__module__": __name__})
