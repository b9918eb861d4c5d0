"""Finds an app's class and says which of its functions may be called, and how.

An app is async when any public function or hook of its instance is; then all of it runs in one event loop.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from warmd.daemon.worker import baseapp
from warmd.daemon.worker.calling import Plan, plan_for
from warmd.daemon.worker.unfit import Unfit, did_you_mean
from warmd.protocol.messages import Body
from warmd.protocol.work import AppSpec

PREPARE = "prepare"
"""A hook of the class, called before there is an instance."""
HOOKS = ("setup", "unload", "on_cancel", "park", "unpark", PREPARE)
"""What an app's author writes to be called by the worker, and by nobody else."""


class PrepareError(Exception):
    """The app's `prepare` has raised what is its cause."""


class App:
    """An app's class, and its instance once `make` was called.

    With a default function a call of `run` means that one, also where the class has a `run` of its own.
    Raises ImportError for a default function that is not there, TypeError for hooks that cannot be used.
    """

    def __init__(self, cls: type, name: str, default_function: str = "") -> None:
        self.cls = cls
        self.name = name
        self.is_base_app = baseapp.is_base_app(cls)
        self.prepares = _check_hooks(cls, name, self.is_base_app)
        """It has a `prepare`."""
        own = public_functions(cls)
        if default_function and default_function not in own:
            raise ImportError(
                f"app {name} has no function {default_function!r}, which is to be its default_function"
                f"{did_you_mean(default_function, own)}"
            )
        self._default_asked = default_function
        self.default_function = default_function or ("run" if "run" in own else "")
        self.functions = sorted({*own, "run"}) if default_function else own
        """The names that clients may call, sorted."""
        members = [*own, *(hook for hook in HOOKS if _has_hook(cls, hook))]
        self.is_async = any(is_async(getattr(cls, member)) for member in members)
        self._instance: Any = None
        self._plans: dict[str, Plan] = {}

    def prepare(self) -> None:
        """Runs the class's `prepare`, if it has one.  Raises PrepareError."""
        if self.prepares:
            try:
                getattr(self.cls, PREPARE)()
            except BaseException as error:
                raise PrepareError from error

    def make(self) -> None:
        """Makes the instance; whatever the class's constructor raises comes through."""
        self._instance = self.cls()
        if self.is_base_app:
            baseapp.equip(self._instance)

    @property
    def instance(self) -> Any:
        return self._instance

    def hook(self, name: str) -> Callable[..., Any] | None:
        """The instance's `setup`, `unload`, `on_cancel`, `park` or `unpark`, if it has one."""
        if not _has_hook(self.cls, name):
            return None
        bound: Callable[..., Any] = getattr(self._instance, name)
        return bound

    def again(self) -> App:
        """What it is now that its class was changed, with the instance that there is."""
        app = App(self.cls, self.name, self._default_asked)
        app._instance = self._instance
        return app

    def plan(self, function: str) -> Plan:
        """How to call `function`.  Raises Unfit for one that is not public."""
        plan = self._plans.get(function)
        if plan is None:
            if function not in self.functions:
                hint = did_you_mean(function, self.functions)
                raise Unfit([f"app {self.name} has no function {function!r}{hint}"])
            name = self.named(function)
            bound = getattr(self._instance, name)
            plan = self._plans[function] = plan_for(
                bound, name, of_base_app=self.is_base_app, owner=self.cls
            )
        return plan

    def named(self, function: str) -> str:
        """The function that a call of `function` means."""
        return self.default_function or function if function == "run" else function

    def check_not_empty(self, function: str) -> None:
        """A generator has ended and yielded nothing.  Raises NoOutput where that is an error."""
        if self.is_base_app:
            text = f"{self.named(function)}() has yielded nothing: what it yields last is its result"
            raise baseapp.NoOutput(text)


def load(spec: AppSpec, pickled: Body) -> App:
    """Imports the app's class, in its folder and with its paths.

    Raises whatever the import raises, and ImportError or TypeError for a target that is no class.
    """
    if spec.cwd is not None:
        os.chdir(spec.cwd)
    sys.path[:0] = spec.paths
    importlib.invalidate_caches()
    if not spec.target:
        return App(_unpickle(pickled), spec.name, spec.default_function)
    return App(find_class(spec.target), spec.name, spec.default_function)


def find_class(target: str) -> type:
    """The class that `module:Class` names; `Class` may be dotted."""
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise ImportError(f"the app {target!r} is not of the form module:Class")
    found: Any = importlib.import_module(module_name)
    for step in path.split("."):
        if not hasattr(found, step):
            where = getattr(found, "__file__", None) or f"{module_name} (a package without __init__.py)"
            raise ImportError(f"{where} has no class {path!r}{did_you_mean(step, _class_names(found))}")
        found = getattr(found, step)
    return _checked(found, target)


def _unpickle(pickled: Body) -> type:
    if not len(pickled):
        raise ImportError("neither a target nor a class was given for the app")
    try:
        import cloudpickle
    except ImportError as error:
        raise ImportError(
            f"a class given by value needs the package cloudpickle in {sys.executable}: install it there, "
            "or name the app as module:Class"
        ) from error
    return _checked(cloudpickle.loads(pickled), "the class given by value")


def _checked(found: Any, what: str) -> type:
    if not isinstance(found, type):
        raise TypeError(f"{what} is a {type(found).__name__}, not a class: an app is a class")
    return found


def _class_names(holder: Any) -> list[str]:
    return [
        name for name, value in vars(holder).items() if isinstance(value, type) and not name.startswith("_")
    ]


def public_functions(cls: type) -> list[str]:
    """The names of what an app's author has written to be called, sorted."""
    names = (name for name in dir(cls) if not name.startswith("_") and name not in HOOKS)
    own = (name for name in names if not baseapp.is_inherited_tool(cls, name))
    return [name for name in own if _is_function(cls, name)]


def _is_function(cls: type, name: str) -> bool:
    try:
        raw = inspect.getattr_static(cls, name)
        if isinstance(raw, (type, property)):
            return False
        return callable(getattr(cls, name)) and not isinstance(getattr(cls, name), type)
    except Exception:  # a descriptor may refuse to be looked at
        return False


def _has_hook(cls: type, name: str) -> bool:
    return callable(getattr(cls, name, None))


def _check_hooks(cls: type, name: str, is_base_app: bool) -> bool:
    """Whether the class has a `prepare`.  Raises TypeError."""
    for one, other in (("park", "unpark"), ("unpark", "park")):
        if _has_hook(cls, one) and not _has_hook(cls, other):
            raise TypeError(
                f"app {name} has {one}() but no {other}(): what takes its data off the GPU and what "
                "brings them back go together, so write both, or give one of them another name"
            )
    if not _has_hook(cls, PREPARE):
        return False
    if not isinstance(inspect.getattr_static(cls, PREPARE), classmethod):
        if is_base_app:  # there it is a name like others
            return False
        raise TypeError(
            f"prepare of app {name} is no classmethod: it runs once, before there is an instance, for all "
            "sessions to share what it loads; write @classmethod above it, or give it another name"
        )
    if is_async(getattr(cls, PREPARE)):
        raise TypeError(f"prepare of app {name} is async, and runs where there is no event loop: use `def`")
    try:
        inspect.signature(getattr(cls, PREPARE)).bind()
    except TypeError as error:
        raise TypeError(
            f"prepare of app {name} needs arguments, and there are none ({error}): it runs once for all "
            "sessions; what differs between them belongs in setup"
        ) from None
    return True


def is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
