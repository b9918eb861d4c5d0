"""What a language model tells while it answers, and how an app's caller hears of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from warmd.app import context

_TOLD_FROM = 256
"""Progress is told where the model has more than so many tokens to read."""


class PromptTooLong(ValueError):
    """What the model is to read does not fit into its context."""

    def __init__(self, tokens: int, context: int) -> None:
        super().__init__(f"it has {tokens} tokens with what belongs to it, the context {context}")
        self.tokens = tokens
        self.context = context


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the model is with reading what it was told."""

    read_tokens: int
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The end of one answer."""

    prompt_tokens: int
    cached_tokens: int
    """How many of them were still in the key/value cache."""
    response_tokens: int
    finish: str
    """`"stop"`, or `"length"` where a limit cut the answer."""
    prompt_seconds: float
    """For reading those that were not cached."""
    response_seconds: float


Part: TypeAlias = str | Reading | Usage


def told(parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
    """`{"text": piece}` for each piece as it comes; the last is the whole as `{"response": ...}`.

    The whole has counts of tokens and times in seconds, those of reading from the first `next` on.  How
    far a long prompt is read is the call's progress.
    """
    begun = time.monotonic()
    first: float | None = None
    usage: Usage | None = None
    pieces: list[str] = []
    for part in parts:
        if isinstance(part, Usage):
            usage = part
        elif isinstance(part, Reading):
            _tell(part)
        else:
            first = first or time.monotonic()
            pieces.append(part)
            yield {"text": part}
    if usage is None:
        raise RuntimeError("the model broke off without a word: end this session and begin another")
    ended = time.monotonic()
    times = {"first_token_seconds": (first or ended) - begun, "seconds": ended - begun}
    yield {"response": "".join(pieces), **_counts(usage), **times}


def _tell(reading: Reading) -> None:
    if reading.prompt_tokens - reading.cached_tokens > _TOLD_FROM:
        context.progress({"read_tokens": reading.read_tokens, "prompt_tokens": reading.prompt_tokens})


def _counts(usage: Usage) -> dict[str, Any]:
    read = usage.prompt_tokens - usage.cached_tokens
    return {
        "finish": usage.finish,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "response_tokens": usage.response_tokens,
        "prompt_seconds": usage.prompt_seconds,
        "response_seconds": usage.response_seconds,
        "prompt_tokens_per_second": _rate(read, usage.prompt_seconds),
        "response_tokens_per_second": _rate(usage.response_tokens, usage.response_seconds),
    }


def _rate(tokens: int, seconds: float) -> float | None:
    """None where it took no time that could be measured."""
    return tokens / seconds if seconds > 0 else None
