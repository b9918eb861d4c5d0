"""A language model as functions: texts and conversations in, streams of text out.

Nothing is remembered between calls but the key/value cache: what a prompt has in common with the one before
is not read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from warmd import gpu
from warmd.apps.actions import Actions
from warmd.apps.generation.messages import checked_messages
from warmd.apps.generation.options import refuse_unknown, whole_number
from warmd.apps.generation.parts import told
from warmd.apps.llm.options import OPTIONS, checked, defaults_of
from warmd.apps.options import configure, positive

INSTALL = "pip install 'warmd[llm]'"
try:
    from warmd.apps.generation.causal import (
        CausalModel,
        Loaded,
        device_of,
        keep_in_memory,
        load,
        use_threads,
    )
except ImportError as error:
    raise ImportError(f"the app llm needs torch and transformers ({error}): {INSTALL}") from error

MODEL_VARIABLE = "LLM_MODEL"
DTYPE_VARIABLE = "LLM_DTYPE"


class Llm(Actions):
    """A language model of transformers: `run({"prompt": ...})`, or `generate` for a stream.

    `setup` takes `{"model": folder, "device", "dtype", "max_context", "threads"}`; the model may be named
    by the variable `LLM_MODEL` instead, and then all sessions share what was read of it.
    """

    default_action = "complete"
    _prepared: ClassVar[Loaded | None] = None

    @classmethod
    def prepare(cls) -> None:
        """Loads the model of `LLM_MODEL`, as `LLM_DTYPE`, into host memory, for all sessions to come."""
        if model := os.environ.get(MODEL_VARIABLE):
            loaded = load(_folder(model), os.environ.get(DTYPE_VARIABLE) or "auto")
            cls._prepared = keep_in_memory(loaded)

    def setup(self, config: Mapping[str, Any] | None = None) -> None:
        configure(self._open, config)

    def complete(self, *, prompt: Any = None, messages: Any = None, **options: Any) -> dict[str, Any]:
        """The answer to a `prompt` or to `messages`, with counts and times: the last part of `generate`."""
        *_, whole = self.generate(prompt=prompt, messages=messages, **options)
        return whole

    def generate(
        self, *, prompt: Any = None, messages: Any = None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Streams the answer as `{"text": piece}`; the last part is the whole as `{"response": ...}`.

        Takes a `prompt`, which the model goes on with, or `messages` for its chat template, and
        max_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty, seed, stop.  Raises TypeError
        for an unknown option, and ValueError for what cannot be answered.
        """
        refuse_unknown(options, {"prompt", "messages", *OPTIONS}, "option")
        how = checked(options, self._defaults, self._model.context)
        tokens = self._encoded(prompt, messages)
        if len(tokens) >= self._model.context:
            raise ValueError(
                f"the prompt has {len(tokens)} tokens, max_context is {self._model.context}, the answer "
                "included: shorten it, or give setup a larger one if the model was made for that"
            )
        yield from told(self._model.stream(tokens, how, penalised_tokens=None))

    def tokens(self, *, prompt: Any = None, messages: Any = None) -> dict[str, int]:
        """How many tokens a `prompt` or `messages` have, as `{"tokens", "max_context"}`."""
        return {"tokens": len(self._encoded(prompt, messages)), "max_context": self._model.context}

    def info(self) -> dict[str, Any]:
        """The model and where it is; `prepared`: its weights were there before the session."""
        model = self._model
        return {
            "model": str(model.folder),
            "architecture": type(model.model).__name__,
            "device": str(model.device),
            "dtype": model.dtype,
            "parameters": model.model.num_parameters(),
            "bytes": model.model.get_memory_footprint(),
            "max_context": model.context,
            "chat_template": bool(model.tokenizer.chat_template),
            "defaults": self._defaults,
            "prepared": self._is_prepared,
        }

    def park(self) -> None:
        """Leaves nothing on the GPU but the weights, which `warmd.gpu.offload` moves."""
        self._model.forget()

    def unpark(self) -> None:
        """There is nothing to bring back: the next prompt is read as a whole."""

    def unload(self) -> None:
        self._model.close()

    def _open(
        self,
        model: str | None = None,
        device: str = "auto",
        dtype: str | None = None,
        max_context: int | None = None,
        threads: int = 1,
    ) -> None:
        use_threads(positive("threads", threads))
        if max_context is not None:
            whole_number("max_context", max_context, 2, 2**31)
        place = device_of(device)
        loaded, self._is_prepared = self._loaded(model, dtype)
        self._model = CausalModel(loaded, place, max_context)
        self._defaults = defaults_of(self._model.model.generation_config)
        if self._model.is_on_gpu:
            gpu.offload(self._model.model)
        self._model.warm_up()

    def _loaded(self, model: str | None, dtype: str | None) -> tuple[Loaded, bool]:
        """The model that is asked for; whether it is the one that was prepared."""
        there = self._prepared
        named = model or os.environ.get(MODEL_VARIABLE) or (str(there.folder) if there else "")
        if not named:
            raise ValueError(
                "no model: name a folder of transformers as 'model' in setup, or in the variable "
                f"{MODEL_VARIABLE}"
            )
        folder = _folder(named)
        if there is not None and there.folder == folder and there.is_as(dtype):
            return there, True
        return load(folder, dtype or os.environ.get(DTYPE_VARIABLE) or "auto"), False

    def _encoded(self, prompt: Any, messages: Any) -> list[int]:
        if (prompt is None) == (messages is None):
            what = "neither is" if prompt is None else "both are"
            raise ValueError(f"give a 'prompt' or 'messages', one of them: {what} there")
        if messages is not None:
            return self._model.encoded_messages(checked_messages(messages))
        if not isinstance(prompt, str):
            raise ValueError(f"the prompt must be text, not {type(prompt).__name__} {str(prompt)[:40]!r}")
        return self._model.encoded(prompt)


def _folder(model: Any) -> Path:
    """Raises ValueError for a folder that is not there, or has no model."""
    if not isinstance(model, str):
        raise ValueError(f"model is {str(model)[:40]!r}, it must be the path of a folder")
    path = Path(model).expanduser().resolve()
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}: a model is a local folder, none is downloaded")
    if not (path / "config.json").is_file():
        raise ValueError(f"{path} has no config.json: it is not the folder of a transformers model")
    return path
