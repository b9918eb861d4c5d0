"""Golden transcripts, to be read: they show what the rules do, and notice when that changes.

After a change that is meant, rewrite them with `WARMD_UPDATE_TRANSCRIPTS=1 pytest
tests/core/test_transcripts.py`, and read the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.core.script import VERBS, played

FOLDER = Path(__file__).parent / "transcripts"
TRANSCRIPTS = sorted(FOLDER.glob("*.txt"))
UPDATE = os.environ.get("WARMD_UPDATE_TRANSCRIPTS") == "1"


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_rules_still_do_what_the_transcript_says(path: Path) -> None:
    text = path.read_text()
    now = played(text)
    if UPDATE and now != text:
        path.write_text(now)
        pytest.skip(f"{path.name} was rewritten: read the difference")
    assert now == text


def test_a_transcript_says_what_it_is_about() -> None:
    for path in TRANSCRIPTS:
        assert path.read_text().startswith("# "), path.name


def test_every_verb_is_used() -> None:
    used = {
        line.split()[1] for path in TRANSCRIPTS for line in path.read_text().splitlines() if line[:1] == ">"
    }
    assert used == set(VERBS)


def test_a_transcript_that_is_not_what_happens_is_noticed() -> None:
    text = (FOLDER / "session.txt").read_text()
    assert played(text.replace("invoke #2", "invoke #3", 1)) == text
