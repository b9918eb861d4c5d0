"""The daemon's settings: what each is, where its value comes from, and how it is checked.

A value is taken from the first of: flags, keywords of `warmd.local`, the environment (`WARMD_<NAME>`),
the files in the order given, the default.  `standard_files` are the user's and the machine's; a
project's own file (`project_files`) is read only where a person typed `warmd serve`: a daemon started
by a client runs in whatever directory that client happened to be in, and serves all of them.

What is unknown is an error that names its source, so that a typing error never passes silently.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmd.daemon.settings import Settings
from warmd.protocol import places, units

PREFIX = "WARMD_"

NOT_SETTINGS = frozenset(
    PREFIX + name
    for name in (
        "HOST", "KEY", "TOKEN", "CONFIG", "LOG", "CHECK", "AUTOSTART", "DEBUG",
        "WORKER_TOKEN", "SESSION_ID", "SESSION_TMP", "APP", "CALL_ID", "DAEMON_PID", "DAEMON_SESSION",
        "MODELS", "TRUSTED_MODELS",
    )
)  # fmt: skip
"""Variables of ours that say something to the client, to a worker or to an app, and nothing here."""
GATEWAY_PREFIX = PREFIX + "HTTP_"
"""Those that begin so are the HTTP gateway's, which knows which there are."""

LOG_LEVELS = ("debug", "info", "warning", "error")


class ConfigError(ValueError):
    """A setting that cannot be used; the text names it, its source and the remedy."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the documentation; `shown` is the default as a person would write it."""

    name: str
    kind: str
    default: Any
    shown: str
    variable: str
    doc: str
    least: float
    most: float


def schema() -> list[Setting]:
    """All settings in their documented order."""
    return [_row(item) for item in dataclasses.fields(Settings) if item.metadata]


def _row(item: dataclasses.Field[Any]) -> Setting:
    default = item.default_factory() if callable(item.default_factory) else item.default
    facts = item.metadata
    return Setting(
        name=item.name,
        kind=facts["kind"],
        default=default,
        shown=spell(facts["kind"], default),
        variable=facts["env"] or PREFIX + item.name.upper(),
        doc=facts["doc"],
        least=facts["least"],
        most=facts["most"],
    )


def spell(kind: str, value: Any) -> str:
    """A value as it could stand in the environment."""
    if kind.startswith("duration"):
        return units.spell_seconds(value)
    if kind.startswith("size"):
        return {math.inf: units.NEVER, 0: "0"}.get(value) or units.spell_bytes(value)
    if kind == "paths":
        return os.pathsep.join(value)
    return str(value).lower() if kind == "switch" else str(value)


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    files: Sequence[Path] | None = None,
    keywords: Mapping[str, str] = {},
) -> Settings:
    """The settings in force.  Raises ConfigError.

    `flags` maps settings to values, None meaning not given.  `files` come strongest first and may
    be missing on disk; None stands for `standard_files(environ)`.  `keywords` are those of `warmd.local`.
    """
    known = {row.name: row for row in schema()}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    sources = [
        *_from_flags(flags, known),
        *_from_keywords(keywords, known),
        *_from_environ(environ, known),
    ]
    for path in standard_files(environ) if files is None else files:
        sources += _from_file(path, known)
    for name, raw, origin in sources:
        value = _checked(known[name], raw, origin)
        if name not in values:
            values[name], origins[name] = value, origin
    settings = Settings(**values, origins=origins)
    _check_together(settings)
    return settings


def standard_files(environ: Mapping[str, str]) -> list[Path]:
    """The user's file and the machine's; with `WARMD_CONFIG` that file alone.

    Raises ConfigError when the file that `WARMD_CONFIG` names is not there.
    """
    if named := environ.get("WARMD_CONFIG"):
        if not os.path.isfile(named):
            raise ConfigError(f"environment WARMD_CONFIG: there is no file {named}")
        return [Path(named)]
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".config"
    )
    return [Path(home, "warmd", "config.toml"), Path("/etc/warmd/config.toml")]


def project_files(folder: Path) -> list[Path]:
    """The files of the project in `folder` that may hold settings."""
    return [folder / "warmd.toml", folder / "pyproject.toml"]


_Found = tuple[str, object, str]


def _from_flags(flags: Mapping[str, object], known: Mapping[str, Setting]) -> list[_Found]:
    found = []
    for name, value in flags.items():
        if name not in known:
            raise ConfigError(
                f"unknown flag --{_dashed(name)}{_suggest(name, known, lambda n: '--' + _dashed(n))}"
            )
        if value is not None:
            found.append((name, value, f"flag --{_dashed(name)}"))
    return found


def _from_keywords(keywords: Mapping[str, str], known: Mapping[str, Setting]) -> list[_Found]:
    for name in keywords:
        if name not in known:
            raise ConfigError(f"unknown setting {name!r}{_suggest(name, known)}")
    return [(name, value, f"setting {name}") for name, value in keywords.items()]


def _from_environ(environ: Mapping[str, str], known: Mapping[str, Setting]) -> list[_Found]:
    by_variable = {row.variable: row.name for row in known.values()}
    found: list[_Found] = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable.startswith(GATEWAY_PREFIX) or variable in NOT_SETTINGS:
            continue
        if variable not in by_variable:
            stems = {name.removeprefix(PREFIX) for name in by_variable}
            hint = _suggest(variable.removeprefix(PREFIX), stems, lambda stem: PREFIX + stem)
            raise ConfigError(f"environment {variable}: no such setting{hint}")
        if environ[variable]:
            found.append((by_variable[variable], environ[variable], f"environment {variable}"))
    return found


