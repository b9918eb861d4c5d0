"""What a check of `warmd doctor` is given, and what it says."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from warmd.protocol import places

Level = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` is a sentence; of what is not well it ends with the remedy."""

    level: Level
    check: str
    text: str


@dataclass(frozen=True, slots=True)
class Host:
    """Where to look.  Tests put other places and values here."""

    address: str | None = None
    """That of --host or WARMD_HOST."""
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: Path = Path("/")
    python: tuple[int, ...] = sys.version_info[:3]
    cwd: Path = field(default_factory=Path.cwd)

    @property
    def run_dir(self) -> Path:
        if self.address is not None and not self.address.startswith("tcp:"):
            return places.path_of(self.address).parent
        return places.default_run_dir(self.environ)

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    def read(self, path: str) -> str:
        """A file below the root; empty where it cannot be read."""
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError:
            return ""


Check = Callable[[Host], Iterable[tuple[Level, str]]]


def examined(host: Host, checks: Mapping[str, Check]) -> list[Finding]:
    """All that the checks find.  One that fails says so, and the others go on."""
    findings = []
    for name, check in checks.items():
        try:
            findings += [Finding(level, name, text) for level, text in check(host)]
        except Exception as error:
            text = f"this could not be examined: {type(error).__name__}: {error}"
            findings.append(Finding("warn", name, " ".join(text.split())))
    return findings
