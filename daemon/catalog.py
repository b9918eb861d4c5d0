"""Finds apps: from what a client names to where a worker imports it from.

Files are read, nothing of an app is ever imported or run here: a folder's class is found by its name
(`sources`).  `lookup` and `apps` run on a helper thread; their caches are replaced whole, never changed.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from warmd.daemon import manifest
from warmd.daemon.sources import names_in
from warmd.protocol.errors import Problem
from warmd.protocol.messages import AppRef, Origin
from warmd.protocol.work import AppSpec

log = logging.getLogger("warmd.catalog")

GROUP = "warmd.apps"
CLASS = "App"
"""The class of an app's file, unless the file defines only one."""
MAX_SOURCE_BYTES = 2**20
"""A larger file is not searched for its class."""
MAX_NAMES_SHOWN = 20


class AppLookupError(LookupError):
    """No app can be started from that reference; `problem` is what the caller is told."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(code, message)


@dataclass(frozen=True, slots=True)
class _Registered:
    target: str
    source: str


class Catalog:
    """The apps that can be named here.  `app_folders` are folders that hold app folders.

    With `reload` sessions of all of them take over what is edited.
    """

    def __init__(self, app_folders: Sequence[str] = (), classes: bool = True, reload: bool = False) -> None:
        self._app_folders = tuple(app_folders)
        self._classes = classes
        self._reload = reload
        self._registered: dict[str, _Registered] = {}
        self._seen: tuple[tuple[str, float], ...] | None = None

    def lookup(self, ref: AppRef) -> AppSpec:
        """Where a worker finds the app.  Raises AppLookupError."""
        spec = self._found(ref)
        return spec._replace(reload=True) if self._reload else spec

    def _found(self, ref: AppRef) -> AppSpec:
        if ref.digest is not None:
            return self._by_value(ref)
        if "\0" in ref.name:
            raise AppLookupError("INVALID", f"{ref.name[:80]!r} is not the name of an app: it holds a NUL")
        if os.sep in ref.name:
            return self._by_path(ref)
        if ":" in ref.name:
            return _by_module(ref)
        return self._by_name(ref.name)

    def apps(self) -> list[dict[str, Any]]:
        """All apps that can be called by name: `name`, `target`, `folder`, `source`; sorted by name."""
        found = {
            name: {"name": name, "target": known.target, "folder": None, "source": known.source}
            for name, known in self._entry_points().items()
        }
        for name, folder in self._in_folders():
            if name not in found:
                try:
                    target = _spec_of_folder(name, folder).target
                except AppLookupError:
                    continue
                source = f"folder {os.path.dirname(folder)}"
                found[name] = {"name": name, "target": target, "folder": folder, "source": source}
        return [found[name] for name in sorted(found)]

    def spares(self) -> dict[str, int]:
        """How many sessions of each app, by its name, are to be kept ready; those with none are left out."""
        found: dict[str, int] = {}
        for name, folder in self._in_folders():
            try:
                found.setdefault(name, manifest.read(folder).asks.spares)
            except manifest.ManifestError as error:
                log.warning("%s", error)
        return {name: spares for name, spares in found.items() if spares}

    def _by_value(self, ref: AppRef) -> AppSpec:
        if not self._classes:
            raise AppLookupError(
                "NOT_ALLOWED",
                f"the class {ref.name} was sent by value, and this daemon has classes = false: "
                "put it in a file and name it as module:Class, or set classes = true",
            )
        return _placed(AppSpec(ref.name, ""), ref.origin)

    def _by_path(self, ref: AppRef) -> AppSpec:
        path, name = _split_class(ref.name)
        if not os.path.isabs(path):
            raise AppLookupError(
                "INVALID", f"the app {ref.name!r} must be a name, an absolute path or module:Class"
            )
        path = os.path.normpath(path)
        if os.path.isdir(path):
            spec = _spec_of_folder(ref.name, path, name)
        elif os.path.isfile(path) and path.endswith(".py"):
            spec = _spec_of_file(ref.name, path, name)
        elif os.path.exists(path):
            raise AppLookupError("APP_NOT_FOUND", f"{path} is neither a folder nor a .py file")
        else:
            raise AppLookupError("APP_NOT_FOUND", f"there is no app at {path}: no such file or folder")
        return _placed(spec, ref.origin)

    def _by_name(self, name: str) -> AppSpec:
        known = self._entry_points().get(name)
        if known:
            return AppSpec(name, known.target)
        for found, folder in self._in_folders():
            if found == name:
                return _spec_of_folder(name, folder)._replace(cwd=folder)
        raise AppLookupError("APP_NOT_FOUND", self._no_such(name))

    def _no_such(self, name: str) -> str:
        names = [app["name"] for app in self.apps()]
        close = difflib.get_close_matches(name, names, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        shown = ", ".join(names[:MAX_NAMES_SHOWN]) + (", ..." if len(names) > MAX_NAMES_SHOWN else "")
        return (
            f"there is no app {name[:80]!r}{meant} (known here: {shown or 'none'}); an app is given by name "
            "(of an entry point, or of a folder in the WARMD_APPS of the daemon); with warmd's own client on "
            "this machine also as module:Class, or as the path of a folder or file"
        )

    def _entry_points(self) -> dict[str, _Registered]:
        # Looking through all metadata costs milliseconds; a package that was installed or removed
        # shows in the time of its folder.
        seen = tuple((folder, _changed(folder)) for folder in sys.path)
        if seen != self._seen:
            self._registered = dict(_read_entry_points())
            self._seen = seen
        return self._registered

    def _in_folders(self) -> Iterator[tuple[str, str]]:
        for parent in self._app_folders:
            try:
                names = sorted(os.listdir(parent))
            except OSError:
                continue
            for name in names:
                folder = os.path.join(parent, name)
                if not name.startswith((".", "_")) and os.path.isdir(folder):
                    yield name, folder


def _read_entry_points() -> Iterator[tuple[str, _Registered]]:
    for point in importlib.metadata.entry_points(group=GROUP):
        source = f"package {point.dist.name}" if point.dist else "entry point"
        yield point.name, _Registered(point.value.replace(" ", ""), source)


def _changed(folder: str) -> float:
    try:
        return os.stat(folder or ".").st_mtime
    except OSError:
        return 0.0


def _split_class(name: str) -> tuple[str, str | None]:
    """`/a/b.py:Class` -> its two halves; a colon elsewhere belongs to the path."""
    path, colon, last = name.rpartition(":")
    if colon and last.isidentifier() and not os.path.exists(name):
        return path, last
    return name, None


def _by_module(ref: AppRef) -> AppSpec:
    module, _, name = ref.name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        raise AppLookupError("INVALID", f"the app {ref.name[:80]!r} is not of the form module:Class")
    if module == "__main__":
        raise AppLookupError(
            "INVALID",
            f"{ref.name} names a class of a script: give the class itself, or /path/script.py:{name}",
        )
    return _placed(AppSpec(ref.name, ref.name), ref.origin)


def _placed(spec: AppSpec, origin: Origin | None) -> AppSpec:
    """The app where its client lives: the same search path, directory and interpreter."""
    if origin is None:
        return spec
    python = _other_python(origin.python)
    if origin.cwd and not os.path.isdir(origin.cwd):
        raise AppLookupError("INVALID", f"the client's working directory {origin.cwd} is not there any more")
    if spec.python is not None or spec.requirements:
        python = spec.python  # what the app says of itself goes before what its client runs in
    paths = [*spec.paths, *filter(None, (origin.path, origin.cwd))]
    return spec._replace(paths=tuple(dict.fromkeys(paths)), cwd=origin.cwd or None, python=python)


def _other_python(python: str) -> str | None:
    """None where `python` is the daemon's own interpreter, under whatever name."""
    if not python or python == sys.executable:
        return None
    if not (os.path.isabs(python) and os.path.isfile(python) and os.access(python, os.X_OK)):
        raise AppLookupError("INVALID", f"the client's interpreter {python!r} is no executable file here")
    # Only within one folder: each virtual environment links to the same binary and is another one.
    ours, theirs = (os.path.realpath(os.path.dirname(path)) for path in (sys.executable, python))
    return None if ours == theirs and os.path.samefile(python, sys.executable) else python


