"""A folder in the form of Hugging Face as an engine: messages go through the model's chat template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from warmd import gpu
from warmd.apps.generation.options import Options
from warmd.apps.generation.parts import Part

INSTALL = "pip install 'warmd[chat-transformers]'"
try:
    from warmd.apps.generation.causal import CausalModel, device_of, load, use_threads
except ImportError as error:
    raise ImportError(f"a folder of transformers needs torch and transformers: {INSTALL}") from error

DEFAULT_CONTEXT = 4096


class TransformersEngine:
    """An `Engine`.  Raises RuntimeError for a folder that cannot be loaded, ValueError for settings."""

    def __init__(
        self, folder: Path, *, threads: int, context: int | None, device: str | None, dtype: str | None
    ) -> None:
        use_threads(threads)
        place = device_of(device)
        # Few CPUs are quick in the half formats that weights are stored in.
        loaded = load(folder, dtype or ("float32" if place.type == "cpu" else "auto"))
        if not loaded.tokenizer.chat_template:
            raise RuntimeError(f"the tokenizer in {folder} has no chat template: it is no model for a chat")
        self._model = CausalModel(loaded, place, context, DEFAULT_CONTEXT)
        if self._model.is_on_gpu:
            gpu.offload(self._model.model)
        self.context = self._model.context

    def stream(self, messages: Sequence[dict[str, str]], options: Options) -> Iterator[Part]:
        """See `Engine`."""
        yield from self._model.stream(self._model.encoded_messages(messages), options)

    def forget(self) -> None:
        """Free the cache: the next prompt is read as a whole."""
        self._model.forget()

    def facts(self) -> dict[str, Any]:
        return {
            "model": self._model.folder.name,
            "engine": "transformers",
            "device": str(self._model.device),
            "dtype": self._model.dtype,
        }

    def close(self) -> None:
        self._model.close()
