"""Errors at the edge of the command line: exit codes, and what is printed.

0  done                          69  no daemon, or it went away
1  the app raised, or did not    70  a fault of warmd's own
   start                         75  busy, try again: queue full, no room, draining
2  usage, refused input          77  not allowed
3  no such session or call,      78  bad configuration
   or it is gone                124  time-out
4  the worker died              130  interrupted or cancelled
"""

from __future__ import annotations

import click

from warmd.cli import INTERRUPTED
from warmd.protocol.errors import Problem, WarmdError, exception_from

APP_FAILED = 1
USAGE = 2
NO_SESSION = 3
WORKER_LOST = 4
UNAVAILABLE = 69
FAULT = 70
BUSY = 75
NOT_ALLOWED = 77
BAD_CONFIG = 78
TIMED_OUT = 124

BY_CODE = {
    "APP_ERROR": APP_FAILED,
    "START_FAILED": APP_FAILED,
    "INVALID": USAGE,
    "TOO_LARGE": USAGE,
    "APP_NOT_FOUND": USAGE,
    "APP_MISMATCH": USAGE,
    "FUNCTION_NOT_FOUND": USAGE,
    "SESSION_NOT_FOUND": NO_SESSION,
    "SESSION_EXPIRED": NO_SESSION,
    "SESSION_ENDED": NO_SESSION,
    "SESSION_DIED": NO_SESSION,
    "CALL_GONE": NO_SESSION,
    "WORKER_DIED": WORKER_LOST,
    "DAEMON_UNAVAILABLE": UNAVAILABLE,
    "DAEMON_LOST": UNAVAILABLE,
    "INTERNAL": FAULT,
    "QUEUE_FULL": BUSY,
    "SLOW_CONSUMER": BUSY,
    "NO_ROOM": BUSY,
    "DRAINING": BUSY,
    "NOT_ALLOWED": NOT_ALLOWED,
    "TIMEOUT": TIMED_OUT,
    "CANCELLED": INTERRUPTED,
}


class Refusal(click.ClickException):
    """An error of the command line's own, with its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def exit_code(error: WarmdError) -> int:
    """The exit code for an error of the client library; 1 for a code from a newer daemon."""
    return BY_CODE.get(error.code, APP_FAILED)


def report_json(error: Exception) -> None:
    """Print an error as a JSON object to stdout: one of the client library's, or of the command line."""
    from warmd.cli.talk import json_object

    if isinstance(error, click.ClickException):
        code = "TIMEOUT" if getattr(error, "code", USAGE) == TIMED_OUT else "INVALID"
        error = exception_from(Problem(code, error.format_message()))
    if isinstance(error, WarmdError):
        fields = ("code", "outcome", "ran", "message", "session", "call", "details")
        json_object(error={field: getattr(error, field) for field in fields})


def report(error: Exception) -> int:
    """Print an error to stderr and return its exit code.

    An error that nobody expected is raised again: its traceback is then what is wanted.
    """
    if not isinstance(error, WarmdError):
        raise error
    click.echo(f"warmd: {error.message}", err=True)
    # Of an app that only was to be described the traceback is in its output.
    output = () if error.details.get("traceback") or error.code != "START_FAILED" else ("log_tail",)
    for key in ("traceback", "stack", *output):
        text = str(error.details.get(key) or "").rstrip()
        if text and text not in error.message:
            click.echo(text, err=True)
    for note in getattr(error, "__notes__", ()):
        click.echo(note, err=True)
    return exit_code(error)