def _from_file(path: Path, known: Mapping[str, Setting]) -> list[_Found]:
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    if path.name == "pyproject.toml":
        tool = table.get("tool")
        table = tool.get("warmd", {}) if isinstance(tool, dict) else {}
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: [tool.warmd] must be a table of settings, not {str(table)[:80]!r}")
        table.pop("app", None)  # what an app's folder says of itself (`manifest`)
    for name in table:
        if name not in known:
            raise ConfigError(f"{path}: unknown key {name!r}{_suggest(name, known)}")
    return [(name, value, str(path)) for name, value in table.items()]


def _suggest(name: str, known: Iterable[str], spelled: Callable[[str], str] = str) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    if close:
        return f"; did you mean {spelled(close[0])}?"
    return f"; there are {', '.join(spelled(one) for one in sorted(known))}"


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _checked(row: Setting, raw: object, origin: str) -> Any:
    # All but a file name their setting.
    what = origin if origin.startswith(("flag ", "setting ", "environment ")) else f"{origin}: {row.name}"
    try:
        value = _PARSERS[row.kind](raw, what)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value > row.most:
            raise ConfigError(f"{what}: {raw!r} is over the limit of {spell(row.kind, row.most)}")
        if value < row.least:
            raise ConfigError(f"{what}: {raw!r} is under the minimum of {spell(row.kind, row.least)}")
    return value


def _duration(raw: object, what: str) -> float:
    return units.seconds(raw, what=what)


def _duration_or_never(raw: object, what: str) -> float:
    return units.seconds(raw, what=what, allow_never=True)


def _size(raw: object, what: str) -> int:
    return units.size_bytes(raw, what=what)


def _size_or_never(raw: object, what: str) -> float:
    if raw == math.inf or (isinstance(raw, str) and raw.strip().lower() == units.NEVER):
        return math.inf
    try:
        return units.size_bytes(raw, what=what)
    except ValueError as error:
        raise ValueError(f'{error}, or "{units.NEVER}"') from None


def _size_or_zero(raw: object, what: str) -> int:
    if raw == 0 or (isinstance(raw, str) and raw.strip() == "0"):
        return 0
    try:
        return units.size_bytes(raw, what=what)
    except ValueError as error:
        raise ValueError(f"{error}, or 0") from None


def _count(raw: object, what: str, least: int = 1) -> int:
    text = raw.strip() if isinstance(raw, str) else raw
    if isinstance(text, str) and text.isascii() and text.isdigit():
        text = int(text[:20])
    if not isinstance(text, int) or isinstance(text, bool) or text < least:
        raise ValueError(f"{what}: {raw!r} is not a count; give a whole number from {least} up")
    return text


def _count_or_zero(raw: object, what: str) -> int:
    return _count(raw, what, least=0)


def _switch(raw: object, what: str) -> bool:
    if isinstance(raw, bool):
        return raw
    meaning = {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }
    if isinstance(raw, str) and raw.strip().lower() in meaning:
        return meaning[raw.strip().lower()]
    raise ValueError(f"{what}: {raw!r} is not a switch; give true or false")


def _path(raw: object, what: str) -> str:
    if not isinstance(raw, (str, Path)):
        raise ValueError(f"{what}: {raw!r} is not a path")
    return os.path.abspath(os.path.expanduser(raw)) if str(raw) else ""


def _address(raw: object, what: str) -> str:
    if raw == "":
        return ""
    try:
        return str(places.tcp_of(raw if isinstance(raw, str) else repr(raw)))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _paths(raw: object, what: str) -> tuple[str, ...]:
    parts = raw.split(os.pathsep) if isinstance(raw, str) else raw
    if not isinstance(parts, (list, tuple)):
        raise ValueError(f"{what}: {raw!r} is not a list of paths")
    return tuple(_path(part, what) for part in parts if part != "")


def _level(raw: object, what: str) -> str:
    if isinstance(raw, str) and raw.strip().lower() in LOG_LEVELS:
        return raw.strip().lower()
    raise ValueError(f"{what}: {raw!r} is not a level; give one of {', '.join(LOG_LEVELS)}")


def _driver(raw: object, what: str) -> str:
    if isinstance(raw, str) and all(part.isidentifier() for part in raw.strip().split(".")):
        return raw.strip()
    raise ValueError(f"{what}: {raw!r} is no driver; give nvidia, off, or the name of a module")


_PARSERS = {
    "duration": _duration,
    "duration or never": _duration_or_never,
    "size": _size,
    "size or never": _size_or_never,
    "size or 0": _size_or_zero,
    "count": _count,
    "count or 0": _count_or_zero,
    "switch": _switch,
    "address": _address,
    "path": _path,
    "paths": _paths,
    "level": _level,
    "driver": _driver,
}


def _check_together(settings: Settings) -> None:
    asked, most = settings.session_timeout, settings.max_session_timeout
    if asked > most:
        raise ConfigError(
            f"session_timeout ({units.spell_seconds(asked)}, {settings.origin('session_timeout')}) is over "
            f"max_session_timeout ({units.spell_seconds(most)}, {settings.origin('max_session_timeout')}): "
            "lower the one or raise the other"
        )
    least = settings.max_message_bytes
    for name in ("max_client_queued_bytes", "max_queued_bytes"):
        most = getattr(settings, name)
        if most < least:
            raise ConfigError(
                f"{name} ({units.spell_bytes(most)}, {settings.origin(name)}) is under max_message_bytes "
                f"({units.spell_bytes(least)}, {settings.origin('max_message_bytes')}), so that no call "
                "of that size could wait: raise the one or lower the other"
            )
