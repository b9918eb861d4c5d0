"""What runs a language model, behind one small interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from warmd.apps.chat.options import Options


class PromptTooLong(ValueError):
    """The conversation does not fit into the model's context."""

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


class Engine(Protocol):
    """One loaded model with one conversation's key/value cache."""

    context: int
    """In tokens: what the model is told and its answer, together."""

    def stream(self, messages: Sequence[dict[str, str]], options: Options) -> Iterator[Part]:
        """The answer in pieces as they come, with `Reading` before and `Usage` as the last.

        Closing the iterator, or an exception that a signal handler raises in it, stops the model at
        its next token; the cache then serves the next answer.  Raises PromptTooLong before the first
        piece, and RuntimeError for what else the model refuses.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """For whoever asks what runs here."""
        ...

    def close(self) -> None:
        """Frees the model; what it is answering is cut off."""
        ...
