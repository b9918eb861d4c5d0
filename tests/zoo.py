"""Apps that misbehave, for fault tests: `zoo:Class` with this folder in the app's paths.

Each function does one bad thing.  Functions that wait say so first, by `context.progress("in")`,
so that a test knows when to strike.  Files named in an input tell what happened.  A function with one
parameter takes the input whole: `call("large", 1000)`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import warmd.app

context = warmd.app.context


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
            "request": context.request_id,
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

    def quiet(self) -> str:
        return "quiet"

    def ok(self) -> str:
        print("still here")
        return "ok"


def not_a_class() -> None:
    pass


# The same files are imported as `tests.zoo` by tests and as `zoo` by workers.
if __package__:
    from tests.zoo_async import *  # noqa: F403
    from tests.zoo_deaths import *  # noqa: F403
    from tests.zoo_forks import *  # noqa: F403
    from tests.zoo_hangs import *  # noqa: F403
    from tests.zoo_outputs import *  # noqa: F403
    from tests.zoo_starts import *  # noqa: F403
else:
    from zoo_async import *  # noqa: F403
    from zoo_deaths import *  # noqa: F403
    from zoo_forks import *  # noqa: F403
    from zoo_hangs import *  # noqa: F403
    from zoo_outputs import *  # noqa: F403
    from zoo_starts import *  # noqa: F403
