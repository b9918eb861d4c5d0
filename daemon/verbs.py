"""The administrative verbs: which arguments each takes, and how they are checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from warmd.protocol import names, units
from warmd.protocol.errors import Problem
from warmd.protocol.messages import CALL_ID_BYTES, Origin, Request, SessionId


class Refusal(Exception):
    def __init__(self, problem: Problem, session: SessionId | None = None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.session = session


Check = Callable[[object], Any]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    return value


def _call(value: object) -> str:
    if not isinstance(value, str) or not names.is_whole_call(value):
        raise ValueError(f"must be the id of a call, {2 * CALL_ID_BYTES} hex digits")
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _lines(value: object) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError("must be a number of lines, from 0 up, or null for all")
    return value


def _running(value: object) -> str:
    if value not in ("cancel", "finish"):
        raise ValueError('must be "cancel" or "finish"')
    return str(value)


def _drain(value: object) -> float | None:
    # The one place where 0 has a meaning: let nothing finish.
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None if value is None else 0.0
    return units.seconds(value, what="the value")


def _hold(value: object) -> float | None:
    return None if value is None else units.seconds(value, what="the value")


def _origin(value: object) -> Origin | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(text, str) for text in value):
        raise ValueError("must be the client's interpreter, working directory and sys.path[0]")
    return Origin(*value)


VERBS: Mapping[str, Mapping[str, Check]] = {
    "sessions.list": {"all": _switch},
    "sessions.get": {"session": _text},
    "sessions.keepalive": {"session": _text},
    "sessions.hold": {"session": _text, "seconds": _hold},
    "sessions.park": {"session": _text},
    "sessions.unpark": {"session": _text},
    "sessions.end": {"session": _text, "app": _text, "all": _switch, "running": _running},
    "calls.get": {"call": _call},
    "calls.list": {},
    "calls.cancel": {"call": _call},
    "calls.watch": {"call": _call},
    "why": {"id": _text},
    "logs": {"session": _text, "tail": _lines, "follow": _switch},
    "watch": {},
    "apps.list": {},
    "apps.describe": {"app": _text, "origin": _origin},
    "keys.reload": {},
    "status": {},
    "stop": {"drain_seconds": _drain},
}
"""Each verb with the arguments it takes."""
REQUIRED = {
    "sessions.get": "session",
    "sessions.keepalive": "session",
    "sessions.hold": "session",
    "sessions.park": "session",
    "sessions.unpark": "session",
    "calls.get": "call",
    "calls.cancel": "call",
    "calls.watch": "call",
    "why": "id",
    "logs": "session",
    "apps.describe": "app",
}


def checked(request: Request) -> dict[str, Any]:
    """The request's arguments, each as its verb wants it.  Raises the INVALID of an unknown or wrong one."""
    checks = VERBS.get(request.verb)
    if checks is None:
        raise invalid(f"unknown request {request.verb[:80]!r}{_hint(request.verb, VERBS)}")
    arguments = {}
    for name, value in request.arguments.items():
        if name not in checks:
            raise invalid(f"{request.verb} takes no {name[:80]!r}{_hint(name, checks)}")
        try:
            arguments[name] = checks[name](value)
        except ValueError as error:
            raise invalid(f"{request.verb}: {name} {error!s}, not {str(value)[:80]!r}") from None
    needed = REQUIRED.get(request.verb)
    if needed and needed not in arguments:
        raise invalid(f"{request.verb} needs {needed!r}")
    return arguments


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(names)}" if names else "; it takes no arguments"


def invalid(text: str) -> Refusal:
    return Refusal(Problem("INVALID", text))
