"""A transformers model with its tokenizer, as a function from a batch of texts to an array.

The packages are imported with this module, so in the process that sessions are forked from: that costs
seconds.  Loading a model takes a fraction of one and is left to each session.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from warmd.apps.embeddings.folder import INSTALL, Recipe
from warmd.apps.extras import needed

# Read when huggingface_hub is imported: nothing is looked for in the network, whatever a folder lacks.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

numpy = needed("numpy", "embeddings", INSTALL)
torch = needed("torch", "embeddings", INSTALL)
transformers = needed("transformers", "embeddings", INSTALL)
# Most models of this kind are of BERT's family.  transformers would import its code with the first of them.
needed("transformers.models.auto.modeling_auto", "embeddings", INSTALL)
needed("transformers.models.bert.modeling_bert", "embeddings", INSTALL)
needed("transformers.models.bert.tokenization_bert", "embeddings", INSTALL)

DTYPES = ("float32", "bfloat16", "float16")
_NO_LIMIT = 1_000_000
"""Tokenizers without a limit name one that is larger than this."""


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
        self.device = _device(device)
        self._lowercase = recipe.lowercase
        self._tokenizer, self._model = _load(folder, getattr(torch, dtype))
        self._model.to(self.device)
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
        if self.pooling == "cls":
            return hidden[:, 0]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)

    def _checked(self, wanted: int | None, recommended: int | None) -> int:
        limits = (self._tokenizer.model_max_length, getattr(self._model.config, "max_position_embeddings", 0))
        most = min((limit for limit in limits if limit and limit < _NO_LIMIT), default=_NO_LIMIT)
        if wanted is not None and wanted > most:
            raise ValueError(f"max_tokens is {wanted}, the model takes at most {most}")
        return wanted or min(recommended or most, most)


def _device(wanted: str | None) -> Any:
    if wanted is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError):
        raise ValueError(f"the device is {str(wanted)[:40]!r}, allowed are 'cpu', 'cuda', 'cuda:1'") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"the device {wanted!r} cannot be used: torch {torch.__version__} finds no GPU")
    return device


def _load(folder: Path, dtype: Any) -> tuple[Any, Any]:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, loading = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=dtype, output_loading_info=True
        )
    except Exception as error:
        raise RuntimeError(f"transformers cannot load {folder}: {type(error).__name__}: {error}") from error
    # transformers invents weights that it does not find.  Only the pooler is not used here.
    if missing := [name for name in loading["missing_keys"] if not name.startswith("pooler.")]:
        raise RuntimeError(f"the weights in {folder} are not all there: {missing[0]} is missing")
    tokenizer.padding_side = "right"  # the first token is then each text's own
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval()
