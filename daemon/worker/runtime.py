"""The state of a worker that its signal handler sees, and the rules for interrupts.

An interrupt raises `Interrupted` from a signal handler, at any bytecode of the main thread, so it
must hit the app's code and nothing else.  `armed` says whether it may: set around the app's code
only, and cleared while the runtime borrows the thread inside of that (`progress`).  What the
daemon wants is on the control page; the ordinal there must be the running call's, so that one
that comes late spares the next call.  `ordinal` is set before the page is looked at for the first
time: a request that came too early for the handler is seen there.

The daemon repeats an interrupt, because one that lands in a `__del__` is lost.  Clean-up code that
the first one set off is spared the next ones for a while.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from warmd.app import Interrupted, context
from warmd.daemon.worker import output
from warmd.daemon.worker.link import Link
from warmd.daemon.worker.load import App
from warmd.daemon.worker.page import INTERRUPT_SIGNAL, ControlPage
from warmd.daemon.worker.text import MAX_MESSAGE_BYTES, clean, describe
from warmd.daemon.worker.unfit import Unfit
from warmd.protocol.values import pack
from warmd.protocol.work import Begin, Declined, Invoke, NoFunction, Ordinal, Progressed, Raised, Reloaded
from warmd.protocol.work import Interrupted as CutOff

if TYPE_CHECKING:
    from warmd.daemon.worker.reload import Reloader

MAX_PROGRESS_BYTES = 64 * 1024
CLEANUP_SECONDS = 0.5
"""A `finally` block that an interrupt set off has this long until the next one may hit it."""


class NotReloaded(Exception):
    """The app's files have changed into what cannot be taken over; nothing of the call has run."""


class UnknownFunction(Exception):
    """An app that reloads has no such function, or not any more; nothing of the call has run."""


