"""The body of `POST /apps/run` -> the options of a call.

Fields that inference.sh's clients send and that mean nothing on one machine are taken and ignored;
others that are unknown are refused, as everywhere.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from warmd import plan
from warmd.http.problems import HttpProblem
from warmd.protocol.errors import Invalid, quoted
from warmd.protocol.record import record

IGNORED = ("infra", "workers", "metadata", "version_id", "stream")
TAKEN = (
    "app", "app_id", "function", "input", "setup", "session", "session_timeout", "max_lifetime", "timeout",
    "webhook", "wait", "run_at",
)  # fmt: skip
MOST_WAIT_SECONDS = 3600.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@record
class Run:
    """What is to be run, checked as far as one can without the daemon."""

    app: str | None
    function: str | None
    input: Any
    session: str | None
    opening: dict[str, Any]
    """What a new process is to be like: setup, session_timeout, max_lifetime."""
    timeout: float | str | None
    webhook: str | None
    wait_seconds: float | None
    """How long the answer may wait for the run's end; 0: not at all, None: it does not say."""

    def input_json(self) -> bytes:
        """Raises HttpProblem."""
        try:
            return orjson.dumps(self.input)
        except TypeError:  # what was JSON, and can be none again: orjson writes less deep than it reads
            raise HttpProblem(
                "INVALID", "input: it is nested more than 250 deep: send it as a file, or as a text"
            ) from None


def run(body: Any) -> Run:
    """Raises HttpProblem, naming the field and the remedy."""
    if not isinstance(body, dict):
        got = quoted(body, 60)
        raise HttpProblem("INVALID", f'expected an object such as {{"app": "counter"}}, got {got}')
    for field in body:
        if field not in TAKEN and field not in IGNORED:
            raise HttpProblem("INVALID", plan.unknown("field", field, (*TAKEN, *IGNORED)))
    if body.get("run_at") is not None:
        raise HttpProblem("INVALID", "run_at: there are no delayed starts here; leave it out")
    given = {name: value for name, value in body.items() if value is not None}
    app, of_app = _app(given.get("app", given.get("app_id")))
    session = _text(given, "session")
    if app is None and session in (None, "new"):
        raise HttpProblem(
            "INVALID", 'app: missing; give the name of one that the daemon knows, such as {"app": "counter"}'
        )
    return Run(
        app=app,
        function=_text(given, "function") or of_app,
        input=given.get("input"),
        session=session,
        opening={name: given[name] for name in ("setup", "session_timeout", "max_lifetime") if name in given},
        timeout=given.get("timeout"),
        webhook=_webhook(given),
        wait_seconds=wait_seconds(given["wait"]) if "wait" in given else None,
    )


def _app(reference: object) -> tuple[str | None, str | None]:
    """The app's name and function in `[type/][namespace/]name[@version][:function]`.

    Only names: whoever may call may not bring code.  There is one version of an app here, so any will do.
    """
    if reference is None:
        return None, None
    text = reference if isinstance(reference, str) else ""
    before, at, after = text.rpartition("@")
    name, _, function = (f"{before}:{after.partition(':')[2]}" if at else text).partition(":")
    return app_name(name.rpartition("/")[2], reference), function or None


def app_name(name: str, written: object = None) -> str:
    """The name, if it is one, of what was `written` so.  Raises HttpProblem for a path or a module."""
    if not _NAME.fullmatch(name) or name.endswith(".py"):
        got = quoted(written or name, 100)
        raise HttpProblem("INVALID", f"app: expected the name of an app that the daemon knows, got {got}")
    return name


def _text(given: dict[str, Any], field: str) -> str | None:
    value = given.get(field)
    if value is not None and (not isinstance(value, str) or not value):
        raise HttpProblem("INVALID", f"{field}: expected a text, got {quoted(value, 60)}")
    return value


def _webhook(given: dict[str, Any]) -> str | None:
    url = _text(given, "webhook")
    if url is not None and (not url.startswith(("http://", "https://")) or len(url) > 2000):
        raise HttpProblem(
            "INVALID", f"webhook: expected an http:// or https:// address, got {quoted(url, 100)}"
        )
    return url


def offset(text: str | None) -> int | None:
    """The number of the first part that is wanted.  Raises HttpProblem."""
    if text is not None and (not text.isascii() or not text.isdecimal() or len(text) > 9):
        got = quoted(text, 40)
        raise HttpProblem("INVALID", f"offset: {got} is refused: give the number of a part, 0 or more")
    return None if text is None else int(text)


def wait_seconds(value: object) -> float:
    """True, false, or a time.  Raises HttpProblem for what is none of these."""
    if isinstance(value, bool) or value in ("true", "false"):
        return MOST_WAIT_SECONDS if value in (True, "true") else 0.0
    try:
        seconds = plan.duration(value, "wait")
    except Invalid as error:
        raise HttpProblem.of(error) from None
    return min(seconds or 0.0, MOST_WAIT_SECONDS)