def _spec_of_folder(app: str, folder: str, name: str | None = None) -> AppSpec:
    try:
        told = manifest.read(folder)
    except manifest.ManifestError as error:
        raise AppLookupError("INVALID", str(error)) from None
    if told.entry and name is None:
        return told.applied_to(AppSpec(app, told.entry, (folder,)))
    return told.applied_to(_spec_by_file(app, folder, name))


def _spec_by_file(app: str, folder: str, name: str | None) -> AppSpec:
    package = os.path.isfile(os.path.join(folder, "__init__.py"))
    stem = os.path.basename(folder)
    for file in ("app.py", "inference.py", "__init__.py"):
        path = os.path.join(folder, file)
        if os.path.isfile(path):
            found = _class_in(path, name)
            break
    else:
        raise AppLookupError("APP_NOT_FOUND", f"{folder} holds no app.py, inference.py or __init__.py")
    module = file.removesuffix(".py")
    if not (package and stem.isidentifier()):
        return AppSpec(app, f"{module}:{found}", (folder,))
    # Within its package, so that its relative imports work.
    target = stem if module == "__init__" else f"{stem}.{module}"
    return AppSpec(app, f"{target}:{found}", (os.path.dirname(folder), folder))


def _spec_of_file(app: str, path: str, name: str | None) -> AppSpec:
    stem = os.path.basename(path).removesuffix(".py")
    if not stem.isidentifier():
        raise AppLookupError("INVALID", f"{path} cannot be imported: {stem!r} is not a Python identifier")
    return AppSpec(app, f"{stem}:{_class_in(path, name)}", (os.path.dirname(path),))


