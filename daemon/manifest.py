"""What an app's folder says of itself: `app.toml`, or `[tool.warmd.app]` of its `pyproject.toml`, or, of an
app written for inference.sh, `inf.yml`.  The first of them that is there counts alone.

Paths in it are relative to the folder.  What is unknown or cannot be is an error that names the file, the
key and the remedy, so that nothing is asked for in vain.
"""

from __future__ import annotations

import difflib
import os
import reprlib
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from warmd.daemon import requirements
from warmd.protocol import units
from warmd.protocol.gpus import GpuAsk
from warmd.protocol.work import AppSpec, Asks

T = TypeVar("T")

MAX_FILE_BYTES = 2**18
MAX_DOTS = 100
"""In a line: time and memory for a key of many parts grow with the square of their number."""
MAX_SPARES = 100
MAX_MEMORY_BYTES = 2**62
"""The kernel counts in 64 bits."""
MAX_ENV_BYTES = 24 * 1024
"""Of all variables together, which travel in one header (`wire.MAX_HEADER_BYTES`) with the requirements."""
MAX_TOLD_CHARACTERS = 500
MAX_GPUS = 64
VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"


class ManifestError(ValueError):
    """A manifest that cannot be used; the text says which, why, and what would do."""


class Manifest(NamedTuple):
    entry: str = ""
    """`module:Class`; empty: the class is looked for."""
    paths: tuple[str, ...] = ()
    python: str | None = None
    requirements: str = ""
    env: Mapping[str, str] = {}
    default_function: str = ""
    reload: bool = False
    asks: Asks = Asks()

    def applied_to(self, spec: AppSpec) -> AppSpec:
        """Where the app is found, together with what it says of itself."""
        return spec._replace(
            paths=tuple(dict.fromkeys([*spec.paths, *self.paths])),
            python=self.python,
            requirements=self.requirements,
            env=dict(self.env),
            default_function=self.default_function,
            reload=self.reload,
            asks=self.asks,
        )


def read(folder: str) -> Manifest:
    """The manifest of an app's folder; an empty one where there is none.  Raises ManifestError."""
    found = _app_toml(folder) or _pyproject(folder)
    if found is not None:
        return _manifest(folder, *found)
    path = os.path.join(folder, "inf.yml")
    return _of_inference_sh(folder, path) if os.path.isfile(path) else Manifest()


def _app_toml(folder: str) -> tuple[str, Any] | None:
    path = os.path.join(folder, "app.toml")
    if os.path.lexists(path) and not os.path.isfile(path):
        raise ManifestError(f"{path} is no file, and no link to one")
    return (path, _toml(path)) if os.path.isfile(path) else None


def _pyproject(folder: str) -> tuple[str, Any] | None:
    path = os.path.join(folder, "pyproject.toml")
    table: Any = _toml(path) if os.path.isfile(path) else {}
    for name in ("tool", "warmd", "app"):
        table = table.get(name) if isinstance(table, dict) else None
    return None if table is None else (f"[tool.warmd.app] of {path}", table)


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ManifestError(f"{path} has more than {MAX_FILE_BYTES} bytes, the most that a manifest may have")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


def _toml(path: str) -> Any:
    return _parsed(path, _of_toml)


def _of_toml(text: str) -> Any:
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > MAX_DOTS:
            raise ValueError(f"line {number} has more than {MAX_DOTS} dots: break it, or leave it out")
    return tomllib.loads(text)


