"""tqdm's bars as the progress of the running call, without the app's help.

When `tqdm.std` is imported, its class is changed: an app that never imports it is spared all of this.
Each time that a bar would draw itself (by tqdm's own `mininterval` ten times a second at most) the
outermost one tells how far it is; what the app itself tells of a call goes before.  Of a bar that would
draw on the session's log only the closing line is written, since each drawing would be one more there.

Telling comes after tqdm's own method, which may hold its lock: an interrupt can raise in `progress`.
"""

from __future__ import annotations

import math
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from warmd.app import context
from warmd.daemon.worker import output
from warmd.daemon.worker.runtime import Runtime

MODULE = "tqdm.std"
MONITOR_SECONDS = 1.0
"""For such a thread to end, which it does at once unless it is just looking at its bars."""


def watch() -> None:
    """From now on, in this process and its forks, bars tell of themselves."""
    if MODULE in sys.modules:
        _hook(sys.modules[MODULE])
    else:
        sys.meta_path.insert(0, _Finder())


def end_monitors() -> None:
    """End the threads that tqdm has for slow bars; the next bar starts another."""
    monitors: list[Any] = [one for one in threading.enumerate() if type(one).__module__ == "tqdm._monitor"]
    for monitor in monitors:
        monitor.was_killed.set()
        monitor.join(MONITOR_SECONDS)


class _Finder:
    """Has the class changed right after its module was executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != MODULE:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((spec for one in others if (spec := one.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            self._hook_after(spec.loader)
        return spec

    def _hook_after(self, loader: Any) -> None:
        execute: Callable[[ModuleType], None] = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if module.__name__ == MODULE:
                _hook(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)

        loader.exec_module = exec_module


def _hook(module: ModuleType) -> None:
    try:
        _change(module.tqdm)
    except AttributeError as error:
        output.note(f"the bars of this tqdm do not show as progress: {error}")


def _change(bar_class: Any) -> None:
    refresh, close = bar_class.refresh, bar_class.close
    display, clear = bar_class.display, bar_class.clear
    bars = _Bars()

    def refresh_and_tell(bar: Any, *args: Any, **kwargs: Any) -> Any:
        drawn = refresh(bar, *args, **kwargs)
        if not bar.disable:
            bars.tell(bar)
        return drawn

    def close_and_tell(bar: Any) -> None:
        was_open = not getattr(bar, "disable", True)
        close(bar)
        if was_open:
            bars.closed(bar)

    def display_elsewhere(bar: Any, msg: str | None = None, pos: int | None = None) -> Any:
        is_closing_line = bar.disable and msg is None
        return display(bar, msg, pos) if is_closing_line or not _is_log(bar.fp) else False

    def clear_elsewhere(bar: Any, *args: Any, **kwargs: Any) -> None:
        if not _is_log(bar.fp):
            clear(bar, *args, **kwargs)

    bar_class.refresh, bar_class.close = refresh_and_tell, close_and_tell
    bar_class.display, bar_class.clear = display_elsewhere, clear_elsewhere


def _is_log(file: Any) -> bool:
    try:
        return file.fileno() in (1, 2)
    except (AttributeError, OSError, ValueError):  # a file in memory, or a closed one
        return False


class _Bars:
    """Which bar is the outermost one of a call: the first that draws itself, until it is closed."""

    def __init__(self) -> None:
        self._call: str | None = None
        self._outermost: Callable[[], Any] = _nothing

    def tell(self, bar: Any) -> None:
        call = context.call_id
        if not _is_of(call, bar) or call is None:
            return
        if call != self._call or self._outermost() is None:
            self._call, self._outermost = call, weakref.ref(bar)
        if self._outermost() is bar:
            _tell(bar)

    def closed(self, bar: Any) -> None:
        if self._outermost() is bar:
            self._outermost = _nothing
            if context.call_id == self._call:
                _tell(bar)


def _is_of(call: str | None, bar: Any) -> bool:
    """Whether what happens to a bar is of this call: a thread that another has left goes on with its own."""
    if threading.current_thread() is threading.main_thread():
        return True
    return bool(vars(bar).setdefault("_warmd_call", call) == call)


def _nothing() -> None:
    return None


def _tell(bar: Any) -> None:
    runtime = context._runtime
    try:
        if isinstance(runtime, Runtime):
            runtime.progress_of_bar(_facts(bar))
    except Exception:  # an odd bar is no reason for its loop to end
        return


def _facts(bar: Any) -> dict[str, Any]:
    facts = bar.format_dict
    elapsed = _number(facts["elapsed"])
    done = _number(facts["n"])
    rate = _number(facts["rate"])
    if rate is None and elapsed and done is not None:
        rate = (done - (_number(facts["initial"]) or 0)) / elapsed
    return {
        "n": done,
        "total": _number(facts["total"]),
        "unit": facts["unit"] or None,
        "desc": (facts["prefix"] or "").removesuffix(": ") or None,
        "rate": rate,
        "elapsed": elapsed,
    }


def _number(value: Any) -> int | float | None:
    """Whatever counts the steps (numpy's numbers too) as one of Python's own."""
    if value is None or isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
