"""What a caller gives as `app` -> the reference that travels.

A registered name travels as it is.  Everything else is the client's own code, so the client's
interpreter, working directory and `sys.path[0]` go with it and belong to the app's identity.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from warmd.protocol.errors import Invalid
from warmd.protocol.messages import NOTHING, AppRef, Body, Origin

_by_value: WeakKeyDictionary[type, tuple[str, bytes]] = WeakKeyDictionary()
"""Pickled once: the same class must give the same digest each time, or it would be another app."""


def reference(app: object) -> tuple[AppRef, Body]:
    """The reference, and the class itself where it travels by value.  Raises Invalid."""
    if isinstance(app, str):
        return _named(app), NOTHING
    if isinstance(app, os.PathLike):
        return _folder(os.fspath(app)), NOTHING
    if isinstance(app, type):
        return _class(app)
    hint = f"; give the class {type(app).__name__} itself, not an object of it" if hasattr(app, "run") else ""
    raise Invalid(f"app: expected a name, a folder, module:Class or a class, got {type(app).__name__}{hint}")


def description(app: object) -> dict[str, Any]:
    """What a request to describe an app says.  Raises Invalid."""
    ref, pickled = reference(app)
    if pickled:
        raise Invalid(f"app: {ref.name} can only be described from a file: give it as module:Class or a path")
    return {"app": ref.name, "origin": None if ref.origin is None else list(ref.origin)}


def _named(app: str) -> AppRef:
    if not app or app != app.strip():
        raise Invalid(f"app: {app!r} is no name: give a registered name, a folder, or module:Class")
    if "/" in app:
        return _folder(app)
    if ":" in app:
        return AppRef(app, _origin())
    return AppRef(app)


def _folder(path: str | bytes) -> AppRef:
    return AppRef(str(Path(os.fsdecode(path)).expanduser().absolute()), _origin())


def _class(app: type) -> tuple[AppRef, Body]:
    name = f"{app.__module__}:{app.__qualname__}"
    if _importable_by_worker(app):
        return AppRef(name, _origin()), NOTHING
    if app not in _by_value:
        data = _pickle(app)
        _by_value[app] = (hashlib.sha256(data).hexdigest(), data)
    digest, data = _by_value[app]
    return AppRef(name, _origin(), digest), data


def _origin() -> Origin:
    cwd = os.getcwd()
    first = sys.path[0] if sys.path else ""
    # Interactive interpreters have "" there, which means wherever the process is.
    return Origin(sys.executable, cwd, os.path.join(cwd, first) if first else cwd)


def _importable_by_worker(app: type) -> bool:
    module = sys.modules.get(app.__module__)
    if module is None or app.__module__ == "__main__" or _by_qualname(module, app.__qualname__) is not app:
        return False
    top = app.__module__.partition(".")[0]
    here = getattr(sys.modules.get(top), "__spec__", None)
    return here is not None and any(spec.origin == here.origin for spec in _workers_specs(top))


def _by_qualname(module: ModuleType, qualname: str) -> Any:
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _workers_specs(top: str) -> list[Any]:
    """How a fresh interpreter, with `sys.path[0]` and the working directory of this one, would find
    a module: what this process has put on `sys.path` otherwise is not there."""
    bases = tuple(os.path.join(base, "") for base in {sys.prefix, sys.base_prefix})
    own = [entry for entry in sys.path if entry.startswith(bases)]
    specs = [PathFinder.find_spec(top, [*sys.path[:1], os.getcwd(), *own])]
    for finder in sys.meta_path:
        # Editable installs hook themselves in through a .pth file, in each interpreter.
        if getattr(finder, "__module__", "").startswith("__editable__"):
            specs.append(finder.find_spec(top, None))
    return [spec for spec in specs if spec is not None]


def _pickle(app: type) -> bytes:
    import cloudpickle

    module = sys.modules.get(app.__module__)
    by_reference = module is not None and app.__module__ != "__main__"
    try:
        if by_reference:
            cloudpickle.register_pickle_by_value(module)
        try:
            data: bytes = cloudpickle.dumps(app)
        finally:
            if by_reference:
                cloudpickle.unregister_pickle_by_value(module)
    except Exception as error:
        raise Invalid(
            f"app: the class {app.__qualname__} cannot be sent by value: {error}; put it into a module "
            "beside your program and give module:Class"
        ) from error
    return data
