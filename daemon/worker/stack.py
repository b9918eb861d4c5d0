"""Where the main thread is, written into the memfd for stacks, on either of two signals.

faulthandler reads the frames at any machine instruction, and CPython 3.11 has a moment at each call from C
code into Python at which that crashes: 586 of 93,152 looks at a loop of such calls.  So Python's own
handler is asked first, which runs between two bytecodes.  Where it does not come to run, C code holds the
thread, its frames stand still, and faulthandler may look.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from collections.abc import Callable
from types import FrameType

from warmd.daemon.worker.page import C_STACK_SIGNAL, STACK_SIGNAL

MAX_FRAMES = 100
"""As faulthandler has it."""


class Writer:
    """Writes into the memfd, for one signal at a time: the next ones may come while it does."""

    def __init__(self, stack_fd: int) -> None:
        self._stack_fd = stack_fd
        self._is_writing = False

    def write(self, text: Callable[[], str]) -> None:
        if self._is_writing:
            return
        self._is_writing = True
        try:
            # The app may have closed descriptors that it did not know.
            with contextlib.suppress(OSError):
                told = text().encode("utf-8", "backslashreplace")
                os.ftruncate(self._stack_fd, 0)
                os.write(self._stack_fd, told)
        finally:
            self._is_writing = False


def write_on_signals(stack_fd: int) -> None:
    """From now on both signals have the stack written."""
    writer = Writer(stack_fd)
    signal.signal(STACK_SIGNAL, lambda _signum, frame: writer.write(lambda: text_of(frame)))
    faulthandler.register(C_STACK_SIGNAL, file=stack_fd, all_threads=False, chain=False)


def text_of(frame: FrameType | None) -> str:
    """The frames in faulthandler's words, innermost first."""
    lines: list[str] = []
    while frame is not None and len(lines) < MAX_FRAMES:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}\n')
        frame = frame.f_back
    return "".join(lines)
