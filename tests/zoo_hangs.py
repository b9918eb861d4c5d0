"""Apps of the zoo that wait for ever."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import warmd.app

context = warmd.app.context
FOREVER = 3600.0
SYS_CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
CLONE_VFORK = 0x4000


def note(path: str, line: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


class Hangs:
    """Waits for ever, each time at another place."""

    def setup(self) -> None:
        self.n = 0

    def alive(self) -> int:
        self.n += 1
        return self.n

    def echo(self, input: Any) -> Any:
        return input

    def sleep(self, seconds: float = FOREVER) -> None:
        context.progress("in")
        time.sleep(seconds)

    def loop(self) -> None:
        context.progress("in")
        while True:
            pass

    def lock(self) -> None:
        context.progress("in")
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    def c_loop(self) -> None:
        """Deaf: C code that holds the interpreter and never looks at signals."""
        context.progress("in")
        sum(range(10**15))

    def regex(self) -> None:
        """C code that holds the interpreter but looks at signals now and then."""
        context.progress("in")
        re.match(r"(a+)+$", "a" * 60 + "b")

    def c_sleep(self, seconds: int = 3600) -> None:
        """C code that holds the interpreter in a system call; a signal ends the call early."""
        context.progress("in")
        ctypes.PyDLL(None).sleep(seconds)

    def subprocess(self) -> None:
        context.progress("in")
        subprocess.run(["sleep", "3600"], check=True)

    def swallow(self) -> None:
        """Catches everything and goes on: only SIGKILL helps."""
        said = False
        while True:
            with contextlib.suppress(BaseException):
                if not said:
                    said = True
                    context.progress("in")
                time.sleep(0.01)

    def swallow_once(self) -> str:
        try:
            context.progress("in")
            time.sleep(FOREVER)
        except BaseException:
            return "swallowed"
        return "slept"

    def ignore_signals(self) -> None:
        for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with contextlib.suppress(BaseException):
            context.progress("in")
        while True:
            time.sleep(1)

    def own_handlers(self) -> None:
        """Takes SIGINT and SIGTERM for itself, as many frameworks do."""
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        context.progress("in")
        time.sleep(FOREVER)

    def all_handlers(self) -> None:
        """Takes every signal for itself, those of the runtime too."""
        for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(signum, lambda *_: None)
        context.progress("in")
        time.sleep(FOREVER)

    def uninterruptible(self) -> None:
        """Waits as vfork does (state D): signals wait too, all but SIGKILL."""
        context.progress("in")
        child = ctypes.PyDLL(None).syscall(SYS_CLONE, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0)
        if child == 0:
            time.sleep(FOREVER)

    def leave_thread(self, path: str) -> None:
        """Another thread goes on for ever, and tells so."""

        def go_on() -> None:
            while True:
                note(path, "on")
                time.sleep(0.01)

        threading.Thread(target=go_on, daemon=True).start()
        context.progress("in")
        time.sleep(FOREVER)

    def echo_after(self, seconds: float, value: Any) -> Any:
        time.sleep(seconds)
        return value

    def stop_self(self) -> None:
        context.progress("in")
        os.kill(os.getpid(), signal.SIGSTOP)

    def clean_up(self, path: str) -> None:
        try:
            context.progress("in")
            time.sleep(FOREVER)
        finally:
            note(path, "cleaned up")

    def slow_clean_up(self, path: str) -> None:
        try:
            context.progress("in")
            time.sleep(FOREVER)
        finally:
            with contextlib.suppress(ValueError):
                raise ValueError
            try:
                self.no_such_attribute  # noqa: B018
            except AttributeError:
                time.sleep(0.3)
            note(path, "cleaned up")

    def progress_from_thread(self) -> None:
        thread = threading.Thread(target=context.progress, args=("from a thread",))
        thread.start()
        thread.join()

    def polite(self) -> str:
        """Looks at `context.cancelled`."""
        context.progress("in")
        while not context.cancelled:
            time.sleep(0.001)
        return "stopped"

    def progress_loop(self) -> None:
        """Sends all the time: an interrupt must never cut a message in two."""
        while True:
            context.progress("x" * 50_000)

    def stream(self, path: str | None = None) -> Iterator[int]:
        n = 0
        try:
            while True:
                yield n
                n += 1
        finally:
            if path:
                note(path, f"closed after {n}")

    def stuck_stream(self, path: str | None = None) -> Iterator[int]:
        try:
            yield 0
            time.sleep(FOREVER)
        finally:
            if path:
                note(path, "closed")

    def stubborn_stream(self) -> Iterator[int]:
        n = 0
        while True:
            with contextlib.suppress(GeneratorExit):
                yield n
            n += 1


class OnCancel:
    """Wants to be asked before it is interrupted."""

    def setup(self, config: Any = None) -> None:
        self.config = config
        self.stopped = False
        self.told = 0

    def run(self) -> str:
        self.stopped = False
        context.progress("in")
        while not self.stopped:
            time.sleep(0.001)
        return "stopped by on_cancel"

    def deaf(self) -> None:
        context.progress("in")
        time.sleep(FOREVER)

    def how_often(self) -> int:
        return self.told

    def on_cancel(self) -> None:
        self.told += 1
        self.stopped = True
        print("cancelling")
        if self.config == "raise":
            raise ValueError("on_cancel fails")
        if self.config == "hang":
            time.sleep(FOREVER)
