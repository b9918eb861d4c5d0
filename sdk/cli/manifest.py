"""The manifest of an app's folder, as far as the command line shows it: `app.toml`, or `[tool.warmd]`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

MANIFEST = "app.toml"
PROJECT = "pyproject.toml"


def manifest_of(folder: str) -> dict[str, Any]:
    """`{"manifest": path, "settings": {...}}`; {} where there is none, and why it cannot be read as text.

    >>> manifest_of("/dev/null")
    {}
    """
    place = Path(folder).expanduser().absolute()
    for path in (place / MANIFEST, place / PROJECT):
        if not path.is_file():
            continue
        try:
            found: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return {"manifest": f"{path} cannot be read: {error}"}
        if path.name == PROJECT:
            tools = found.get("tool")
            found = tools.get("warmd") if isinstance(tools, dict) else None
            if not isinstance(found, dict):
                continue
        return {"manifest": str(path), "settings": found}
    return {}
