"""A model in the form of Hugging Face (a folder with config.json, weights and tokenizer), run by
transformers on a GPU or on the CPU.

The loop over tokens is our own: `generate` cannot be left between two tokens, nor does it keep its
key/value cache.  Here the cache outlives the answer.  The next prompt is compared with what the
cache holds, token by token, and only what differs is read.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from warmd.apps.chat.engine import Part, PromptTooLong, Reading, Usage
from warmd.apps.chat.options import Options
from warmd.apps.chat.text import Detokenizer, StopWatch

INSTALL = "pip install 'warmd[chat-transformers]'"
try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
    from transformers.utils.logging import disable_progress_bar

    from warmd.apps.chat.sampling import Sampler
except ImportError as error:
    raise ImportError(f"a folder of transformers needs torch and transformers: {INSTALL}") from error

DEFAULT_CONTEXT = 4096
_READ_TOKENS = 256
"""Read at once; between two such batches progress is told."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "auto": "auto"}


class TransformersEngine:
    """An `Engine`.  Raises RuntimeError for a folder that cannot be loaded, ValueError for settings."""

    def __init__(
        self, folder: Path, *, threads: int, context: int | None, device: str | None, dtype: str | None
    ) -> None:
        torch.set_num_threads(threads)
        self._folder = folder
        self._device = _device(device)
        # Few CPUs are quick in the half formats that weights are stored in.
        self._dtype = dtype or ("float32" if self._device.type == "cpu" else "auto")
        if self._dtype not in _DTYPES:
            raise ValueError(f"dtype is {self._dtype!r}, allowed are {', '.join(_DTYPES)}")
        self._tokenizer, self._model = self._load()
        # Its name has changed with the versions of transformers.
        parameters = inspect.signature(self._model.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        self._ends = _end_tokens(self._tokenizer, self._model.generation_config)
        self.context = _context(self._model.config, context)
        self._cache = _Cache()

    def stream(self, messages: Sequence[dict[str, str]], options: Options) -> Iterator[Part]:
        """See `Engine`."""
        prompt = self._encoded(messages)
        if len(prompt) >= self.context:
            raise PromptTooLong(len(prompt), self.context)
        cached = self._cache.keep(prompt[:-1])
        begun = time.perf_counter()
        yield Reading(cached, len(prompt), cached)
        for start in range(cached, len(prompt), _READ_TOKENS):
            logits = self._forward(prompt[start : start + _READ_TOKENS])
            yield Reading(min(start + _READ_TOKENS, len(prompt)), len(prompt), cached)
        answer = _Answer(options, prompt, self._tokenizer)
        token = answer.sampler.draw(logits)
        read_seconds, drawing_seconds = time.perf_counter() - begun, 0.0
        limit = min(options.max_tokens, self.context - len(prompt))
        while True:
            ended = token in self._ends
            if text := answer.add(token, ended=ended or answer.count + 1 == limit):
                yield text
            ended = ended or answer.stopped
            if ended or answer.count == limit:
                break
            begun = time.perf_counter()
            token = answer.sampler.draw(self._forward([token]))
            drawing_seconds += time.perf_counter() - begun
        finish = "stop" if ended else "length"
        yield Usage(len(prompt), cached, answer.count, finish, read_seconds, drawing_seconds)

    def facts(self) -> dict[str, Any]:
        return {
            "model": self._folder.name,
            "engine": "transformers",
            "device": str(self._device),
            "dtype": str(self._model.dtype).removeprefix("torch."),
        }

    def close(self) -> None:
        del self._model
        self._cache = _Cache()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _load(self) -> tuple[Any, Any]:
        folder, dtype = str(self._folder), _DTYPES[self._dtype]
        disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise RuntimeError(f"transformers cannot load {folder}: {error}") from error
        if not tokenizer.chat_template:
            raise RuntimeError(f"the tokenizer in {folder} has no chat template: it is no model for a chat")
        return tokenizer, model.to(self._device).eval()

    def _encoded(self, messages: Sequence[dict[str, str]]) -> list[int]:
        try:
            encoded = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_dict=True
            )
        except Exception as error:  # a template is a program of the model's makers
            raise RuntimeError(f"the model's chat template refuses these messages: {error}") from error
        return list(encoded["input_ids"])

    def _forward(self, tokens: list[int]) -> Any:
        """The logits [vocabulary] after `tokens`, which are in the cache from then on."""
        with torch.inference_mode():
            given = torch.tensor([tokens], device=self._device)
            cache = {self._cache_name: self._cache.values}
            done = self._model(input_ids=given, use_cache=True, logits_to_keep=1, **cache)
        self._cache.tokens += tokens
        return done.logits[0, -1]


class _Answer:
    """One answer that is being made: its tokens so far, and what of their text may be said."""

    def __init__(self, options: Options, prompt: list[int], tokenizer: Any) -> None:
        self.sampler = Sampler(options, prompt)
        self.count = 0
        self._stops = StopWatch(options.stop)
        self._text = Detokenizer(
            lambda tokens: str(
                tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            )
        )

    @property
    def stopped(self) -> bool:
        return self._stops.stopped

    def add(self, token: int, *, ended: bool) -> str:
        """What can be said after this token; all that there is, if it is the last."""
        self.count += 1
        text = self._stops.add(self._text.add(token))
        if ended and not self.stopped:
            text += self._stops.add(self._text.rest())
            text += "" if self.stopped else self._stops.rest()
        return text


class _Cache:
    """Keys and values of the tokens that the model has read.

    An interrupt can come amid a forward pass.  Then some layers have more than `tokens` says, never
    less, and `keep` cuts that off.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.values = DynamicCache()

    def keep(self, wanted: Sequence[int]) -> int:
        """Drop all that is no beginning of `wanted`; returns how many tokens remain."""
        pairs = zip(self.tokens, wanted, strict=False)
        shorter = min(len(self.tokens), len(wanted))
        same = next((n for n, (mine, theirs) in enumerate(pairs) if mine != theirs), shorter)
        self.tokens = self.tokens[:same]
        if not same:
            self.values = DynamicCache()
        for layer in self.values.layers if same else ():
            layer.keys, layer.values = layer.keys[..., :same, :], layer.values[..., :same, :]
        return same


def _device(name: str | None) -> Any:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def _context(config: Any, wanted: int | None) -> int:
    most = getattr(config, "max_position_embeddings", None) or wanted or DEFAULT_CONTEXT
    if wanted is not None and wanted > most:
        raise ValueError(f"context is {wanted}, the model was made for {most} tokens at most")
    return wanted or min(most, DEFAULT_CONTEXT)


def _end_tokens(tokenizer: Any, generation: Any) -> frozenset[int]:
    """Those that end an answer: of the tokenizer and of the model, which may differ."""
    given = [] if generation is None else generation.eos_token_id
    ends = given if isinstance(given, list) else [given]
    return frozenset(token for token in (*ends, tokenizer.eos_token_id) if token is not None)
