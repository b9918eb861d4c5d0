"""Apps that misbehave, for fault tests: `zoo:Class` with this folder in the app's paths.

Each function does one bad thing.  Functions that wait say so first, by `context.progress("in")`,
so that a test knows when to strike.  Files named in an input tell what happened.  A function with one
parameter takes the input whole: `call("large", 1000)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import warmd.app

context = warmd.app.context
FOREVER = 3600.0


def note(path: str, line: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(line + "\n")


class Good:
    """Behaves; its state shows whether it is the same process, and whether calls were lost."""

    def setup(self, config: Any = None) -> None:
        self.n = 0
        self.config = config

    def run(self, input: Any) -> Any:
        self.n += 1
        return {"n": self.n, "pid": os.getpid(), "input": input}

    def add(self, a: int, b: int) -> int:
        return a + b

    def reset(self) -> str:
        self.n = 0
        return "reset"

    def echo(self, input: Any) -> Any:
        return input

    def count_up(self, n: int) -> Iterator[int]:
        yield from range(n)

    def count_and_tell(self, n: int) -> Iterator[int]:
        for i in range(n):
            context.progress(i)
            yield i

    def seen(self) -> dict[str, Any]:
        return {
            "session": context.session_id,
            "call": context.call_id,
            "app": context.app,
            "cancelled": context.cancelled,
            "config": self.config,
        }

    def steps(self, n: int) -> int:
        for step in range(n):
            context.progress({"step": step})
        return n

    def log(self, text: str) -> None:
        context.logger.info(text)

    @property
    def prop(self) -> int:
        return 1

    class Inner:
        pass

    number = 3

    @staticmethod
    def static(input: Any) -> Any:
        return input

    def _private(self) -> None:
        pass

    def unload(self, reason: str) -> None:
        if isinstance(self.config, dict) and "unloaded" in self.config:
            note(self.config["unloaded"], f"unloaded {reason}")


class Raises:
    """Ends badly in every way that leaves the process alive."""

    def setup(self) -> None:
        self.n = 0

    def alive(self) -> int:
        self.n += 1
        return self.n

    def value_error(self) -> None:
        raise ValueError("a plain error")

    def chained(self) -> None:
        try:
            self.value_error()
        except ValueError as error:
            raise RuntimeError("the outer one") from error

    def exit(self, code: Any = 3) -> None:
        sys.exit(code)

    def keyboard(self) -> None:
        raise KeyboardInterrupt

    def base(self) -> None:
        raise OwnBaseError("not an Exception")

    def generator_exit(self) -> None:
        raise GeneratorExit

    def stop_iteration(self) -> None:
        raise StopIteration(1)

    def group(self) -> None:
        raise ExceptionGroup("many", [ValueError("one"), TypeError("two")])

    def recurse(self) -> None:
        self.recurse()

    def memory(self) -> None:
        bytearray(2**62)

    def huge_text(self) -> None:
        raise ValueError("x" * 5_000_000)

    def surrogates(self) -> None:
        raise ValueError("lone \ud800 surrogate")

    def evil(self, kind: str) -> None:
        raise EVIL[kind]

    def unpackable(self) -> Any:
        return {"a": [1, object()]}

    def lambda_(self) -> Any:
        return lambda: 1

    def big_int(self) -> int:
        return 2**70

    def deep(self) -> Any:
        value: Any = []
        for _ in range(100_000):
            value = [value]
        return value

    def cyclic(self) -> Any:
        value: list[Any] = []
        value.append(value)
        return value

    def large(self, n: int) -> bytes:
        return bytes(n)

    def bad_part(self) -> Iterator[Any]:
        yield 1
        yield object()
        yield 3

    def raise_in_stream(self) -> Iterator[int]:
        yield 1
        raise ValueError("in the stream")

    def coroutine(self) -> Any:
        async def inner() -> int:
            return 1

        return inner()

    def bad_progress(self) -> None:
        context.progress(object())


class OwnBaseError(BaseException):
    pass


class EvilStrError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class ExitStrError(Exception):
    def __str__(self) -> str:
        sys.exit(9)


class NotAStrError(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class StrSubclassError(Exception):
    class Text(str):
        def encode(self, *_: Any) -> bytes:
            raise RuntimeError("no bytes")

        def __len__(self) -> int:
            raise RuntimeError("no length")

    def __str__(self) -> str:
        return self.Text("a text of its own kind")


class EvilNotesError(Exception):
    @property
    def __notes__(self) -> Any:
        raise RuntimeError("no notes")


class EvilCauseError(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no cause")

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no traceback")


class _EvilMeta(type):
    @property
    def __module__(cls) -> str:
        raise RuntimeError("no module")


class EvilTypeError(Exception, metaclass=_EvilMeta):
    pass


EVIL: dict[str, BaseException] = {
    "str": EvilStrError(),
    "exit": ExitStrError(),
    "not_a_str": NotAStrError(),
    "subclass": StrSubclassError(),
    "notes": EvilNotesError("with notes"),
    "cause": EvilCauseError("with a cause"),
    "type": EvilTypeError("of a type"),
}


class Dies:
    """Ends its process in every way."""

    def hard_exit(self, code: int = 7) -> None:
        print("about to exit", flush=True)
        os._exit(code)

    def segfault(self) -> None:
        ctypes.string_at(0)

    def abort(self) -> None:
        os.abort()

    def kill(self, signum: int = signal.SIGKILL) -> None:
        os.kill(os.getpid(), signum)

    def close_fds(self) -> str:
        os.closerange(0, 1000)
        return "closed"

    def exec(self) -> None:
        os.execv("/bin/sh", ["/bin/sh", "-c", "exit 11"])

    def exit_in_thread(self) -> None:
        thread = threading.Thread(target=os._exit, args=(5,))
        thread.start()
        thread.join()

    def exit_in_stream(self) -> Iterator[int]:
        yield 1
        os._exit(8)

    def exit_later(self, seconds: float) -> str:
        """Dies after it has answered."""
        threading.Timer(seconds, os._exit, (6,)).start()
        return "soon"

    def answer_and_die(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"


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

    def stop_self(self) -> None:
        context.progress("in")
        os.kill(os.getpid(), signal.SIGSTOP)

    def clean_up(self, path: str) -> None:
        try:
            context.progress("in")
            time.sleep(FOREVER)
        finally:
            note(path, "cleaned up")

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


class Forks:
    """Leaves processes behind, and returns twice."""

    def return_in_child(self, path: str) -> int:
        pid = os.fork()
        if pid == 0:
            note(path, f"child {os.getpid()}")
            return -1
        os.waitpid(pid, 0)
        return os.getpid()

    def exit_in_child(self, code: int = 4) -> int:
        pid = os.fork()
        if pid == 0:
            sys.exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def raise_in_child(self) -> int:
        pid = os.fork()
        if pid == 0:
            raise ValueError("in the child")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def yield_in_child(self) -> Iterator[int]:
        pid = os.fork()
        yield 1
        if pid:
            os.waitpid(pid, 0)
        yield 2

    def hold_fds(self) -> int:
        """A child that lives on with all descriptors; its pid is returned."""
        pid = os.fork()
        if pid == 0:
            time.sleep(FOREVER)
            os._exit(0)
        return pid

    def hold_fds_and_die(self) -> None:
        self.hold_fds()
        os.kill(os.getpid(), signal.SIGKILL)

    def daemonize(self) -> int:
        """A double fork with a session of its own; the grandchild's pid is returned."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(write, str(os.getpid()).encode())
                time.sleep(FOREVER)
            os._exit(0)
        os.waitpid(child, 0)
        pid = int(os.read(read, 32))
        os.close(read)
        os.close(write)
        return pid

    def popen(self) -> int:
        process = subprocess.Popen(["sleep", "3600"], start_new_session=True)
        process.returncode = 0  # keeps its finalizer quiet
        return process.pid

    def zombie(self) -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        return pid

    def multiprocessing(self) -> Any:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])

    def spawn(self) -> Any:
        import multiprocessing

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(abs, [-1, -2, -3])


