"""What all kinds of models have in common, and which class runs which."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

WHAT = ("predictions", "probabilities", "outputs")


@dataclass(frozen=True, slots=True)
class Means:
    """What a model may use."""

    threads: int
    device: str | None
    """As torch names it; None: a GPU where there is one."""


class Model(Protocol):
    """A loaded model.  Its constructor raises RuntimeError or ValueError for what cannot be loaded."""

    batch_size: ClassVar[int | None]
    """How many samples go in at once unless a call says so; None: all."""

    def __init__(self, path: Path, means: Means) -> None: ...

    def describe(self) -> dict[str, Any]:
        """What the model takes and gives, as far as it says."""

    def answer(self, data: Any, what: str) -> dict[str, Any]:
        """One of `WHAT` for the samples in `data`.  Raises ValueError for data that do not fit."""


_CLASSES = {
    "onnx": "onnx_model:OnnxModel",
    "sklearn": "sklearn_model:SklearnModel",
    "torchscript": "torchscript_model:TorchScriptModel",
    "transformers": "transformers_model:TransformersModel",
}


def load(kind: str, path: Path, means: Means) -> Model:
    """Raises ImportError where the package for that kind is missing, and what the class raises."""
    module, _, name = _CLASSES[kind].partition(":")
    model: Model = getattr(importlib.import_module(f"warmd.apps.predict.{module}"), name)(path, means)
    return model
