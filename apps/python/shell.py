"""IPython's shell in this process: no kernel, no history file, no profile, nothing printed by itself.

IPython takes any exception of a cell, whatever its kind, and shows it.  Here it shows nothing, and the
exception is handed on as it is: so a cell's error becomes a part of its result, and an interrupt of the
call goes through.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Coroutine
from typing import Any

from warmd.apps.python import figures

try:
    import IPython
    from IPython.core.autocall import ExitAutocall
    from IPython.core.compilerop import CachingCompiler
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.history import HistoryManager
    from IPython.core.interactiveshell import InteractiveShell
except ImportError as error:
    raise ImportError("the app needs IPython: pip install 'warmd[python]'") from error

OUT_CACHE = 20
"""How many results `Out` keeps alive."""
MAX_DISPLAYS = 100
_STOP_SECONDS = 2.0
_MAX_FRAMES = 100
_MACHINERY = (os.path.dirname(os.path.abspath(IPython.__file__)) + os.sep, os.path.dirname(__file__) + os.sep)


class _Compiler(CachingCompiler):
    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:  # noqa: ARG002
        return f"<cell {number}>"


class _Exit(ExitAutocall):
    def __call__(self, code: Any = None) -> None:
        raise SystemExit(code)


class _Display(DisplayHook):
    """Keeps what the last expression looks like, for the result."""

    shell: Any

    def write_output_prompt(self) -> None:
        return

    def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:  # noqa: ARG002
        self.shell.bundle = format_dict

    def log_output(self, format_dict: dict[str, Any]) -> None:  # noqa: ARG002
        return

    def finish_displayhook(self) -> None:
        self._is_active = False

    def cull_cache(self) -> None:
        kept: dict[int, Any] = self.shell.user_ns["_oh"]
        for number in sorted(kept)[: max(1, len(kept) // 5)]:
            self.shell.user_ns.pop(f"_{number}", None)
            del kept[number]


class _Publisher(DisplayPublisher):
    """Keeps what `display` is given, for the result."""

    shell: Any

    def publish(self, data: dict[str, Any], *_: Any, **__: Any) -> None:
        if len(self.shell.displays) < MAX_DISPLAYS:
            self.shell.displays.append(dict(data))

    def clear_output(self, wait: bool = False) -> None:  # noqa: ARG002
        self.shell.displays.clear()


class Shell(InteractiveShell):
    """One a process: `Shell.instance()`, which is also what `get_ipython()` gives."""

    compiler_class = _Compiler
    displayhook_class = _Display
    display_pub_class = _Publisher
    system = InteractiveShell.system_raw

    def __init__(self, **options: Any) -> None:
        self.bundle: dict[str, Any] = {}
        self.displays: list[dict[str, Any]] = []
        self._shown: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        shell: Any = super()
        shell.__init__(colors="nocolor", cache_size=OUT_CACHE, loop_runner=self._run_in_loop, **options)
        formatters: Any = self.display_formatter
        formatters.formatters["image/png"].for_type_by_name("matplotlib.figure", "Figure", figures.png)
        warnings.filterwarnings("ignore", "To exit: use", UserWarning)

    def run(self, code: str) -> BaseException | None:
        """Runs a cell; `bundle` and `displays` then have what it showed.  Gives what it raised."""
        self.bundle, self.displays[:], self._shown = {}, [], None
        shell: Any = self
        done = shell.run_cell(code, store_history=True)
        error = done.error_before_exec or done.error_in_exec or self._shown
        if isinstance(error, UserWarning) and isinstance(error.__context__, SystemExit):
            error = error.__context__  # where the cell makes warnings errors, IPython's own about exit is one
        self._shown = None
        try:
            figures.show()
        except Exception as undrawable:
            error = error or undrawable
        return error

    def close(self) -> None:
        """Lets go of the process: `__main__`, the streams, the event loops."""
        shell: Any = self
        scripts = shell.magics_manager.registry.get("ScriptMagics")
        if scripts is not None:
            scripts.stop_event_loop()
        if self._loop is not None:
            _end_tasks(self._loop)
            self._loop.close()
            asyncio.set_event_loop(None)
            self._loop = None
        shell.restore_sys_module_state()
        type(self).clear_instance()

    def _run_in_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(coroutine)
        try:
            return self._loop.run_until_complete(task)
        except BaseException:
            # An interrupt that hit the loop itself: the cell is not to go on with the next one.
            if not task.done():
                task.cancel()
                self._loop.run_until_complete(asyncio.wait({task}, timeout=_STOP_SECONDS))
            raise

    # What IPython would do with files, screens and terminals.

    def init_ipython_dir(self, ipython_dir: Any) -> None:  # noqa: ARG002
        return

    def init_profile_dir(self, profile_dir: Any) -> None:  # noqa: ARG002
        self.db = {}

    def init_virtualenv(self) -> None:
        return

    def init_prompts(self) -> None:
        return

    def init_history(self) -> None:
        self.history_manager = HistoryManager(shell=self, parent=self, enabled=False, hist_file=":memory:")

    def ask_exit(self) -> None:
        raise SystemExit

    def _exiter_default(self) -> ExitAutocall:
        make: Any = _Exit
        return make(self)  # type: ignore[no-any-return]

    def _format_exception_for_storage(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}

    def _tee(self, channel: str) -> Any:  # noqa: ARG002
        return contextlib.nullcontext()

    def enable_gui(self, gui: Any = None) -> None:  # noqa: ARG002
        return

    def enable_matplotlib(self, gui: Any = None) -> tuple[None, str]:  # noqa: ARG002
        """`%matplotlib inline` is how things are already."""
        return None, "inline"

    def showtraceback(self, exc_tuple: Any = None, *_: Any, **__: Any) -> None:
        self._shown = sys.exception() if exc_tuple is None else exc_tuple[1]

    def showsyntaxerror(self, *_: Any, **__: Any) -> None:
        self._shown = sys.exception()

    def show_usage_error(self, exc: BaseException) -> None:
        self._shown = exc


def described(error: BaseException) -> dict[str, str]:
    """`{"type", "message", "traceback"}`, without the frames of the machinery."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
        trace = error.__traceback__
        told = traceback.TracebackException(kind, error, trace, limit=-_MAX_FRAMES, compact=True)
        _strip(told)
        text = "".join(told.format())
    except Exception as second:  # an exception's own code may raise
        message = text = f"<str() of the exception raised {type(second).__name__}>"
    if isinstance(error, SystemExit):
        message = f"the cell called exit({'' if error.code is None else error.code}); the session goes on"
    return {"type": name, "message": message, "traceback": text}


def _strip(told: traceback.TracebackException | None, depth: int = 10) -> None:
    if told is None or not depth:
        return
    told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(_MACHINERY)]
    _strip(told.__cause__, depth - 1)
    _strip(told.__context__, depth - 1)


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_STOP_SECONDS))
