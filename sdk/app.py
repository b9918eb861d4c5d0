"""What an app's code may use: `warmd.context` and `warmd.Interrupted`.

An app need not import any of this.  Outside of a worker (a unit test of an app's class, say) the
same code runs: there the ids are None, nothing is ever cancelled, and `progress` does nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import logging

FOLDER_VARIABLE = "WARMD_SESSION_TMP"


class Interrupted(BaseException):
    """Raised inside a function whose call was cancelled or ran past its deadline.

    Derives from BaseException, as KeyboardInterrupt does, so that `except Exception` lets it
    through.  Use `finally` to clean up; the session then lives on with its state.
    """


class Runtime(Protocol):
    """What a worker lends to `context`."""

    session_id: str
    app_name: str

    @property
    def call_id(self) -> str | None: ...
    @property
    def request_id(self) -> str | None: ...
    @property
    def cancelled(self) -> bool: ...
    def progress(self, value: Any) -> None: ...


class Context:
    """Facts about the running call.  There is one instance: `warmd.context`."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._logger: logging.Logger | None = None

    @property
    def session_id(self) -> str | None:
        """The session that this process serves; a worker of the shared pool has an id of its own."""
        return None if self._runtime is None else self._runtime.session_id

    @property
    def call_id(self) -> str | None:
        """The running call's id in hex; None between calls."""
        return None if self._runtime is None else self._runtime.call_id

    @property
    def request_id(self) -> str | None:
        """What the caller's own logs name this request by; None between calls, and where it gave none.

        Of a call that came by HTTP it is the `X-Request-Id` of the request, and of its answer.
        """
        return None if self._runtime is None else self._runtime.request_id

    @property
    def app(self) -> str | None:
        """The app's name."""
        return None if self._runtime is None else self._runtime.app_name

    @property
    def folder(self) -> str | None:
        """The path of a folder for this session's files, made when it is first asked for.

        The daemon removes it with the session's processes, whatever has ended those.
        """
        path = None if self._runtime is None else os.environ.get(FOLDER_VARIABLE)
        if path is not None:
            os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    @property
    def cancelled(self) -> bool:
        """Whether the running call was asked to stop.  Cheap: look at it in every round of a loop."""
        return False if self._runtime is None else self._runtime.cancelled

    def progress(self, value: Any) -> None:
        """Tells the caller how far the call is; the last value is shown in listings.

        Takes what a function may return, up to 64 KiB packed.  Raises TypeError for other values
        and ValueError for larger ones.  Does nothing between calls.
        """
        if self._runtime is not None:
            self._runtime.progress(value)

    @property
    def logger(self) -> logging.Logger:
        """The logger `warmd.app`.  In a worker it writes to the session's log, from INFO up.

        A line of a call that has a request id has it too.
        """
        if self._logger is None:
            self._logger = _make_logger(in_worker=self._runtime is not None)
        return self._logger


def _make_logger(in_worker: bool) -> logging.Logger:
    import logging

    logger = logging.getLogger("warmd.app")
    if in_worker and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(request)s%(message)s"))
        handler.addFilter(_name_request)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        # An app that sets up the root logger would see each line twice.
        logger.propagate = False
    return logger


def _name_request(record: logging.LogRecord) -> bool:
    id = context.request_id
    record.request = "" if id is None else f"[{id}] "
    return True


context = Context()
