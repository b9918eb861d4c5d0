"""Every way in which a call can end badly, once as a value and once as an exception.

The daemon handles errors as values (`Problem`); the client raises them as exceptions
(`WarmdError` and below).  Both carry the same five facts:

    code     stable, upper case; programs match on it
    outcome  the family: app_error, worker_died, no_session, rejected, start_failed,
             timeout, cancelled, gone, daemon_lost
    ran      "no"    the function was never entered
             "yes"   it returned or raised by itself
             "maybe" it was entered and cut off, or nobody can know
    session  the session concerned, where there is one
    call     the call's id (hex), where there is one

The tree of exceptions:

    WarmdError
     +- AppError              APP_ERROR
     +- WorkerDied            WORKER_DIED
     +- NoSession
     |   +- SessionNotFound   SESSION_NOT_FOUND
     |   +- SessionExpired    SESSION_EXPIRED
     |   +- SessionEnded      SESSION_ENDED
     |   +- SessionDied       SESSION_DIED
     +- Rejected
     |   +- Invalid           INVALID
     |   +- TooLarge          TOO_LARGE
     |   +- QueueFull         QUEUE_FULL
     |   +- SlowConsumer      SLOW_CONSUMER
     |   +- NoRoom            NO_ROOM
     |   +- Draining          DRAINING
     |   +- NotAllowed        NOT_ALLOWED
     |   +- AppNotFound       APP_NOT_FOUND
     |   +- AppMismatch       APP_MISMATCH
     |   +- FunctionNotFound  FUNCTION_NOT_FOUND
     +- StartFailed           START_FAILED
     +- CallTimeout           TIMEOUT             (also a TimeoutError)
     +- CallCancelled         CANCELLED
     +- CallGone              CALL_GONE
     +- DaemonError                               (also a ConnectionError)
         +- DaemonUnavailable DAEMON_UNAVAILABLE
         +- DaemonLost        DAEMON_LOST
         +- DaemonFailed      INTERNAL
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Ran = Literal["no", "yes", "maybe"]

MAX_TEXT_BYTES = 64 * 1024
"""No text of an error (message, traceback, log tail, stack) is longer than this."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a value: what the rule book decides and the wire carries.

    `details` holds plain values only.  Keys in use: `type` and `traceback` (app errors and
    failed starts), `signal`, `exit_code`, `log_tail` (deaths), `stack` (time-outs and cancels),
    `reason` (why a session is gone), `limit` (what a refusal was measured against).
    """

    code: str
    message: str
    ran: Ran = "no"
    details: Mapping[str, Any] = field(default_factory=dict)


class WarmdError(Exception):
    """The base of all errors that a call can end with."""

    code: str = ""
    outcome: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        ran: Ran = "no",
        session: str | None = None,
        call: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.ran: Ran = ran
        self.session = session
        self.call = call
        self.details: dict[str, Any] = dict(details or {})


class AppError(WarmdError):
    """The function raised.  The session lives on with its state."""

    code = "APP_ERROR"
    outcome = "app_error"

    @property
    def type(self) -> str:
        """The exception's class name in the worker, `module.Name` unless a builtin."""
        return str(self.details.get("type", ""))

    @property
    def traceback(self) -> str:
        """The traceback's text in the worker."""
        return str(self.details.get("traceback", ""))


class WorkerDied(WarmdError):
    """The process died while this call ran; `details` say by which signal or exit code."""

    code = "WORKER_DIED"
    outcome = "worker_died"


class NoSession(WarmdError):
    """The session that the call names does not exist, or no longer."""

    outcome = "no_session"


class SessionNotFound(NoSession):
    code = "SESSION_NOT_FOUND"


class SessionExpired(NoSession):
    code = "SESSION_EXPIRED"


class SessionEnded(NoSession):
    code = "SESSION_ENDED"


class SessionDied(NoSession):
    code = "SESSION_DIED"


class Rejected(WarmdError):
    """Refused before anything ran; the message names the value, the limit and the remedy."""

    outcome = "rejected"


class Invalid(Rejected, ValueError):
    code = "INVALID"


class TooLarge(Rejected):
    code = "TOO_LARGE"


class QueueFull(Rejected):
    code = "QUEUE_FULL"


class SlowConsumer(Rejected):
    """The client does not read what it is sent; it is refused more until it has caught up."""

    code = "SLOW_CONSUMER"


class NoRoom(Rejected):
    code = "NO_ROOM"


class Draining(Rejected):
    code = "DRAINING"


class NotAllowed(Rejected):
    code = "NOT_ALLOWED"


class AppNotFound(Rejected):
    code = "APP_NOT_FOUND"


class AppMismatch(Rejected):
    code = "APP_MISMATCH"


class FunctionNotFound(Rejected):
    code = "FUNCTION_NOT_FOUND"


class StartFailed(WarmdError):
    """The worker could not be started: import, `setup`, or the process itself failed."""

    code = "START_FAILED"
    outcome = "start_failed"


class CallTimeout(WarmdError, TimeoutError):
    """The deadline passed; `details["stack"]` names where the function hung."""

    code = "TIMEOUT"
    outcome = "timeout"


class CallCancelled(WarmdError):
    code = "CANCELLED"
    outcome = "cancelled"


class CallGone(WarmdError):
    """What a detached call gave is not, or no longer, kept; `details["first_part"]` names the first
    part that is, where there is one."""

    code = "CALL_GONE"
    outcome = "gone"


class DaemonError(WarmdError, ConnectionError):
    outcome = "daemon_lost"


class DaemonUnavailable(DaemonError):
    """There is no daemon to talk to; nothing was sent."""

    code = "DAEMON_UNAVAILABLE"


class DaemonLost(DaemonError):
    """The daemon went away while the call was under way."""

    code = "DAEMON_LOST"


class DaemonFailed(DaemonError):
    """A fault of warmd's own: in the middle of this call, of which the daemon's log says more, or what was
    answered cannot be read."""

    code = "INTERNAL"


def _leaves(kind: type[WarmdError]) -> list[type[WarmdError]]:
    return [kind] * bool(kind.code) + [leaf for sub in kind.__subclasses__() for leaf in _leaves(sub)]


BY_CODE: Mapping[str, type[WarmdError]] = {leaf.code: leaf for leaf in _leaves(WarmdError)}


def exception_from(problem: Problem, *, session: str | None = None, call: str | None = None) -> WarmdError:
    """The exception for a problem; a code from a newer daemon becomes a plain `WarmdError` with that code."""
    kind = BY_CODE.get(problem.code, WarmdError)
    error = kind(problem.message, ran=problem.ran, session=session, call=call, details=problem.details)
    error.code = problem.code
    return error


def shorten(text: str, limit_bytes: int = MAX_TEXT_BYTES) -> str:
    """`text` cut in the middle to at most `limit_bytes` of UTF-8: both ends of a traceback matter."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return text
    cut = b"\n... (shortened) ...\n"
    half = (limit_bytes - len(cut)) // 2
    return (data[:half] + cut + data[-half:]).decode("utf-8", "ignore")


def quoted(value: object, most: int) -> str:
    """`repr(value)` for an error's text, of at most `most` characters, with its closing quote or bracket.

    >>> quoted("x" * 100, 12)
    "'xxxxxxx...'"
    """
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 4]}...{text[-1]}"


def told(error: Exception) -> str:
    """An error as part of a sentence: of the system's the words, without the number, and the file.

    >>> told(PermissionError(13, "Permission denied", "/x"))
    '/x: Permission denied'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)