class Runtime:
    """One per worker process; also what `warmd.context` looks at."""

    cuts: tuple[type[BaseException], ...] = (Interrupted,)
    """What a function ends with when it was interrupted."""

    def __init__(self, link: Link, page: ControlPage, begin: Begin, app: App) -> None:
        self.link = link
        self.page = page
        self.app = app
        self.session_id = begin.session
        self.app_name = begin.spec.name
        self.max_message_bytes = begin.max_message_bytes
        self.ordinal = 0
        self.armed = False
        self.on_cancel: Callable[[], Any] | None = None
        self.reloader: Reloader | None = None
        self._main_thread = threading.get_ident()
        self._told = False
        self._missed = False
        self._tells_itself = False
        self._call: bytes | None = None
        self.request_id: str | None = None
        self._started = 0.0
        self._cut_at = -CLEANUP_SECONDS

    def install(self) -> None:
        """Takes over the interrupt signal and `warmd.context`."""
        signal.signal(INTERRUPT_SIGNAL, self._on_signal)
        context._runtime = self

    # What `warmd.context` shows.

    @property
    def call_id(self) -> str | None:
        return None if self._call is None else self._call.hex()

    @property
    def cancelled(self) -> bool:
        return self.ordinal != 0 and self.ordinal in self.page.asked()

    def progress(self, value: Any) -> None:
        """What the app tells of the running call.  Raises TypeError and ValueError."""
        self._tells_itself = True
        self._progress(value)

    def progress_of_bar(self, value: Any) -> None:
        """The same of a bar that the app, or a library, shows; nothing where the app tells by itself."""
        if not self._tells_itself:
            self._progress(value)

    def _progress(self, value: Any) -> None:
        """Tell the daemon, from any thread; no interrupt may cut the message in two."""
        ordinal = self.ordinal
        if not ordinal or self.link.forked:
            return
        body = pack(value, "progress")
        if len(body) > MAX_PROGRESS_BYTES:
            raise ValueError(
                f"progress takes at most {MAX_PROGRESS_BYTES} bytes packed, got {len(body)}: "
                "yield or return what is larger"
            )
        if threading.get_ident() != self._main_thread:
            self.link.send(Progressed(Ordinal(ordinal), body))
            return
        armed, self.armed = self.armed, False
        try:
            self.link.send(Progressed(Ordinal(ordinal), body))
        finally:
            self.armed = armed
        if armed and self._missed:
            self._look()

    # The life of a call.

    def begin(self, invoke: Invoke) -> bool:
        """A call begins; False when it was withdrawn or asked to stop before, and must not be entered."""
        self._told = self._missed = self._tells_itself = False
        self._cut_at = -CLEANUP_SECONDS
        self._call = invoke.call
        self.request_id = invoke.request_id or None
        self._started = time.monotonic()
        self.ordinal = invoke.ordinal
        self.page.enter(invoke.ordinal)
        return not (self.page.is_withdrawn(invoke.ordinal) or invoke.ordinal in self.page.asked())

    def end(self) -> None:
        """The call's function is left for good: from here on it cannot be interrupted."""
        self.armed = False
        self.ordinal = 0
        self._call = self.request_id = None

    def asked_to_stop(self) -> bool:
        return self.ordinal in self.page.asked()

    def seconds(self) -> float:
        """Since the call began."""
        return time.monotonic() - self._started

    def guarded(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs the app's code: here an interrupt may raise, and a forked child never comes back."""
        try:
            self.armed = True
            if self._missed:
                self._look()
            return function(*args, **kwargs)
        finally:
            self.armed = False
            if self.link.forked:
                leave_fork(sys.exception())

    def run_hook(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Runs the class's constructor, `setup` or `unload`.  Raises what they raise."""
        self.guarded(function, *args, **kwargs)

    def reload_by(self, reloader: Reloader) -> None:
        """From now on functions that were edited are taken over before each call."""
        reloader.scan()
        reloader.may_be_async = self.app.is_async
        if self.session_id.startswith("pool_"):
            end = f"warmd end --app {self.app_name}"
            reloader.remedy = f"end the app's shared workers ({end}), or undo the change"
        self.reloader = reloader

    def reload(self, reloader: Reloader, function: str) -> None:
        """Takes over what was edited, for a call of `function`.  Raises NotReloaded, UnknownFunction."""
        app = reloader.renew(self.app, self.guarded)
        if app is not self.app:
            before, had_on_cancel = self.app.functions, self.on_cancel is not None
            self.app, self.on_cancel = app, app.hook("on_cancel")
            if (before, had_on_cancel) != (app.functions, self.on_cancel is not None):
                self.link.send(Reloaded(app.functions, self.on_cancel is not None))
        if function not in app.functions:
            raise UnknownFunction(function)

    def close(self) -> None:
        """Ends what the runtime runs besides calls."""

    def bad_end(self, ordinal: Ordinal, error: BaseException) -> Raised | Declined | NoFunction | CutOff:
        """The reply for what the function raised, or why it was not entered."""
        if isinstance(error, UnknownFunction):
            return NoFunction(ordinal)
        if isinstance(error, NotReloaded):
            return Declined(ordinal, clean(str(error), MAX_MESSAGE_BYTES))
        if self.was_interrupt(ordinal, error):
            return CutOff(ordinal, self.seconds())
        if isinstance(error, Unfit):
            if error.__cause__ is not None:
                output.note(f"an input was refused:\n{describe(error.__cause__).traceback}")
            return Declined(ordinal, clean(str(error), MAX_MESSAGE_BYTES))
        return Raised(ordinal, self.seconds(), *describe(error))

    def was_interrupt(self, ordinal: Ordinal, error: BaseException) -> bool:
        """Whether the error is the runtime's own doing."""
        return ordinal in self.page.asked() and self._has_cut(error)

    def _has_cut(self, error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):
            return any(map(self._has_cut, error.exceptions))
        return isinstance(error, self.cuts)

    # Called by Python at any bytecode of the main thread.

    def _on_signal(self, _signum: int, _frame: object) -> None:
        if not self.ordinal or self.link.forked:
            return
        if self.armed:
            self._look()
        else:
            # The interrupt itself is repeated, but on_cancel is asked for only once.
            self._missed = True

    def _look(self) -> None:
        self._missed = False
        cancel, interrupt = self.page.asked()
        if cancel == self.ordinal:
            self.tell()
        if interrupt == self.ordinal:
            self.cut()

    def tell(self) -> None:
        """Calls the app's `on_cancel`, once a call."""
        if self._told or self.on_cancel is None:
            return
        self._told = True
        self.call_on_cancel(self.on_cancel)

    def call_on_cancel(self, on_cancel: Callable[[], Any]) -> None:
        try:
            on_cancel()
        except Interrupted:
            raise
        except BaseException as error:
            output.note(f"on_cancel raised:\n{describe(error).traceback}")

    def cut(self) -> None:
        if self.is_sparing() and _handles((*self.cuts, GeneratorExit)):
            return
        self.spare()
        raise Interrupted("the call was cancelled or ran past its deadline")

    def spare(self) -> None:
        """The app has just been told to stop: leave its clean-up code in peace for a while."""
        self._cut_at = time.monotonic()

    def is_sparing(self) -> bool:
        return time.monotonic() - self._cut_at < CLEANUP_SECONDS


def _handles(kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether the interrupted code is in an `except` or `finally` that one of these set off."""
    error = sys.exception()
    for _ in range(20):
        if error is None:
            return False
        if isinstance(error, kinds):
            return True
        error = error.__context__
    return False


def leave_fork(error: BaseException | None) -> NoReturn:
    """Ends a process that the app forked and that came back to where only the worker may go."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        output.note(f"a forked child raised:\n{describe(error).traceback}")
        code = 1
    output.flush()
    os._exit(code & 0xFF)
