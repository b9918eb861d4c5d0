"""What runs a language model, behind one small interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from warmd.apps.generation.options import Options
from warmd.apps.generation.parts import Part


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