class Junk:
    """Writes where it should not."""

    def print(self, n: int = 1000) -> int:
        for i in range(n):
            print("junk", i)
            print("error", i, file=sys.stderr)
        return n

    def raw(self) -> str:
        os.write(1, b"\x00\xff raw bytes \x80\n")
        os.write(2, b"no newline")
        sys.stdout.buffer.write(b"buffer\n")
        return "written"

    def surrogate(self) -> str:
        print("lone \ud800")
        return "written"

    def close_streams(self) -> str:
        sys.stdout.close()
        sys.stderr.close()
        return "closed"

    def close_descriptors(self) -> str:
        for fd in (0, 1, 2):
            os.close(fd)
        return "closed"

    def none_streams(self) -> str:
        sys.stdout = sys.stderr = None  # type: ignore[assignment]
        return "gone"

    def read_stdin(self) -> str:
        return sys.stdin.read()

    def subprocess(self) -> int:
        return subprocess.run(["echo", "from a child"], stdout=sys.stdout, check=True).returncode

    def ok(self) -> str:
        print("still here")
        return "ok"


class SetupRaises:
    def setup(self) -> None:
        raise ValueError("setup does not want to")

    def run(self) -> None:
        pass


class SetupExits:
    def setup(self) -> None:
        sys.exit(4)

    def run(self) -> None:
        pass


class SetupDies:
    def setup(self) -> None:
        print("setup is dying")
        os._exit(12)

    def run(self) -> None:
        pass


class SetupCrashes:
    def setup(self) -> None:
        ctypes.string_at(0)

    def run(self) -> None:
        pass


class SetupHangs:
    def setup(self) -> None:
        time.sleep(FOREVER)

    def run(self) -> None:
        pass


class SetupSlow:
    def setup(self, config: Any = None) -> None:
        time.sleep(0.5 if config is None else float(config))

    def run(self) -> str:
        return "ran"


