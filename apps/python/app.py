"""The session: cells that see each other's variables, and what each of them gives."""

from __future__ import annotations

import base64
import faulthandler
import json
import keyword
import os
import reprlib
import time
from collections.abc import Mapping
from typing import Any

from warmd.app import Interrupted, context
from warmd.apps.actions import Actions
from warmd.apps.options import did_you_mean
from warmd.apps.python import figures
from warmd.apps.python.capture import Capture, Written
from warmd.apps.python.shell import Shell, described

MAX_RESULT_CHARACTERS = 64 * 1024
"""Of the text of the last expression's value; `get` gives the value itself."""
MAX_SHOWN_BYTES = 8 * 1024 * 1024
"""Of each rich form of a value."""
MAX_TEXT_CHARACTERS = 1024 * 1024
"""Of an error's message and of its traceback."""
_REPR_CHARACTERS = 80


class Python(Actions):
    """Runs cells: `run({"code": ...})`, or `execute`.  Their variables live as long as the session.

    `setup` takes `{"code": ...}`, a cell that runs first, and again after `reset`.
    """

    default_action = "execute"

    def setup(self, config: Mapping[str, Any] | None = None) -> None:
        self._open(**(config or {}))

    def execute(self, code: str) -> dict[str, Any]:
        """Runs a cell, and gives what it wrote, showed and raised.

        What it raises is the result's `error`, and no error of the call; only an interrupt ends the call.
        The variables are kept in any case.  Raises TypeError for code that is no text.
        """
        if not isinstance(code, str):
            raise TypeError(f"the code must be text, not {type(code).__name__}")
        begun = time.monotonic()
        number = self._shell.execution_count
        figures.take()
        try:
            self._capture.begin()
            error = self._shell.run(code)
        finally:
            # A child that the cell forked leaves what is the parent's alone.
            if os.getpid() == self._pid:
                self._capture.end()
        if isinstance(error, Interrupted) or (error is not None and context.cancelled):
            raise Interrupted("the cell was interrupted") from error
        outcome = self._outcome(error)
        return {**outcome, "execution_count": number, "seconds": time.monotonic() - begun}

    def variables(self) -> list[dict[str, Any]]:
        """The variables that cells have made: `{"name", "type", "repr"}`, and `shape` where there is one."""
        return [_described_variable(name, value) for name, value in sorted(self._variables().items())]

    def get(self, name: str) -> Any:
        """The value of a variable, as it is: arrays and tables too.  Raises NameError."""
        known = self._variables()
        if name in known:
            return known[name]
        if isinstance(name, str) and name in self._shell.user_ns:
            return self._shell.user_ns[name]
        raise NameError(f"there is no variable {str(name)[:80]!r}: {did_you_mean(name, sorted(known))}")

    def set(self, values: Mapping[str, Any]) -> list[str]:
        """Gives variables these values; gives their names.  Raises ValueError for what is no name."""
        if not isinstance(values, Mapping):
            raise TypeError(f"values must be a dict of names and values, not {type(values).__name__}")
        for name in values:
            if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
                raise ValueError(f"{str(name)[:80]!r} cannot be a variable's name")
        self._shell.push(dict(values))
        return list(values)

    def reset(self) -> dict[str, Any]:
        """Forgets all variables and begins anew, with the code of `setup`."""
        self._shell.reset(new_session=True)
        self._run_preamble()
        return {"execution_count": self._shell.execution_count}

    def unload(self) -> None:
        self._shell.close()
        self._capture.close()
        self._settings.undo()

    def _open(self, code: str | None = None) -> None:
        self._pid = os.getpid()
        self._preamble = code
        self._settings = figures.Settings()
        self._capture = Capture(context.progress)
        if context.session_id is not None:
            # While a cell runs, what is behind descriptor 2 would die with the process.
            faulthandler.enable(file=self._capture.err.log)
        self._shell: Any = Shell.instance()
        self._run_preamble()

    def _run_preamble(self) -> None:
        if self._preamble is None:
            return
        error = self.execute(self._preamble)["error"]
        if error is not None:
            raise RuntimeError(f"the code of setup raised {error['type']}:\n{error['traceback']}")
        self._shell.execution_count = 1

    def _outcome(self, error: BaseException | None) -> dict[str, Any]:
        out, err = self._capture.out.written(), self._capture.err.written()
        plots, dropped_plots = figures.take()
        dropped = _dropped(out, err, dropped_plots)
        bundle = self._shell.bundle
        rich = _packable({mime: value for mime, value in bundle.items() if mime != "text/plain"}, dropped)
        displays = [_packable(shown, dropped) for shown in self._shell.displays]
        outcome = {
            "stdout": out.text,
            "stderr": err.text,
            "result": _cut(bundle.get("text/plain"), MAX_RESULT_CHARACTERS),
            "plots": plots,
            "error": None if error is None else _cut_all(described(error)),
        }
        optional = {"data": rich, "displays": displays, "dropped": dropped}
        return outcome | {name: value for name, value in optional.items() if value}

    def _variables(self) -> dict[str, Any]:
        hidden = self._shell.user_ns_hidden
        return {
            name: value
            for name, value in self._shell.user_ns.items()
            if not name.startswith("_") and not (name in hidden and hidden[name] is value)
        }


def _dropped(out: Written, err: Written, plots: int) -> dict[str, int]:
    counts = {"stdout_bytes": out.dropped_bytes, "stderr_bytes": err.dropped_bytes, "plots": plots}
    return {what: count for what, count in counts.items() if count}


def _packable(bundle: Mapping[str, Any], dropped: dict[str, int]) -> dict[str, Any]:
    """Texts, images as bytes, and what JSON has, each within its bound."""
    fitting = {}
    for mime, value in bundle.items():
        if mime in ("image/png", "image/jpeg") and isinstance(value, str):
            value = base64.b64decode(value)
        elif not isinstance(value, str | bytes):
            value = json.loads(json.dumps(value, default=str))
        size = len(value if isinstance(value, str | bytes) else json.dumps(value))
        if size > MAX_SHOWN_BYTES:
            dropped[mime] = dropped.get(mime, 0) + size
        else:
            fitting[mime] = value
    return fitting


def _cut(text: str | None, limit: int) -> str | None:
    if text is None or len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - limit} characters are left out ...]\n{text[-half:]}"


def _cut_all(texts: Mapping[str, str]) -> dict[str, Any]:
    return {name: _cut(text, MAX_TEXT_CHARACTERS) for name, text in texts.items()}


def _described_variable(name: str, value: Any) -> dict[str, Any]:
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    described = {"name": name, "type": module + kind.__qualname__, "repr": _short_repr(value)}
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and all(isinstance(size, int) for size in shape):
        described["shape"] = list(shape)  # type: ignore[assignment]
    return described


def _short_repr(value: Any) -> str:
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _REPR_CHARACTERS
    try:
        text = short.repr(value[:_REPR_CHARACTERS] if isinstance(value, bytes | bytearray) else value)
    except Exception as error:  # a value's own code
        text = f"<repr() raised {type(error).__name__}>"
    return " ".join(text.split())[: 2 * _REPR_CHARACTERS]
