"""What `setup` takes, and the checks of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from warmd.apps.options import did_you_mean

MAX_PIXELS = 10_000
"""A side of the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the browser is started; all are optional."""

    headless: bool = True
    executable_path: str | None = None
    """Chromium; without it CHROME_PATH, then what is on PATH, then Playwright's own."""
    viewport: Mapping[str, int] | None = None
    """`{"width": 1280, "height": 720}`, in pixels."""
    user_agent: str | None = None
    locale: str | None = None
    """Such as `"de-DE"`."""
    timezone: str | None = None
    """Such as `"Europe/Berlin"`."""
    proxy: str | Mapping[str, str] | None = None
    """`"http://host:3128"`, or a dict with `server`, `username`, `password` and `bypass`."""
    args: tuple[str, ...] = ()
    """More arguments for Chromium."""
    sandbox: bool | None = None
    """True: or do not start.  None: where it is possible, and the user is not root."""
    dialogs: str = "dismiss"
    """What is done with alerts, questions and prompts: `"dismiss"` or `"accept"`."""
    ignore_https_errors: bool = False
    start: bool = False
    """Start the browser within `setup`, as for sessions that are kept ready."""

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> Options:
        """Raises TypeError and ValueError for what cannot be an option, or its value."""
        if config is None:
            return cls()
        if not isinstance(config, Mapping):
            raise TypeError(f"the setup of a browser is a dict of options, not {str(config)[:80]!r}")
        known = [field.name for field in fields(cls)]
        for name, value in config.items():
            if name not in known:
                raise TypeError(f"no option {str(name)[:80]!r}: {did_you_mean(name, known)}")
            _check(name, value)
        given = {name: value for name, value in config.items() if value is not None}
        return cls(**{**given, "args": tuple(given.get("args", ()))})


def _check(name: str, value: Any) -> None:
    fits, expected = _EXPECTED[name]
    if value is not None and not fits(value):
        raise ValueError(f"{name}: expected {expected}, got {str(value)[:120]!r}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_program(value: Any) -> bool:
    return _is_text(value) and shutil.which(value) is not None


def _is_viewport(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"width", "height"} and all(
        type(side) is int and 0 < side <= MAX_PIXELS for side in value.values()
    )  # fmt: skip


def _is_proxy(value: Any) -> bool:
    if isinstance(value, Mapping):
        allowed = {"server", "username", "password", "bypass"}
        return "server" in value and set(value) <= allowed and all(map(_is_text, value.values()))
    return _is_text(value)


def _are_args(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_is_text(one) and one.startswith("-") for one in value)


_EXPECTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "headless": (_is_switch, "true or false"),
    "executable_path": (_is_program, "the path of a program that can be run"),
    "viewport": (_is_viewport, f'{{"width": 1280, "height": 720}}, each 1 to {MAX_PIXELS}'),
    "user_agent": (_is_text, "a text"),
    "locale": (_is_text, 'a text such as "de-DE"'),
    "timezone": (_is_text, 'a text such as "Europe/Berlin"'),
    "proxy": (_is_proxy, '"http://host:3128", or a dict with server, username, password, bypass'),
    "args": (_are_args, 'a list of texts such as "--mute-audio"'),
    "sandbox": (_is_switch, "true or false"),
    "dialogs": (lambda value: value in ("dismiss", "accept"), '"dismiss" or "accept"'),
    "ignore_https_errors": (_is_switch, "true or false"),
    "start": (_is_switch, "true or false"),
}