class SetupForks:
    def setup(self) -> None:
        if os.fork() == 0:
            time.sleep(FOREVER)
            os._exit(0)
        raise ValueError("setup forked and failed")

    def run(self) -> None:
        pass


class InitRaises:
    def __init__(self) -> None:
        raise ValueError("no instance")

    def run(self) -> None:
        pass


class UnloadRaises:
    def run(self) -> str:
        return "ran"

    def unload(self) -> None:
        raise ValueError("unload does not want to")


class UnloadHangs:
    def run(self) -> str:
        return "ran"

    def unload(self) -> None:
        time.sleep(FOREVER)


def not_a_class() -> None:
    pass


class Async:
    """An async app, with a background task and every kind of function."""

    async def setup(self, config: Any = None) -> None:
        self.n = 0
        self.beats = 0
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            self.beats += 1
            await asyncio.sleep(0.005)

    async def run(self, input: Any) -> Any:
        self.n += 1
        await asyncio.sleep(0)
        return {"n": self.n, "input": input, "same_loop": asyncio.get_running_loop() is self.loop}

    def sync(self, input: Any) -> Any:
        asyncio.get_running_loop()
        return input

    async def echo(self, input: Any) -> Any:
        return input

    async def how_many_beats(self) -> int:
        return self.beats

    async def until_beats(self, n: int) -> int:
        while self.beats < n:
            await asyncio.sleep(0.001)
        return self.beats

    async def raises(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("an async error")

    async def exit(self) -> None:
        sys.exit(3)

    async def keyboard(self) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    async def cancelled(self) -> None:
        raise asyncio.CancelledError

    async def exit_in_task(self) -> str:
        async def leave() -> None:
            sys.exit(3)

        self.leaving = asyncio.create_task(leave())
        return "left behind"

    async def cancel_all_tasks(self) -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(FOREVER)

    async def stop_loop(self) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "stopped and going on"

    async def count_up(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    def sync_count_up(self, n: int) -> Iterator[int]:
        yield from range(n)

    async def sleep(self) -> None:
        context.progress("in")
        await asyncio.sleep(FOREVER)

    async def gather(self) -> None:
        context.progress("in")
        await asyncio.gather(*(asyncio.sleep(FOREVER) for _ in range(3)))

    async def task_group(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(asyncio.sleep(FOREVER))
            context.progress("in")

    async def loop_in_task(self) -> None:
        """A child task of the call blocks the loop."""

        async def block() -> None:
            context.progress("in")
            while True:
                pass

        await asyncio.gather(block(), asyncio.sleep(FOREVER))

    async def loop_in_coroutine(self) -> None:
        context.progress("in")
        while True:
            pass

    def loop_in_sync(self) -> None:
        context.progress("in")
        while True:
            pass

    async def in_thread(self) -> None:
        context.progress("in")
        await asyncio.to_thread(time.sleep, 1.0)

    async def wait_for(self) -> None:
        context.progress("in")
        async with asyncio.timeout(FOREVER):
            await asyncio.sleep(FOREVER)

    async def swallow_once(self) -> str:
        try:
            context.progress("in")
            await asyncio.sleep(FOREVER)
        except (asyncio.CancelledError, warmd.app.Interrupted):
            return "swallowed"
        return "slept"

    async def swallow_twice(self) -> None:
        for n in range(2):
            with contextlib.suppress(asyncio.CancelledError, warmd.app.Interrupted):
                if n == 0:
                    context.progress("in")
                await asyncio.sleep(FOREVER)
        await asyncio.sleep(FOREVER)

    async def stream(self, path: str | None = None) -> AsyncIterator[int]:
        n = 0
        try:
            while True:
                yield n
                n += 1
        finally:
            if path:
                note(path, f"closed after {n}")

    async def stuck_stream(self, path: str | None = None) -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.sleep(FOREVER)
        finally:
            if path:
                note(path, "closed")

    async def return_in_child(self, path: str) -> int:
        pid = os.fork()
        if pid == 0:
            note(path, f"child {os.getpid()}")
            return -1
        os.waitpid(pid, 0)
        return os.getpid()

    async def unload(self, reason: str) -> None:
        await asyncio.sleep(0)
        if isinstance(self.config, dict) and "unloaded" in self.config:
            note(self.config["unloaded"], f"unloaded {reason}")


class AsyncOnCancel:
    async def setup(self) -> None:
        self.stopped = asyncio.Event()
        self.told = 0

    async def run(self) -> str:
        self.stopped.clear()
        context.progress("in")
        await self.stopped.wait()
        return "stopped by on_cancel"

    async def how_often(self) -> int:
        return self.told

    async def on_cancel(self) -> None:
        self.told += 1
        await asyncio.sleep(0)
        self.stopped.set()


class AsyncSetupRaises:
    async def setup(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("async setup does not want to")

    def run(self) -> None:
        pass


class AsyncSetupExits:
    async def setup(self) -> None:
        sys.exit(4)

    def run(self) -> None:
        pass
