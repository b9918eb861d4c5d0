"""The packages that an app needs beyond warmd's own: imported by name, or named with their remedy."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str, app: str, install: str) -> Any:
    """The module.  Raises ImportError with the command that installs what is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"the app {app} needs {module} ({error}): {install}") from error
