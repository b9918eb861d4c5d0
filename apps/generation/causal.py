"""A model in the form of Hugging Face (a folder with config.json, weights and tokenizer), run by
transformers on a GPU or on the CPU.

The loop over tokens is our own: `generate` cannot be left between two tokens, nor does it keep its
key/value cache.  Here the cache outlives the answer.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when huggingface_hub is imported: nothing is looked for in the network, whatever a folder lacks.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Read when torch is imported: threads that wait for each other sleep.  Else they spin, and where sessions
# share processors a call takes many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import transformers

from warmd.apps.generation.cache import Cache
from warmd.apps.generation.options import Options
from warmd.apps.generation.parts import Part, PromptTooLong, Reading, Usage
from warmd.apps.generation.sampling import PENALISED_TOKENS, Sampler
from warmd.apps.generation.text import Detokenizer, StopWatch
from warmd.apps.torchmodels import device_for, load_folder
from warmd.apps.trust import TRUSTED_VARIABLE, is_trusted

# Most models are of llama's family, or much like it.  transformers would import its code with the first one.
for _module in ("auto.modeling_auto", "llama.modeling_llama"):
    importlib.import_module(f"transformers.models.{_module}")
# A thousand regular expressions, which it would compile for the first model.
with contextlib.suppress(ImportError, AttributeError):
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("llama")

DTYPES = ("float32", "bfloat16", "float16", "auto")
"""`auto`: the one that the weights are stored in."""
UNTOLD_CONTEXT = 4096
"""In tokens, for a model that names no limit."""
_READ_TOKENS = {"cpu": 256}
"""Read at once, by the kind of device; between two such batches progress is told."""
_READ_TOKENS_ELSEWHERE = 2048


@dataclass(frozen=True, slots=True)
class Loaded:
    """A tokenizer and a model in host memory."""

    folder: Path
    dtype: str
    """As it was asked for, one of `DTYPES`."""
    tokenizer: Any
    model: Any

    def is_as(self, dtype: str | None) -> bool:
        """Whether it has the weights that a load with that `dtype` would give; None: any will do."""
        return dtype in (None, self.dtype, _name(self.model.dtype))


def load(folder: Path, dtype: str) -> Loaded:
    """Raises RuntimeError for a folder that transformers cannot load, ValueError for a dtype.

    Code that lies in the folder runs only where it is trusted (`WARMD_TRUSTED_MODELS`).
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {str(dtype)[:40]!r}, allowed are {', '.join(DTYPES)}")
    kind = "auto" if dtype == "auto" else getattr(torch, dtype)
    trusted = is_trusted(folder)
    try:
        found = load_folder(
            transformers, "AutoModelForCausalLM", folder, kind, optional="", runs_code=trusted
        )
    except RuntimeError as error:
        if trusted or "trust_remote_code" not in str(error):
            raise
        raise RuntimeError(
            f"{folder} has code of its own, which runs only if the folder, or one above, is in the variable "
            f"{TRUSTED_VARIABLE} of the daemon: add it if you know where it is from"
        ) from error
    return Loaded(folder, dtype, *found)


def keep_in_memory(loaded: Loaded) -> Loaded:
    """Copy its weights, which until then are only mapped from their files, as far as these are in memory.

    Forks then share what is there for certain, whatever becomes of the files.
    """
    with torch.no_grad():
        for tensor in (*loaded.model.parameters(), *loaded.model.buffers()):
            tensor.data = tensor.data.clone()
    return loaded


