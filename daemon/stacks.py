"""Where a worker's main thread is: it writes its stack into a memfd, on a signal (`worker.stack`).

Python's own handler is asked first.  Where nothing has come of that soon, C code holds the interpreter,
and faulthandler is asked, which needs none (13 ms measured).  The daemon sends the signals and looks into
the file a few times, by the loop's timers.  The text is read as soon as it has stopped growing.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from warmd.daemon.loop import Loop, Timer
from warmd.daemon.worker.page import C_STACK_SIGNAL, STACK_SIGNAL
from warmd.protocol.errors import shorten

if TYPE_CHECKING:
    from warmd.daemon.held import Worker

LOOK_AFTER_SECONDS = (0.002, 0.005, 0.010, 0.020, 0.040, 0.060, 0.080, 0.100, 0.150)
C_CODE_AFTER_SECONDS = 0.040
"""Then nothing but C code can be the reason that there is no stack."""
MAX_STACK_BYTES = 64 * 1024

_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$', re.MULTILINE)
_RUNTIME = re.compile(r"/(?:warmd/)?daemon/worker/[a-z_]+\.py$")
_BOOTSTRAP = re.compile(r"/(?:loky/backend|multiprocessing)/[a-z_]+\.py$|^<frozen runpy>$|/runpy\.py$")


class StackCapture:
    """One look at one worker; `done(text)` is called within 150 ms, with "" if nothing was to be had."""

    def __init__(self, loop: Loop, pidfd: int, stack_fd: int, done: Callable[[str], object]) -> None:
        self._stack_fd = stack_fd
        self._pidfd = pidfd
        self._done = done
        self._seen = 0
        self._over = False
        with contextlib.suppress(OSError):
            os.ftruncate(stack_fd, 0)
            signal.pidfd_send_signal(pidfd, STACK_SIGNAL)
        now = time.monotonic()
        last = LOOK_AFTER_SECONDS[-1]
        self._timers: list[Timer] = [
            loop.call_at(now + seconds, lambda final=seconds == last: self._look(final))  # type: ignore[misc]
            for seconds in LOOK_AFTER_SECONDS
        ]
        self._timers.append(loop.call_at(now + C_CODE_AFTER_SECONDS, self._ask_c_code))

    def cancel(self) -> None:
        """`done` is not called any more."""
        self._over = True
        for timer in self._timers:
            timer.cancel()

    def finish(self) -> None:
        """Take what is there by now, if nothing was taken yet."""
        if not self._over:
            self._look(final=True)

    def _ask_c_code(self) -> None:
        if not os.fstat(self._stack_fd).st_size:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, C_STACK_SIGNAL)

    def _look(self, final: bool) -> None:
        size = os.fstat(self._stack_fd).st_size
        if final or (size and size == self._seen):
            self.cancel()
            text = os.pread(self._stack_fd, MAX_STACK_BYTES, 0).decode("utf-8", "replace")
            self._done(readable(text))
        self._seen = size


def readable(dump: str) -> str:
    """faulthandler's text as `file:line in function` lines, innermost first, the app's frames alone.

    What the worker's runtime and Python's start-up did around them is left out.
    """
    frames = [match.group("file", "line", "function") for match in _FRAME.finditer(dump)]
    while frames and _RUNTIME.search(frames[0][0]):
        del frames[0]
    for at, (file, _, _) in enumerate(frames):
        if _RUNTIME.search(file) or _BOOTSTRAP.search(file):
            del frames[at:]
            break
    return shorten("\n".join(f"{file}:{line} in {function}" for file, line, function in frames))


def capture(loop: Loop, worker: Worker | None, done: Callable[[str], None]) -> None:
    """Take a worker's stack, in place of one that is being taken; `done("")` where there is none."""
    if worker is None or worker.pidfd < 0:
        done("")
        return
    if worker.capture is not None:
        worker.capture.cancel()

    def taken(text: str) -> None:
        worker.capture = None
        done(text)

    worker.capture = StackCapture(loop, worker.pidfd, worker.stack_fd, taken)


def look(loop: Loop, worker: Worker | None, done: Callable[[str], None]) -> None:
    """The same for somebody who is only curious: never in the way of a capture."""
    if worker is None or worker.pidfd < 0 or worker.exited or worker.capture is not None:
        done("")
        return
    if worker.look is not None:
        worker.look.finish()
    worker.look = StackCapture(loop, worker.pidfd, worker.stack_fd, done)


def call_ended(worker: Worker) -> None:
    """Whatever is being taken is of a call that has ended."""
    if worker.capture is not None:
        # The signal itself can end what hung (a sleep in C code): the stack was written before.
        worker.capture.finish()
    if worker.look is not None:
        worker.look.finish()
        worker.look = None
