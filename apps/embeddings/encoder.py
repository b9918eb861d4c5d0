"""A transformers model with its tokenizer, as a function from a batch of texts to an array.

The packages are imported with this module, so in the process that sessions are forked from: that costs
seconds.  Loading a model takes a fraction of one and is left to each session.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from warmd.apps.embeddings.folder import INSTALL, Recipe
from warmd.apps.extras import needed
from warmd.apps.torchmodels import device_for, load_folder, mean_pooled, most_tokens, on_device

# Read when huggingface_hub is imported: nothing is looked for in the network, whatever a folder lacks.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Read when torch is imported: threads that wait for each other sleep.  Else they spin, and where sessions
# share processors a call takes many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

numpy = needed("numpy", "embeddings", INSTALL)
torch = needed("torch", "embeddings", INSTALL)
transformers = needed("transformers", "embeddings", INSTALL)
# Most models of this kind are of BERT's family.  transformers would import its code with the first of them.
needed("transformers.models.auto.modeling_auto", "embeddings", INSTALL)
needed("transformers.models.bert.modeling_bert", "embeddings", INSTALL)
needed("transformers.models.bert.tokenization_bert", "embeddings", INSTALL)
# A thousand regular expressions, which it would compile for the first model: half of the time to load it.
with contextlib.suppress(ImportError, AttributeError):
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("bert")

DTYPES = ("float32", "bfloat16", "float16")


class Encoded(NamedTuple):
    vectors: Any
    """float32, (texts, dimensions), in the memory of the CPU."""
    cut: list[int]
    """The positions of the texts that were longer than `max_tokens`."""


class Encoder:
    """Raises RuntimeError for a folder that transformers cannot load, ValueError for other arguments."""

    def __init__(
        self, folder: Path, recipe: Recipe, *, device: str | None, dtype: str, max_tokens: int | None
    ) -> None:
        self.folder = folder
        self.pooling = recipe.pooling
        self.device = device_for(torch, device)
        self._lowercase = recipe.lowercase
        # Of all weights only the pooler's are not used here.
        self._tokenizer, self._model = load_folder(
            transformers, "AutoModel", folder, getattr(torch, dtype), optional="pooler."
        )
        self._model = on_device(self._model, self.device)
        self.max_tokens = self._checked(max_tokens, recipe.max_tokens)
        # The first run of a model is slow.  It belongs to the start, which nobody counts as a warm call.
        self.dimensions = int(self.encode(["warm"]).vectors.shape[1])

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._model.parameters())

    def encode(self, texts: Sequence[str], *, normalize: bool = True) -> Encoded:
        """One vector a text, all in one batch; what is longer than `max_tokens` is cut."""
        tokens = self._tokenizer(
            [text.lower() for text in texts] if self._lowercase else list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        cut = [at for at, one in enumerate(tokens.encodings or ()) if one.overflowing]
        tokens = tokens.to(self.device)
        with torch.inference_mode():
            hidden = self._model(**tokens).last_hidden_state.float()
            vectors = self._pooled(hidden, tokens["attention_mask"])
            if normalize:
                vectors = torch.nn.functional.normalize(vectors, dim=1)
        return Encoded(vectors.cpu().numpy(), cut)

    def _pooled(self, hidden: Any, mask: Any) -> Any:
        return hidden[:, 0] if self.pooling == "cls" else mean_pooled(hidden, mask)

    def _checked(self, wanted: int | None, recommended: int | None) -> int:
        most = most_tokens(self._tokenizer, self._model)
        if wanted is not None and wanted > most:
            raise ValueError(f"max_tokens is {wanted}, the model takes at most {most}")
        return wanted or min(recommended or most, most)