def _class_in(path: str, wanted: str | None) -> str:
    """The app's class in a file: the one asked for, `App`, or the only one.  Raises AppLookupError."""
    size, source = _read(path)
    if size > MAX_SOURCE_BYTES:
        if wanted:
            return wanted
        raise AppLookupError(
            "APP_NOT_FOUND",
            f"{path} has {size} bytes, and up to {MAX_SOURCE_BYTES} a file is searched for its class: "
            f"say which one it is with {path}:{CLASS} or module:{CLASS}",
        )
    classes, others = names_in(source)
    names = {*classes, *others}
    if wanted:
        # However it is defined, its name stands there; the worker tells if it is no class.
        if "*" in names or re.search(rf"\b{wanted}\b", source):
            return wanted
        close = difflib.get_close_matches(wanted, sorted(names), n=1)
        shown = ", ".join(classes[:MAX_NAMES_SHOWN]) or "none"
        meant = f"; did you mean {close[0]!r}?" if close else f"; it defines {shown}"
        raise AppLookupError("APP_NOT_FOUND", f"{path} defines no class {wanted!r}{meant}")
    if CLASS in names:
        return CLASS
    public = [name for name in dict.fromkeys(classes) if not name.startswith("_")]
    if len(public) == 1:
        return public[0]
    if not public:
        raise AppLookupError(
            "APP_NOT_FOUND", f"{path} defines no class: an app is a class, by preference named App"
        )
    raise AppLookupError(
        "APP_NOT_FOUND",
        f"{path} defines several classes ({', '.join(public[:MAX_NAMES_SHOWN])}) and none is named App: "
        f"say which one with {path}:{public[0]}, or rename it to App",
    )


def _read(path: str) -> tuple[int, str]:
    """The file's size, and its text as far as it is searched.  Raises AppLookupError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SOURCE_BYTES)
            return os.fstat(file.fileno()).st_size, data.decode("utf-8-sig", "replace")
    except OSError as error:
        raise AppLookupError("APP_NOT_FOUND", f"{path} cannot be read: {error.strerror}") from error
