"""The conversation: what was said, and how much of it fits into the model's context."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmd.apps.chat.model import Model, PromptTooLong, Usage, bundled_model

DEFAULT_SYSTEM = "You are a helpful assistant."
DEFAULT_MAX_TOKENS = 256
_BYTES_PER_TOKEN = 3
"""A low guess for English; a wrong guess costs one refused attempt of a few milliseconds."""


@dataclass(frozen=True, slots=True)
class _Turn:
    message: str
    response: str
    tokens: int


class Chat:
    """A language model with a memory: `run({"message": ...})`, or `generate` for a stream.

    `setup` takes `{"model": path of a GGUF file, "threads": 1, "context": 2048}`, each optional.
    When the context is full the oldest turns are forgotten; the system prompt stays.
    """

    def setup(self, config: Mapping[str, Any] | None = None) -> None:
        self._open(**(config or {}))
        self._begin()

    def run(self, input: Mapping[str, Any]) -> dict[str, Any]:
        """`{"action": "init", "system": "..."}` begins a new conversation; `{"message": "..."}`, with
        the options of `generate`, is the next turn of it."""
        options = dict(input)
        action = options.pop("action", "message")
        if action == "init":
            self._begin(**options)
            return {"system": self._system, "model": self._model.path.name, "context": self._model.context}
        if action != "message":
            raise ValueError(f"unknown action {str(action)[:40]!r}: use 'init', or a 'message' alone")
        *_, last = self.generate(**options)
        return last

    def generate(
        self,
        *,
        message: str,
        max_tokens: int | None = None,
        temperature: float = 0.2,
        seed: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Streams the answer as `{"text": piece}`; the last part is the whole as `{"response": ...}`,
        with counts of tokens and times in seconds.

        `max_tokens` is 256 by default, and at most half of the context.  A turn that is cut off is not
        remembered.
        """
        options = {"max_tokens": self._checked(message, max_tokens), "temperature": temperature, "top_p": 0.9}
        if seed is not None:
            options["seed"] = seed
        begun = time.monotonic()
        first: float | None = None
        pieces: list[str] = []
        for piece in self._answer(message, options):
            if isinstance(piece, Usage):
                usage = piece
                continue
            first = first or time.monotonic()
            pieces.append(piece)
            yield {"text": piece}
        ended = time.monotonic()
        self._remember(message, "".join(pieces), usage)
        yield {
            "response": "".join(pieces),
            "finish": usage.finish,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "response_tokens": usage.response_tokens,
            "forgotten_turns": self._forgotten,
            "first_token_seconds": (first or ended) - begun,
            "seconds": ended - begun,
        }

    def unload(self) -> None:
        self._model.close()

    def _open(self, model: str | None = None, threads: int = 1, context: int = 2048) -> None:
        path = Path(model).expanduser() if model else bundled_model()
        self._model = Model(path, threads=threads, context=context)

    def _begin(self, system: str = DEFAULT_SYSTEM) -> None:
        self._system = system
        self._turns: list[_Turn] = []
        self._used_tokens = 0
        self._forgotten = 0

    def _checked(self, message: str, max_tokens: int | None) -> int:
        if not isinstance(message, str) or not message:
            raise ValueError(f"the message must be text, not {str(message)[:40] or 'nothing'}")
        if max_tokens is None:
            return min(DEFAULT_MAX_TOKENS, self._model.context // 2)
        if not 0 < max_tokens < self._model.context:
            raise ValueError(
                f"max_tokens is {max_tokens}, allowed are 1 to {self._model.context - 1}: "
                "a larger 'context' can be given to setup"
            )
        return max_tokens

    def _answer(self, message: str, options: Mapping[str, Any]) -> Iterator[str | Usage]:
        self._make_room(len(message.encode()) // _BYTES_PER_TOKEN + options["max_tokens"])
        while True:
            try:
                yield from self._model.stream(self._messages(message), **options)
                return
            except PromptTooLong as error:
                if not self._turns:
                    raise ValueError(f"the message is too long: {error}") from None
                self._forget()

    def _make_room(self, tokens: int) -> None:
        """Forgets turns until `tokens` more fit.

        What follows a forgotten turn must be read again by the model, so once it comes to that,
        half of the context is emptied: the next turns are warm again.
        """
        if self._used_tokens + tokens <= self._model.context:
            return
        while self._turns and self._used_tokens + tokens > self._model.context // 2:
            self._forget()

    def _forget(self) -> None:
        self._used_tokens -= self._turns.pop(0).tokens
        self._forgotten += 1

    def _messages(self, message: str) -> list[dict[str, str]]:
        spoken = [{"role": "system", "content": self._system}]
        for turn in self._turns:
            spoken.append({"role": "user", "content": turn.message})
            spoken.append({"role": "assistant", "content": turn.response})
        return [*spoken, {"role": "user", "content": message}]

    def _remember(self, message: str, response: str, usage: Usage) -> None:
        used = usage.prompt_tokens + usage.response_tokens
        self._turns.append(_Turn(message, response, max(0, used - self._used_tokens)))
        self._used_tokens = used