class CausalModel:
    """A language model and its cache on one device, to which the weights are moved.

    `context`, in tokens, is what it reads and says together; None: what it was made for, or `default`
    if that is less.  Raises ValueError for a `context` that is too large, RuntimeError for a model that
    cannot be run here.
    """

    def __init__(self, loaded: Loaded, device: Any, context: int | None, default: int | None = None) -> None:
        self.folder, self.tokenizer = loaded.folder, loaded.tokenizer
        self.context = _context(loaded.model.config, context, default)
        self.device = device
        self.model = loaded.model.to(device)
        self._cache = Cache(self.model)
        keeps_logits = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if keeps_logits else {}
        self._ends = _end_tokens(self.tokenizer, self.model.generation_config)

    @property
    def is_on_gpu(self) -> bool:
        return bool(self.device.type == "cuda")

    @property
    def dtype(self) -> str:
        return _name(self.model.dtype)

    def encoded(self, text: str) -> list[int]:
        """The tokens of a text, with what the tokenizer puts before each (most often a first token)."""
        return list(self.tokenizer(text)["input_ids"])

    def encoded_messages(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The tokens of a conversation, through the model's chat template.  Raises RuntimeError."""
        if not self.tokenizer.chat_template:
            raise RuntimeError(f"the tokenizer in {self.folder} has no chat template: give a text as prompt")
        try:
            encoded = self.tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_dict=True
            )
        except Exception as error:  # a template is a program of the model's makers
            raise RuntimeError(f"the model's chat template refuses these messages: {error}") from error
        return list(encoded["input_ids"])

    def stream(
        self, prompt: list[int], options: Options, *, penalised_tokens: int | None = PENALISED_TOKENS
    ) -> Iterator[Part]:
        """The answer in pieces as they come, with `Reading` before and `Usage` as the last.

        Penalties are for the last `penalised_tokens`, or all.  It can be left at any token, and the cache
        stays sound.  Raises PromptTooLong, ValueError for a prompt of no tokens, and RuntimeError where
        memory runs out, which the cache has then given back.
        """
        try:
            yield from self._stream(prompt, options, penalised_tokens)
        except torch.OutOfMemoryError as error:
            tokens = len(self._cache.tokens)
            self.forget()
            raise RuntimeError(
                f"{self.device} ran out of memory after {tokens} tokens: ask for fewer, or end sessions"
            ) from error

    def warm_up(self) -> None:
        """Run it once: the first run is slow, and so belongs to a start and not to a call."""
        for tokens in ([0, 0], [0]):
            self._forward(tokens)
        self.forget()

    def forget(self) -> None:
        """Free the cache; the next prompt is read as a whole."""
        self._cache.clear()

    def close(self) -> None:
        """Free the model too, which cannot be used any more."""
        self.forget()
        del self.model
        if self.is_on_gpu:
            torch.cuda.empty_cache()

    def _stream(self, prompt: list[int], options: Options, penalised_tokens: int | None) -> Iterator[Part]:
        if not prompt:
            raise ValueError("the prompt has no tokens: give it some text")
        if len(prompt) >= self.context:
            raise PromptTooLong(len(prompt), self.context)
        cached = self._cache.keep(prompt[:-1])
        begun = time.perf_counter()
        logits = yield from self._read(prompt, cached)
        answer = _Answer(Sampler(options, prompt, penalised_tokens), options, self.tokenizer)
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

    def _read(self, prompt: list[int], cached: int) -> Generator[Reading, None, Any]:
        """In batches where the model can; returns the logits after the prompt."""
        size = _READ_TOKENS.get(self.device.type, _READ_TOKENS_ELSEWHERE)
        if not self._cache.can_be_cut:
            size = len(prompt)
        yield Reading(cached, len(prompt), cached)
        logits = None
        for start in range(cached, len(prompt), size):
            logits = self._forward(prompt[start : start + size])
            yield Reading(min(start + size, len(prompt)), len(prompt), cached)
        return logits

    def _forward(self, tokens: list[int]) -> Any:
        """The logits [vocabulary] after `tokens`, which are in the cache from then on."""
        with torch.inference_mode():
            given = torch.tensor([tokens], device=self.device)
            done = self.model(input_ids=given, use_cache=True, **self._last_only, **self._cache.argument)
        self._cache.tokens += tokens
        return done.logits[0, -1]


class _Answer:
    """One answer that is being made: its tokens so far, and what of their text may be said."""

    def __init__(self, sampler: Sampler, options: Options, tokenizer: Any) -> None:
        self.sampler = sampler
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


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def use_threads(threads: int) -> None:
    """On the CPU, for the model and for the tokenizer, which has a pool of its own when it is first used."""
    torch.set_num_threads(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)


def device_of(name: str | None) -> Any:
    """The device of that name; None or "auto": a GPU where there is one.

    Raises ValueError for a name that is none, RuntimeError where there is no such device.
    """
    return device_for(torch, name)


def _context(config: Any, wanted: int | None, default: int | None) -> int:
    most = getattr(config.get_text_config(), "max_position_embeddings", None)
    if wanted is not None and most is not None and wanted > most:
        raise ValueError(f"the context is to be {wanted} tokens, the model was made for {most} at most")
    known = [one for one in (most, default) if one is not None]
    return wanted or min(known, default=UNTOLD_CONTEXT)


def _end_tokens(tokenizer: Any, generation: Any) -> frozenset[int]:
    """Those that end an answer: of the tokenizer and of the model, which may differ."""
    given = [] if generation is None else generation.eos_token_id
    ends = given if isinstance(given, list) else [given]
    return frozenset(token for token in (*ends, tokenizer.eos_token_id) if token is not None)
