"""A shell for tests: types commands at a daemon, in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from warmd.cli import main


class Shell:
    """Types commands; keeps what they say."""

    def __init__(self, address: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address, self._capsys = address, capsys
        self.code, self.out, self.err = 0, "", ""

    def __call__(self, *words: str) -> list[str]:
        """The lines on stdout."""
        self.code = main(["--host", self.address, *words])
        self.out, self.err = self._capsys.readouterr()
        return self.out.splitlines()

    def json(self, *words: str) -> list[Any]:
        """The objects on stdout."""
        return [json.loads(line) for line in self(*words, "--json")]
