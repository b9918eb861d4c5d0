"""The manifest of an app's folder, as far as the command line shows it; the daemon reads and checks it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

PLACES = {"app.toml": (), "pyproject.toml": ("tool", "warmd", "app"), "inf.yml": None}
"""Files in the order in which they count, and the table in each; None for one that is only named."""


def manifest_of(folder: str) -> dict[str, Any]:
    """`{"manifest": path, "settings": {...}}`; {} where there is none, and why it cannot be read as text.

    >>> manifest_of("/dev/null")
    {}
    """
    for name, table in PLACES.items():
        path = Path(folder).expanduser().absolute() / name
        if not path.is_file():
            continue
        if table is None:
            return {"manifest": str(path)}
        try:
            found: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return {"manifest": f"{path} cannot be read: {error}"}
        for key in table:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict):
            return {"manifest": str(path), "settings": found}
    return {}
