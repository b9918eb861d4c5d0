"""Exceptions as text that always fits into a message, whatever the exception does to stop that.

Type, message and traceback travel together in one header of at most 64 KiB, so each has a bound of
its own, and lone surrogates (which msgpack refuses) are escaped.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from warmd.protocol.errors import shorten

if TYPE_CHECKING:
    from traceback import TracebackException

MAX_TYPE_BYTES = 512
MAX_MESSAGE_BYTES = 12 * 1024
MAX_TRACEBACK_BYTES = 48 * 1024
MAX_FRAMES = 300
"""Of the deepest ones: a runaway recursion has hundreds of thousands."""

_RUNTIME = os.path.dirname(os.path.abspath(__file__)) + os.sep
_IMPORTLIB = ("<frozen importlib", os.sep + os.path.join("importlib", "__init__.py"))


class ErrorText(NamedTuple):
    type: str
    message: str
    traceback: str


def describe(error: BaseException) -> ErrorText:
    """The texts for `error`, without the runtime's own frames.  Never raises."""
    return ErrorText(
        clean(type_name(error), MAX_TYPE_BYTES),
        clean(message_of(error), MAX_MESSAGE_BYTES),
        clean(_traceback_of(error), MAX_TRACEBACK_BYTES),
    )


def clean(text: str, limit_bytes: int) -> str:
    """`text` as valid UTF-8 of at most `limit_bytes`."""
    # Most of a huge text goes anyway; cutting first keeps the work small.
    if len(text) > 2 * limit_bytes:
        text = text[:limit_bytes] + text[-limit_bytes:]
    return shorten(text.encode("utf-8", "backslashreplace").decode(), limit_bytes)


def type_name(error: BaseException) -> str:
    """`module.Name`, or the bare name of a builtin."""
    kind = type(error)
    try:
        module, name = str(kind.__module__), str(kind.__qualname__)
    except BaseException:  # a metaclass may do anything
        return "unknown"
    return name if module == "builtins" else f"{module}.{name}"


def message_of(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as second:  # a __str__ may do anything, SystemExit included
        return f"<str() of the exception raised {type(second).__name__}>"
    # A subclass of str may come back, with methods of its own.
    return str.__str__(text)


def _traceback_of(error: BaseException) -> str:
    try:
        from traceback import TracebackException

        formatted = TracebackException(
            type(error), error, error.__traceback__, limit=-MAX_FRAMES, compact=True
        )
        _strip(formatted, 10)
        return "".join(formatted.format())
    except BaseException:  # properties and notes of an exception may raise
        return _plain_traceback(error)


def _strip(formatted: TracebackException, depth: int) -> None:
    formatted.stack[:] = [frame for frame in formatted.stack if not _is_ours(frame.filename)]
    for inner in (formatted.__cause__, formatted.__context__):
        if inner is not None and depth:
            _strip(inner, depth - 1)


def _is_ours(filename: str) -> bool:
    return filename.startswith((_RUNTIME, _IMPORTLIB[0])) or filename.endswith(_IMPORTLIB[1])


def _plain_traceback(error: BaseException) -> str:
    lines = ["Traceback (most recent call last):"]
    try:
        lines += _frames(BaseException.__dict__["__traceback__"].__get__(error))
    except BaseException:
        lines.append("  (the frames could not be read)")
    return "\n".join([*lines, f"{type_name(error)}: {message_of(error)}", ""])


def _frames(step: TracebackType | None) -> list[str]:
    lines = []
    while step is not None:
        code = step.tb_frame.f_code
        if not _is_ours(code.co_filename):
            lines.append(f'  File "{code.co_filename}", line {step.tb_lineno}, in {code.co_name}')
        step = step.tb_next
    return lines[-MAX_FRAMES:]
