"""Which models may run code when they are loaded: those in folders that the machine's owner names."""

from __future__ import annotations

import os
from pathlib import Path

TRUSTED_VARIABLE = "WARMD_TRUSTED_MODELS"


def folders_of(variable: str) -> list[Path]:
    """The folders in a variable of the environment, which has the form of PATH."""
    return [Path(part).expanduser() for part in os.environ.get(variable, "").split(os.pathsep) if part]


def is_trusted(path: Path) -> bool:
    """Whether it lies, all links followed, below a folder in the variable `WARMD_TRUSTED_MODELS`."""
    real = path.resolve()
    return any(real.is_relative_to(folder.resolve()) for folder in folders_of(TRUSTED_VARIABLE))
