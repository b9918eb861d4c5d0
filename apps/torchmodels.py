"""What apps that run models on torch share: devices, and transformers models of local folders.

torch and transformers are arguments, so that this module costs nothing where they are not installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from warmd import gpu

_NO_LIMIT = 1_000_000
"""Tokenizers without a limit name one that is larger than this."""


def device_for(torch: Any, wanted: str | None) -> Any:
    """The device of that name; None or "auto": a GPU where there is one.

    Raises ValueError for a name that is none, RuntimeError where there is no such device.
    """
    if wanted in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError):
        allowed = "allowed are 'auto', 'cpu', 'cuda', 'cuda:1'"
        raise ValueError(f"the device is {str(wanted)[:40]!r}, {allowed}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"the device {wanted!r} cannot be used: torch {torch.__version__} finds no GPU")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise RuntimeError(f"the device {wanted!r} cannot be used: {there} GPUs are there, counted from 0")
    return device


def on_device(model: Any, device: Any) -> Any:
    """The model, there; from a GPU its weights can go to host memory while its session is idle."""
    moved = model.to(device)
    if device.type == "cuda":
        gpu.offload(moved)
    return moved


def load_folder(
    transformers: Any, auto: str, folder: Path, dtype: Any, *, optional: str, runs_code: bool = False
) -> tuple[Any, Any]:
    """The tokenizer and the model, by the `auto` class of transformers, ready for use and without network.

    Weights whose names begin with `optional` may be missing.  With `runs_code` the folder may have code of
    its own.  Raises RuntimeError for a folder that cannot be loaded.
    """
    alone = {"local_files_only": True, "trust_remote_code": runs_code}
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **alone)
        model, loading = getattr(transformers, auto).from_pretrained(
            folder, **alone, use_safetensors=True, dtype=dtype, output_loading_info=True
        )
    except Exception as error:
        raise RuntimeError(f"transformers cannot load {folder}: {type(error).__name__}: {error}") from error
    # transformers invents weights that it does not find.
    missing = [name for name in loading["missing_keys"] if not (optional and name.startswith(optional))]
    if missing:
        raise RuntimeError(f"the weights in {folder} are not all there: {missing[0]} is missing")
    tokenizer.padding_side = "right"  # the first token is then each text's own
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval()


def most_tokens(tokenizer: Any, model: Any) -> int:
    """How long a text may be, in tokens."""
    limits = (tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 0))
    return min((limit for limit in limits if limit and limit < _NO_LIMIT), default=_NO_LIMIT)


def mean_pooled(hidden: Any, mask: Any) -> Any:
    """The mean over each text's own tokens: of (texts, tokens, size) and (texts, tokens) (texts, size)."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
