"""INPUT and results on the command line: between shell words, JSON and Python values.

JSON says less than warmd's values do.  What it lacks is written as an object with one `$` key:

    bytes             {"$bytes": "<base64>"}      also understood in INPUT
    inf, -inf, nan    {"$float": "inf"}           also understood in INPUT
    complex           {"$complex": [re, im]}      also understood in INPUT
    clashing keys     {"$map": [[key, value], ...]}   (1 and "1" in one dict)
    an array without numpy installed   {"$array": {"dtype": .., "shape": .., "data": "<base64>"}}

Arrays, tensors, tuples and sets become plain lists (sets in sorted order where they can be sorted),
tables lists of their rows, files their paths, dates their ISO text, and keys that are not text their
JSON text: what `jq` can work with.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

T = TypeVar("T")

PAIR = re.compile(r"([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)


def parse_input(words: Sequence[str]) -> Any:
    """The value that the words of INPUT stand for; None when there are none.

    Raises click.UsageError for words that are neither JSON nor KEY=VALUE pairs.
    """
    if not words:
        return None
    pairs = [PAIR.fullmatch(word) for word in words]
    if all(pairs):
        found = [(pair[1], parse_loosely(pair[2])) for pair in pairs if pair]
        return _as_dict(found, "INPUT")
    if len(words) > 1:
        word = words[[bool(pair) for pair in pairs].index(False)]
        raise click.UsageError(f"INPUT has {len(words)} words and {word!r} is not KEY=VALUE")
    (word,) = words
    if word == "-":
        return _parse(sys.stdin.read(), "standard input")
    if word.startswith("@"):
        return _parse(_read(word[1:]), word[1:])
    return _parse(word, "INPUT")


def parse_json(text: str, what: str) -> Any:
    """The value of JSON text, or of `@file`.  `what` names it in errors."""
    return _parse(_read(text[1:]), text[1:]) if text.startswith("@") else _parse(text, what)


def parse_loosely(text: str) -> Any:
    """The value of JSON text, or the text itself."""
    try:
        return _loads(text)
    except ValueError:
        return text


def parse_pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """`KEY=VALUE` words as text, for `--env` and `--label`."""
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise click.UsageError(f"{option} wants KEY=VALUE, got {word!r}")
        found.append((key, value))
    return _as_dict(found, option)


def _as_dict(pairs: list[tuple[str, T]], what: str) -> dict[str, T]:
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise click.UsageError(f"{what} has {twice!r} more than once: leave all but one out")
    return dict(pairs)


_NO_TEXT = "not UTF-8 text; for the app to read it, give its path without the @"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else _NO_TEXT
        raise click.UsageError(f"cannot read {path}: {reason}") from None


def _parse(text: str, what: str) -> Any:
    try:
        return _loads(text)
    except ValueError as error:
        hint = " (or KEY=VALUE pairs, @file.json, - for stdin)" if what == "INPUT" else ""
        raise click.UsageError(f"{what} is not JSON{hint}: {error}") from None


def _loads(text: str) -> Any:
    try:
        return json.loads(text, object_hook=_from_marked)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _from_marked(found: dict[str, Any]) -> Any:
    if len(found) != 1:
        return found
    ((key, value),) = found.items()
    try:
        if key == "$bytes":
            return base64.b64decode(value, validate=True)
        if key == "$float":
            return float(value)
        if key == "$complex":
            return complex(*value)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"{key}: {error}") from None
    return found


def to_json(value: Any, *, indent: int | None = None) -> str:
    """The value as JSON text that any JSON reader takes."""
    plain = to_plain(value)
    text = json.dumps(plain, ensure_ascii=False, indent=indent, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return json.dumps(plain, indent=indent, allow_nan=False)
    return text


def to_plain(value: Any) -> Any:
    """The value in the words of JSON, as the module's docstring says."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, dict):
        return _plain_dict(value)
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": _base64(value)}
    if isinstance(value, (set, frozenset)):
        return _plain_set(value)
    if isinstance(value, complex):
        return {"$complex": [to_plain(value.real), to_plain(value.imag)]}
    if isinstance(value, os.PathLike):  # a file: its path is what a shell can use
        return os.fsdecode(value)
    if hasattr(value, "tolist"):  # an array, tensor or scalar; its library itself may be absent
        return to_plain(value.tolist())
    if hasattr(value, "to_pylist"):  # an Arrow table or record batch
        return to_plain(value.to_pylist())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "dtype"):  # protocol.buffers.Array
        return {
            "$array": {"dtype": str(value.dtype), "shape": list(value.shape), "data": _base64(value.data)}
        }
    return str(value)


def _base64(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(value).decode()


def _plain_dict(value: dict[Any, Any]) -> Any:
    keys = {key: key if isinstance(key, str) else json.dumps(to_plain(key)) for key in value}
    if len(set(keys.values())) < len(keys):
        return {"$map": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    return {keys[key]: to_plain(item) for key, item in value.items()}


def _plain_set(value: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return [to_plain(item) for item in sorted(value)]
    except TypeError:
        return [to_plain(item) for item in value]