def _without_merges(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """Mappings that are merged into each other can fill the memory with little text."""

    def parse(text: str) -> Any:
        if "<<" in text:
            raise ValueError("merge keys (<<) are not read: write out what they stand for")
        return load(text)

    return parse


def _parsed(path: str, parse: Callable[[str], Any]) -> Any:
    text = _text(path)
    try:
        return parse(text)
    except RecursionError:
        raise ManifestError(f"{path} is nested too deeply") from None
    except Exception as error:  # both parsers raise others than their own: IndexError, KeyError
        raise ManifestError(f"{path}: {' '.join(str(error).split()) or repr(error)}") from None


def _manifest(folder: str, source: str, table: Any) -> Manifest:
    if not isinstance(table, dict):
        raise ManifestError(f"{source} must be a table of keys")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(_KEYS)}"
            raise ManifestError(f"{source} has an unknown key {_shown(key)!r}: {hint}")
        try:
            values[key] = _KEYS[key](folder, value)
        except ValueError as error:
            raise ManifestError(f"{source}: {key} {error}") from None
    gpu, env = values.pop("gpu", None), values.pop("env", {})
    ask = gpu if isinstance(gpu, GpuAsk) else None
    visible = {} if ask is not None or gpu is None else gpu
    if ask is not None and VISIBLE_VARIABLE in env:
        text = f"sets {VISIBLE_VARIABLE}, and its gpu lets the daemon choose: leave one of them out"
        raise ManifestError(f"{source} {text}")
    asks = Asks(**{name: values.pop(name) for name in Asks._fields if name in values})
    asked = {_ASKED[key]: values.pop(key) for key in _ASKED if key in values}
    return Manifest(env={**visible, **env}, asks=asks._replace(gpu=ask, **asked), **values)


def _shown(value: Any) -> str:
    """As much of a value as an error shows.  All of it may be huge, where parts are named again and again."""
    try:
        return (value if isinstance(value, str) else reprlib.repr(value))[:80]
    except ValueError:
        return "a number of very many digits"


# Each takes the folder and the value, and raises ValueError with what the value must be.


def _entry(_folder: str, value: Any) -> str:
    module, _, path = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not all(name.isidentifier() for name in [*module.split("."), *path.split(".")]):
        raise ValueError(f"must be 'module:Class', such as 'app:App', not {_shown(value)!r}")
    return str(value)


def _function(_folder: str, value: Any) -> str:
    if not isinstance(value, str) or not value.isidentifier() or value.startswith("_"):
        raise ValueError(f"must be the name of a public function, not {_shown(value)!r}")
    return value


def _paths(folder: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(path, str) and path for path in value):
        raise ValueError(f"must be a list of folders, not {_shown(value)!r}")
    paths = tuple(_within(folder, path) for path in value)
    for path in paths:
        if not os.path.isdir(path):
            raise ValueError(f"names {path}, where no folder is")
    return paths


def _python(folder: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"must be the path of an interpreter, not {_shown(value)!r}")
    path = _within(folder, value)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise ValueError(f"names {path}, which is no executable file: make that environment, or correct it")
    return path


def _requirements(folder: str, value: Any) -> str:
    if isinstance(value, str) and value:
        return requirements.of_file(_within(folder, value))
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return requirements.of_lines(folder, value)
    raise ValueError(f"must be a file or a list of requirements, not {_shown(value)!r}")


def _env(_folder: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, (str, int, float)) for text in value.values()):
        raise ValueError(f"must be a table of texts, not {_shown(value)!r}")
    left = MAX_ENV_BYTES
    for name, text in value.items():
        if not isinstance(name, str) or not name or "=" in name or name.startswith("WARMD_"):
            raise ValueError(f"has {_shown(name)!r}, which can be no variable of an app")
        if "\0" in f"{name}{text}":
            raise ValueError(f"has {_shown(name)!r}, whose text holds a NUL")
        left -= len(os.fsencode(f"{name}={text}"))
        if left < 0:
            raise ValueError(f"has more than {MAX_ENV_BYTES} bytes, the most are these: put them into a file")
    return {name: str(text) for name, text in value.items()}


