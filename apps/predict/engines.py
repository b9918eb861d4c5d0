"""The packages that run models, imported in the process that sessions are forked from.

Each of them may be missing: a model of that kind then says what to install.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

from warmd.apps.extras import needed

INSTALL = "pip install 'warmd[predict]'"
TRANSFORMERS_INSTALL = "pip install transformers"

# Else onnxruntime starts threads when it is imported, keeps a database in ~/.cache, and tells its makers of
# its use.  A process with such threads cannot be forked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Read when huggingface_hub is imported: nothing is looked for in the network, whatever a folder lacks.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Read when torch or sklearn is imported: threads that wait for each other sleep.  Else they spin, and where
# sessions share processors a call takes many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_IMPORTED_EARLY = (
    "joblib",
    "sklearn.ensemble",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "threadpoolctl",
    "onnxruntime",
    "torch",
)

numpy = needed("numpy", "predict", INSTALL)
for _name in _IMPORTED_EARLY:
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)


def engine(module: str) -> Any:
    """The module.  Raises ImportError with the command that installs it."""
    return needed(module, "predict", TRANSFORMERS_INSTALL if module == "transformers" else INSTALL)
