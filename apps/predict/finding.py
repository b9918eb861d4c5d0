"""From a model's name to its file, its kind, and whether it may be loaded.

Some kinds of files run code of their authors when they are loaded: anything that is pickled, and TorchScript,
whose `__setstate__` can write files.  Those are loaded only when they are trusted.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from warmd.apps.options import did_you_mean
from warmd.apps.trust import TRUSTED_VARIABLE, is_trusted

SUFFIXES = {
    ".onnx": "onnx",
    ".joblib": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
}
KINDS = ("onnx", "sklearn", "torchscript", "transformers")
MODELS_VARIABLE = "WARMD_MODELS"
_RUN_CODE = {"sklearn": "is pickled", "torchscript": "is TorchScript"}


def find(model: str, folders: Sequence[Path]) -> Path:
    """The file or folder of a model that is named by its path, or as it is called in one of the folders.

    A name may lack its suffix.  Raises FileNotFoundError, which lists what there is, and ValueError where
    one folder has two models of that name.
    """
    if not isinstance(model, (str, os.PathLike)) or not str(model):
        raise TypeError(f"the model must be a name or a path, not {str(model)[:40]!r}")
    path = Path(model).expanduser()
    if path.is_absolute():
        if not path.exists():
            raise FileNotFoundError(f"there is no model {path}")
        return path
    for folder in folders:
        found = [one for suffix in ("", *SUFFIXES) if (one := folder / f"{model}{suffix}").exists()]
        if len(found) > 1 and found[0] != folder / path:
            names = " and ".join(one.name for one in found)
            raise ValueError(f"{folder} has {names}: name the model with its suffix")
        if found:
            return found[0]
    raise FileNotFoundError(_not_found(str(model), folders))


def names_in(folders: Sequence[Path]) -> list[str]:
    """What `find` would find, sorted."""
    return sorted({path.name for folder in folders for path in _children(folder) if _looks_like_model(path)})


def kind_of(path: Path) -> str:
    """Which of `KINDS` it is, by suffix and content.  Raises ValueError for none, OSError."""
    if path.is_dir():
        return _kind_of_folder(path)
    with open(path, "rb") as file:
        head = file.read(2)
    if not head:
        raise ValueError(f"{path} is empty")
    kind = SUFFIXES.get(path.suffix.lower())
    if zipfile.is_zipfile(path) and kind in (None, "torchscript"):
        return _kind_of_zip(path)
    if kind == "torchscript":
        raise ValueError(f"{path} is no TorchScript: it is not an archive as torch.jit.save writes it")
    if kind is None and head[0] == 0x80 and head[1] <= 5:
        return "sklearn"
    if kind is None:
        raise ValueError(
            f"{path} is of no kind that is known here ({', '.join(sorted(SUFFIXES))}, or a folder of a "
            f"transformers model): name one of {', '.join(KINDS)} as 'kind'"
        )
    return kind


def check_trust(path: Path, kind: str, trusted: bool) -> None:
    """Raises PermissionError for a file that can run code, unless it is trusted.

    Trusted is what was said to be, and what lies, all links followed, below a folder in the variable
    `WARMD_TRUSTED_MODELS`.
    """
    if kind not in _RUN_CODE or trusted is True or is_trusted(path):
        return
    raise PermissionError(
        f"{path} {_RUN_CODE[kind]}, which can run any code of its author's when it is loaded: if you know "
        f"where it is from, say trusted=True or have it below a folder in {TRUSTED_VARIABLE}"
    )


def _kind_of_folder(path: Path) -> str:
    if not (path / "config.json").is_file():
        raise ValueError(f"{path} has no config.json: it is not the folder of a transformers model")
    if not any(path.glob("*.safetensors")):
        raise ValueError(f"{path} has no *.safetensors: weights of other forms are not loaded")
    return "transformers"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if "data.pkl" in names:
        raise ValueError(f"{path} was written by torch.save: save the model with torch.jit.save, or as ONNX")
    raise ValueError(f"{path} is an archive of no kind that is known here")


def _not_found(model: str, folders: Sequence[Path]) -> str:
    if not folders:
        return (
            f"there is no model {model!r}, and no folder to look in: give an absolute path, "
            f"setup={{'models': FOLDER}}, or the variable {MODELS_VARIABLE}"
        )
    names = names_in(folders)
    return f"there is no model {model!r} in {', '.join(map(str, folders))}: {did_you_mean(model, names)}"


def _children(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError:  # a folder that is not there has no models
        return


def _looks_like_model(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or (path / "config.json").is_file()