def _gpu(_folder: str, value: Any) -> dict[str, str] | GpuAsk:
    """What the daemon is to reserve; or the GPUs that the app's processes see, in CUDA's own variable."""
    if value == "all":
        return {}
    if value == "none":
        return {VISIBLE_VARIABLE: ""}
    if isinstance(value, list) and value and all(type(index) is int and index >= 0 for index in value):
        return {VISIBLE_VARIABLE: ",".join(map(str, value))}
    if type(value) is int and 0 < value <= MAX_GPUS:
        return GpuAsk(whole=value)
    if isinstance(value, float) and 0 < value <= 1:
        return GpuAsk(share=value) if value < 1 else GpuAsk(whole=1)
    if isinstance(value, str) and value[:1].isdigit():
        if value.strip().isdecimal():
            text = f"{_shown(value)!r} could be GPUs or bytes: give a number without quotes, or a unit"
            raise ValueError(f"{text}, such as '20GB'")
        return GpuAsk(bytes=_size(_folder, value))
    raise ValueError(
        f"must be a number of GPUs such as 1, a part of one such as 0.5, an amount such as '20GB', 'all', "
        f"'none' or a list of indexes such as [0], not {_shown(value)!r}"
    )


def _park(_folder: str, value: Any) -> bool:
    if value not in ("auto", "never"):
        raise ValueError(f"must be 'auto' or 'never', not {_shown(value)!r}")
    return bool(value == "auto")


def _switch(_folder: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_shown(value)!r}")
    return value


def _spares(_folder: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SPARES:
        raise ValueError(f"must be a number from 0 to {MAX_SPARES}, not {_shown(value)!r}")
    return value


def _duration(_folder: str, value: Any) -> float:
    return _measured(value, lambda: units.seconds(value, what="", allow_never=True))


def _finite(_folder: str, value: Any) -> float:
    return _measured(value, lambda: units.seconds(value, what=""))


def _size(_folder: str, value: Any) -> int:
    size = _measured(value, lambda: units.size_bytes(value, what=""))
    if size > MAX_MEMORY_BYTES:
        raise ValueError(f"must be at most {MAX_MEMORY_BYTES} bytes, not {_shown(value)!r}")
    return size


def _measured(value: Any, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        text = str(error).removeprefix(": ")
        if len(text) > MAX_TOLD_CHARACTERS:
            text = f"cannot be {_shown(value)!r}"
        raise ValueError(text) from None


def _within(folder: str, path: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


_KEYS: Mapping[str, Callable[[str, Any], Any]] = {
    "entry": _entry,
    "default_function": _function,
    "paths": _paths,
    "python": _python,
    "requirements": _requirements,
    "env": _env,
    "gpu": _gpu,
    "park": _park,
    "reload": _switch,
    "template": _switch,
    "spares": _spares,
    "session_timeout": _duration,
    "max_lifetime": _duration,
    "start_timeout": _finite,
    "memory": _size,
}
_ASKED = {
    "session_timeout": "idle_seconds",
    "max_lifetime": "lifetime_seconds",
    "start_timeout": "start_seconds",
    "memory": "memory_bytes",
}


def _of_inference_sh(folder: str, path: str) -> Manifest:
    """Of `inf.yml` what means something here; the rest is about its cloud."""
    try:
        import yaml
    except ImportError:
        raise ManifestError(
            f"{path} can only be read with PyYAML: pip install 'warmd[inferencesh]', "
            "or say the same in an app.toml"
        ) from None
    table = _parsed(path, _without_merges(yaml.safe_load))
    if not isinstance(table, dict):
        raise ManifestError(f"{path} must be a mapping of keys")
    listed = os.path.join(folder, "requirements.txt")
    given = {
        "default_function": table.get("default_function"),
        "env": table.get("env"),
        "requirements": "requirements.txt" if os.path.isfile(listed) else None,
    }
    manifest = _manifest(folder, path, {key: value for key, value in given.items() if value})
    if manifest.requirements:
        return manifest._replace(requirements=requirements.with_package(manifest.requirements, "inferencesh"))
    return manifest
