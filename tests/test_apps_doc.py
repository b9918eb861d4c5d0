"""docs/apps.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from warmd.daemon import manifest

TEXT = (Path(__file__).parents[1] / "docs" / "apps.md").read_text()


def test_all_keys_of_a_manifest_are_told() -> None:
    section = TEXT.split("## app.toml")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(manifest._KEYS)
